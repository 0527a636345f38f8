"""The parts of a `multipart/form-data` body. Source: RFC 7578; parsed by python-multipart."""

from dataclasses import dataclass
from typing import Any

from loader.status import Code, ServingError


@dataclass(frozen=True, slots=True)
class Part:
    """One part.

    Attributes:
        name: of the form's field.
        content_type: in small letters, without parameters; empty where the part has none.
        is_file: whether the part names a file.
        content: its bytes.
    """

    name: str
    content_type: str
    is_file: bool
    content: bytes


def read_parts(body: bytes, content_type: bytes, limit: int) -> list[Part]:
    """The parts of `body` in their order.

    Raises:
        ServingError: INVALID_ARGUMENT for a body that is not multipart, is cut off, or has more than `limit` parts.
    """
    # Imported here: only a form pays for it.
    from python_multipart.exceptions import FormParserError  # noqa: PLC0415
    from python_multipart.multipart import MultipartParser, parse_options_header  # noqa: PLC0415

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise ServingError(Code.INVALID_ARGUMENT, "multipart/form-data: the Content-Type has no boundary")
    parts: list[Part] = []
    headers: dict[bytes, bytes] = {}
    name, value, content = bytearray(), bytearray(), bytearray()
    ended = False

    def header_end() -> None:
        headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def part_begin() -> None:
        if len(parts) >= limit:
            raise ServingError(Code.INVALID_ARGUMENT, f"multipart/form-data: more than {limit} parts")
        headers.clear()
        content.clear()

    def part_end() -> None:
        disposition = parse_options_header(headers.get(b"content-disposition", b""))[1]
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        parts.append(
            Part(
                disposition.get(b"name", b"").decode("utf-8", "replace"),
                kind.decode("latin-1"),
                b"filename" in disposition,
                bytes(content),
            )
        )

    def end() -> None:
        nonlocal ended
        ended = True

    callbacks: Any = {
        "on_part_begin": part_begin,
        "on_header_field": lambda data, start, stop: name.extend(data[start:stop]),
        "on_header_value": lambda data, start, stop: value.extend(data[start:stop]),
        "on_header_end": header_end,
        "on_part_data": lambda data, start, stop: content.extend(data[start:stop]),
        "on_part_end": part_end,
        "on_end": end,
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"multipart/form-data: {error}") from None
    if not ended:
        raise ServingError(Code.INVALID_ARGUMENT, "multipart/form-data: the body ends before its last boundary")
    return parts

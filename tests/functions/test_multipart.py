"""multipart/form-data bodies."""

import pytest

from functions.rest.multipart import read_parts
from loader.status import ServingError

TYPE = b'multipart/form-data; boundary="xx"'
BODY = (
    b'--xx\r\nContent-Disposition: form-data; name="a"; filename="a.png"\r\n'
    b"Content-Type: Image/PNG\r\n\r\n\x00\r\n1\r\n"
    b'--xx\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n3\r\n--xx--\r\n'
)


def test_parts_keep_name_type_and_bytes() -> None:
    first, second = read_parts(BODY, TYPE, 10)
    assert (first.name, first.content_type, first.is_file, first.content) == ("a", "image/png", True, b"\x00\r\n1")
    assert (second.name, second.is_file, second.content) == ("top_k", False, b"3")


@pytest.mark.parametrize(
    ("body", "content_type", "limit", "why"),
    [
        (BODY, b"multipart/form-data", 10, "no boundary"),
        (BODY[:-20], TYPE, 10, "ends before"),
        (b"", TYPE, 10, "ends before"),
        (b"hello", TYPE, 10, "multipart/form-data"),
        (BODY, TYPE, 1, "more than 1 parts"),
    ],
)
def test_a_bad_form_is_refused_with_the_reason(body: bytes, content_type: bytes, limit: int, why: str) -> None:
    with pytest.raises(ServingError, match=why):
        read_parts(body, content_type, limit)

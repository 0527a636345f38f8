"""The status answer in JSON, byte for byte as the stock server prints it.

Source: protobuf's JSON printer with `add_whitespace`, `preserve_proto_field_names` and defaults printed, on
`GetModelStatusResponse` (tensorflow_serving/apis/get_model_status.proto); `version` is an int64, hence a string.
"""

from collections.abc import Mapping, Sequence

from functions.web.message import json_string
from loader.servable import VersionStatus


def encode_status(statuses: Sequence[VersionStatus]) -> bytes:
    """`{"model_version_status": [...]}` with the highest version first, one space of indent, and a last newline."""
    return b'{\n "model_version_status": ' + _versions(statuses, 1) + b"\n}\n"


def encode_models(models: Mapping[str, Sequence[VersionStatus]]) -> bytes:
    """`{"models": [{"name": ..., "model_version_status": [...]}]}` by name; the stock server has no such answer."""
    entries = [
        b'  {\n   "name": ' + json_string(name) + b',\n   "model_version_status": ' + _versions(statuses, 3) + b"\n  }"
        for name, statuses in sorted(models.items())
    ]
    listed = b"[\n" + b",\n".join(entries) + b"\n ]" if entries else b"[]"
    return b'{\n "models": ' + listed + b"\n}\n"


def _versions(statuses: Sequence[VersionStatus], indent: int) -> bytes:
    if not statuses:
        return b"[]"
    outer, middle, inner = (b" " * (indent + i) for i in (1, 2, 3))
    entries = []
    for status in sorted(statuses, key=lambda one: one.version, reverse=True):
        code = status.error.code.name if status.error else "OK"
        message = status.error.message if status.error else ""
        entries.append(
            outer
            + b"{\n"
            + middle
            + b'"version": "%d",\n' % status.version
            + middle
            + b'"state": "%s",\n' % status.state.name.encode()
            + middle
            + b'"status": {\n'
            + inner
            + b'"error_code": "%s",\n' % code.encode()
            + inner
            + b'"error_message": '
            + _proto_string(message)
            + b"\n"
            + middle
            + b"}\n"
            + outer
            + b"}"
        )
    return b"[\n" + b",\n".join(entries) + b"\n" + b" " * indent + b"]"


def _proto_string(text: str) -> bytes:
    # protobuf also escapes the angle brackets, so that its JSON may stand inside HTML
    return json_string(text).replace(b"<", b"\\u003c").replace(b">", b"\\u003e")

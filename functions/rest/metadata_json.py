"""The metadata answer in JSON, as the stock server prints it.

Source: tensorflow_serving/model_servers/http_rest_api_handler.cc, `ProcessModelMetadataRequest`: the two parts are
printed by protobuf's JSON printer (defaults shown, field names kept) and joined by hand, hence the layout.
"""

import json
from collections.abc import Mapping
from typing import Any

from functions.web.message import json_string


def encode_metadata(name: str, version: int, signatures: Mapping[str, Any]) -> bytes:
    """`model_spec` and all `signatures` (name to `SignatureDef`) of one version.

    The signatures stand in the order of their names; the stock server's order is that of its hash table.
    """
    from google.protobuf import json_format  # noqa: PLC0415  milliseconds that no prediction needs

    definitions = {}
    for key in sorted(signatures):
        printed = json_format.MessageToDict(
            signatures[key], preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        definitions[key] = _in_field_order(printed, signatures[key])
    text = json.dumps({"signature_def": definitions}, indent=1, ensure_ascii=False)
    return (
        b'{\n"model_spec":{\n "name": '
        + json_string(name)
        + b',\n "version": "%d",\n "signature_name": ""\n}\n,\n"metadata": {"signature_def": ' % version
        + text.replace("<", "\\u003c").replace(">", "\\u003e").encode()
        + b"\n}\n}\n"
    )


def _in_field_order(printed: dict[str, Any], message: Any) -> dict[str, Any]:
    """`printed` with its keys in the order of the fields' numbers; Python's printer puts the unset ones last."""
    ordered: dict[str, Any] = {}
    for field in sorted(message.DESCRIPTOR.fields, key=lambda one: int(one.number)):
        if field.name not in printed:
            continue
        value = printed[field.name]
        if isinstance(value, dict) and field.message_type.GetOptions().map_entry:
            children = getattr(message, field.name)
            value = {key: _in_field_order(value[key], children[key]) for key in sorted(value)}
        elif isinstance(value, dict):
            value = _in_field_order(value, getattr(message, field.name))
        elif isinstance(value, list) and field.message_type is not None:
            value = [_in_field_order(*pair) for pair in zip(value, getattr(message, field.name), strict=True)]
        ordered[field.name] = value
    return ordered

"""Base64 as the stock server reads it: the standard alphabet, blanks ignored, padding optional but right if given.

Source: absl `Base64Unescape` (absl/strings/escaping.h); row A2.13 of the project's reference.
"""

import binascii
from typing import Any

KEY = "b64"

_BLANKS = b" \t\n\v\f\r"


def is_base64(value: Any) -> bool:
    """Whether a JSON value is `{"b64": "..."}`: exactly that one key, and a string."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(KEY), str)


def decode_base64(text: str) -> bytes | None:
    """The bytes that `text` stands for; None where it is not base64."""
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        return None
    if len(raw) % 4 == 0:
        # Almost all there is comes this way, a picture of megabytes too.
        try:
            return binascii.a2b_base64(raw, strict_mode=True)
        except binascii.Error:
            pass
    raw = raw.translate(None, _BLANKS)
    # "." stands for "=" as padding; nowhere else.
    content = raw.rstrip(b"=.")
    padding, wanted = len(raw) - len(content), -len(content) % 4
    if wanted == 3 or padding not in (0, wanted):
        return None
    try:
        return binascii.a2b_base64(content + b"=" * wanted, strict_mode=True)
    except binascii.Error:
        return None

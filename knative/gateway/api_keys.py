"""The keys of clients, as the file that Envoy reads and watches: pure.

The file is the configuration of one filter, as discovery of extensions gives it: the Secret that holds it is mounted,
the kubelet swaps the folder when the Secret changes, and Envoy takes the new keys without a restart. A file that Envoy
does not understand changes nothing; without any file nobody is let in.

Source: docs of Envoy's api_key_auth, extension_config discovery by path_config_source.
"""

import hmac
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from knative.error import DeployError
from knative.gateway.limits import CLIENT_HEADER
from knative.gateway.settings import checked_client

FILTER = "zeroserve.keys"
KEY_HEADER = "x-api-key"
FOLDER = "/etc/zeroserve/keys"
FILE = "keys.json"
"""In that folder, and the key of the Secret."""

KEY_BYTES = 32
MIN_KEY = 16
MAX_KEYS = 4096
"""Of a Secret, which holds 1 MiB."""

_TYPE = "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth"
_KEY = re.compile(rf"[\x21-\x7e]{{{MIN_KEY},256}}")


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(KEY_BYTES)


def keys_text(keys: Mapping[str, str]) -> str:
    """The file with these keys.

    Args:
        keys: key -> client.

    Raises:
        DeployError: a key that is too short, or a client that cannot be called so.
    """
    if len(keys) > MAX_KEYS:
        raise DeployError(f"{len(keys)} keys: wanted {MAX_KEYS} at most")
    for key, client in keys.items():
        checked_client(client)
        if not _KEY.fullmatch(key):
            raise DeployError(f"the key of {client}: wanted {MIN_KEY} to 256 printable characters without spaces")
    config = {
        "@type": _TYPE,
        "credentials": [{"key": key, "client": client} for key, client in keys.items()],
        # Where tokens are taken too, this filter sees no request without the first header (`knative.gateway.who`).
        "key_sources": [{"header": KEY_HEADER}, {"header": "authorization"}],
        "forwarding": {"header": CLIENT_HEADER, "hide_credentials": True},
    }
    content: dict[str, Any] = {
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
                "name": FILTER,
                "typed_config": config,
            }
        ]
    }
    return json.dumps(content, indent=1)


def parse_keys(text: str) -> dict[str, str]:
    """Key -> client of a file that `keys_text` wrote.

    Raises:
        DeployError: it is another file.
    """
    try:
        rows = json.loads(text)["resources"][0]["typed_config"].get("credentials", [])
        return {str(row["key"]): str(row["client"]) for row in rows}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise DeployError(f"the Secret's {FILE} is not what zeroserve gateway writes: delete the Secret") from None


def with_key(keys: Mapping[str, str], client: str, key: str) -> dict[str, str]:
    """The keys and one more; a client may have several, which is how one is changed without a gap.

    Raises:
        DeployError: somebody has that key already.
    """
    for other, owner in keys.items():
        if hmac.compare_digest(other, key) and owner != client:
            raise DeployError(f"{owner} has that key already")
    return {**keys, key: checked_client(client)}


def without_client(keys: Mapping[str, str], client: str, *, keep: str = "") -> dict[str, str]:
    """The keys without those of a client, but for one that is kept.

    Raises:
        DeployError: the client has none.
    """
    left = {key: owner for key, owner in keys.items() if owner != client or key == keep}
    if len(left) == len(keys) and not keep:
        raise DeployError(f"client {client!r} has no key")
    return left

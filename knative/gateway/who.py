"""Who calls: the filters that take a key or a token, and refuse all else before anything of a request is read. Pure.

Source: docs of Envoy's api_key_auth and jwt_authn, RFC 8725 (asymmetric keys alone come in a public JWKS).
"""

from typing import Any
from urllib.parse import urlsplit

from knative.gateway.api_keys import FILE, FILTER, KEY_HEADER
from knative.gateway.limits import CLIENT_HEADER
from knative.gateway.settings import Gateway, Jwt

JWKS_CLUSTER = "token_keys"
SKEW_SECONDS = 30
KEYS_SECONDS = "300s"
"""How long an issuer's keys are kept before they are asked for again."""

_TYPE = "type.googleapis.com/envoy.extensions.filters.http"
_HAS_KEY = {"name": KEY_HEADER, "present_match": True}


def authentication(gateway: Gateway, keys_folder: str) -> list[dict[str, Any]]:
    """The filters that tell who calls: none where anybody may."""
    filters = []
    if gateway.jwt is not None:
        filters.append(_tokens(gateway.jwt, or_key=gateway.keys))
    if gateway.keys:
        filters.append(_keys(keys_folder))
    return filters


def routes_matches(gateway: Gateway) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What routes match, with the filters' settings there: with keys and tokens, a request without a key needs a token.

    The same header decides it here and in the filter of tokens, so that one of the two always asks.
    """
    if not (gateway.keys and gateway.jwt):
        return [({"prefix": "/"}, {})]
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    return [({"prefix": "/", "headers": [_HAS_KEY]}, {}), ({"prefix": "/"}, {FILTER: off})]


def _keys(folder: str) -> dict[str, Any]:
    return {
        "name": FILTER,
        "config_discovery": {
            "config_source": {
                "path_config_source": {"path": f"{folder}/{FILE}", "watched_directory": {"path": folder}},
                "resource_api_version": "V3",
            },
            "type_urls": [f"{_TYPE}.api_key_auth.v3.ApiKeyAuth"],
        },
    }


def _tokens(jwt: Jwt, *, or_key: bool) -> dict[str, Any]:
    provider: dict[str, Any] = {
        "issuer": jwt.issuer,
        "audiences": list(jwt.audiences),
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "forward": False,
        "require_expiration": True,
        "clock_skew_seconds": SKEW_SECONDS,
        "claim_to_headers": [{"header_name": CLIENT_HEADER, "claim_name": jwt.claim}],
    }
    if jwt.keys:
        provider["local_jwks"] = {"inline_string": jwt.keys}
    else:
        provider["remote_jwks"] = {
            "http_uri": {"uri": jwt.keys_url, "cluster": JWKS_CLUSTER, "timeout": "5s"},
            "cache_duration": KEYS_SECONDS,
            "async_fetch": {"fast_listener": True},
        }
    rules: list[dict[str, Any]] = [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}]
    if or_key:
        rules.insert(0, {"match": {"prefix": "/", "headers": [_HAS_KEY]}})
    config = {"@type": f"{_TYPE}.jwt_authn.v3.JwtAuthentication", "providers": {"issuer": provider}, "rules": rules}
    return {"name": "zeroserve.tokens", "typed_config": config}


def jwks_address(jwt: Jwt) -> tuple[str, int, bool]:
    """Host, port, and whether it speaks TLS, of where the issuer's keys are."""
    parts = urlsplit(jwt.keys_url)
    tls = parts.scheme == "https"
    return parts.hostname or "", parts.port or (443 if tls else 80), tls

"""What the gateway answers itself: to browsers that ask who may call, and to whom it refuses. Pure.

Source: docs of Envoy (cors filter, local reply modification).
"""

from typing import Any

from knative.gateway.api_keys import KEY_HEADER
from knative.gateway.process import TYPES
from knative.gateway.settings import Gateway


def cors(gateway: Gateway) -> dict[str, Any]:
    """The policy for the origins that may call; it is asked before anybody's key is."""
    origins = []
    for origin in gateway.cors_origins:
        pattern = r"[A-Za-z0-9:/.-]+" if origin == "*" else origin.replace(".", r"\.").replace("*", "[A-Za-z0-9-]+")
        origins.append({"safe_regex": {"regex": pattern}} if "*" in origin else {"exact": origin})
    return {
        "@type": f"{TYPES}.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": origins,
        "allow_methods": "GET, POST, OPTIONS",
        "allow_headers": f"content-type, content-encoding, authorization, {KEY_HEADER}, x-request-id, traceparent, "
        "inference-header-content-length",
        "expose_headers": "retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, server-timing, "
        "x-request-id, inference-header-content-length",
        "max_age": "600",
    }


def local_replies() -> dict[str, Any]:
    """What the gateway says itself looks like what TensorFlow Serving says; gRPC has its own way."""
    grpc = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    other = {**grpc, "invert_match": True, "treat_missing_header_as_empty": True}
    rest = {"header_filter": {"header": other}}
    limited = {"status_code_filter": {"comparison": {"op": "EQ", "value": {"default_value": 429, "runtime_key": "-"}}}}
    unknown = {"response_flag_filter": {"flags": ["DF"]}}
    not_found = [{"header": {"key": "grpc-status", "value": "5"}}]
    lost = {"inline_string": "no model of that name is deployed here: its service is not in DNS"}
    many = {"inline_string": "too many requests: x-ratelimit-limit says how many there may be"}
    text = {"json_format": {"error": "%LOCAL_REPLY_BODY%", "reason": "%RESPONSE_CODE_DETAILS%"}}

    def of(*filters: dict[str, Any]) -> dict[str, Any]:
        return {"and_filter": {"filters": [*filters, rest]}}

    return {
        "mappers": [
            {"filter": of(unknown), "status_code": 404, "body": lost, "body_format_override": text},
            {"filter": unknown, "status_code": 404, "body": lost, "headers_to_add": not_found},
            {"filter": of(limited), "body": many, "body_format_override": text},
            {"filter": rest, "body_format_override": text},
        ]
    }

"""The page at `/`: models, versions, states, labels, signatures, and a form that tries a prediction.

One file without a build step or anything from elsewhere. The page's own style and script are allowed by their hashes,
so that nothing that a model's name or an error text might smuggle in can run.

Source: W3C Content Security Policy Level 3, hash sources.
"""

import base64
import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from functions.catalog import ModelEntry, read_catalog
from functions.web.message import JSON_HEADERS, Header, Request, Response, json_error
from loader import dtypes
from loader.manager import ServableManager
from loader.signature import TensorSpec

PAGE_FILE = Path(__file__).with_name("page.html")
_INLINE = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Page:
    body: bytes
    headers: tuple[Header, ...]


@functools.cache
def _page() -> _Page:
    body = PAGE_FILE.read_bytes()
    hashes: dict[bytes, bytes] = {}
    for kind, content in _INLINE.findall(body):
        hashes[kind] = b"'sha256-%b'" % base64.b64encode(hashlib.sha256(content).digest())
    policy = b"; ".join(
        (
            b"default-src 'none'",
            b"script-src " + hashes[b"script"],
            b"style-src " + hashes[b"style"],
            b"img-src data:",
            b"connect-src 'self'",
            b"base-uri 'none'",
            b"form-action 'none'",
            b"frame-ancestors 'none'",
        )
    )
    return _Page(
        body,
        (
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", policy),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-cache"),
        ),
    )


class PageDoor:
    """Answers `GET /` and `GET /page.json`, the data that the page shows."""

    def __init__(self, manager: ServableManager) -> None:
        self._manager = manager

    async def handle(self, request: Request) -> Response:
        """The page; a path below it that is not the page's is 404."""
        if request.path not in ("/", "", "/page.json"):
            return json_error(404, f"no such path: {request.path}")
        if request.method not in ("GET", "HEAD"):
            return json_error(405, f"{request.method} {request.path}: wanted GET")
        if request.path == "/page.json":
            models = [_model(entry) for entry in read_catalog(self._manager)]
            return Response(200, JSON_HEADERS, json.dumps({"models": models}, separators=(",", ":")).encode())
        page = _page()
        return Response(200, page.headers, page.body)


def _model(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "versions": [
            {
                # as text: JavaScript's numbers end at 2**53
                "version": str(version.version),
                "state": version.state,
                "problem": version.problem,
                "labels": version.labels,
                "signatures": [
                    {
                        "name": name,
                        "method": signature.method_name,
                        "inputs": [_tensor(spec) for _, spec in sorted(signature.inputs.items())],
                        "outputs": [_tensor(spec) for _, spec in sorted(signature.outputs.items())],
                    }
                    for name, signature in sorted(version.signatures.items())
                ],
            }
            for version in entry.versions
        ],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.alias, "dtype": dtypes.of_number(spec.dtype).name, "shape": spec.shape}

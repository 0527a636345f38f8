"""Speaks the protocol of the standard rate-limit service."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

SHOULD_RATE_LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
PASS, OVER = b"\x08\x01", b"\x08\x02"
"""RateLimitResponse.overall_code, as the protocol of the rate-limit service has it."""


@contextlib.contextmanager
def limit_service(passes: int, fails: int = 0) -> Iterator[tuple[str, list[bytes]]]:
    """A service that refuses the first `fails` questions, and lets all but what comes after `passes` pass."""
    asked: list[bytes] = []

    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        asked.append(message)
        if len(asked) <= fails:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return PASS if len(asked) <= passes else OVER

    method = grpc.unary_unary_rpc_method_handler(answer)
    service, _, name = SHOULD_RATE_LIMIT[1:].partition("/")
    with ThreadPoolExecutor(1) as pool:
        listening = grpc.server(pool)
        listening.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: method}),))
        port = listening.add_insecure_port("127.0.0.1:0")
        listening.start()
        try:
            yield f"127.0.0.1:{port}", asked
        finally:
            listening.stop(None).wait()

"""The words of `zeroserve gateway`, read into what is wanted."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from knative.error import DeployError
from knative.gateway.manifests import IMAGE, MEMORY_MIB, SERVICE_TYPES, Installation
from knative.gateway.settings import DEFAULT_BODY_BYTES, DEFAULT_SECONDS, Gateway, Jwt, parse_limit

MAX_JWKS_BYTES = 1 << 16


def add_gateway(parser: argparse.ArgumentParser) -> None:
    """What the entry lets through, and where to."""
    who = parser.add_argument_group("who may call")
    who.add_argument("--open", action="store_true", help="nobody needs a key")
    who.add_argument("--jwt-issuer", default="", metavar="ISS", help="takes this issuer's tokens; beside keys")
    who.add_argument("--jwt-audience", action="append", default=[], metavar="AUD", help="may be repeated")
    who.add_argument("--jwks", default="", metavar="URL|FILE", help="the issuer's keys")
    who.add_argument("--jwt-claim", default="sub", metavar="NAME", help="says who the client is (%(default)s)")
    who.add_argument("--tokens-only", action="store_true", help="no keys: tokens alone")
    who.add_argument("--cors", action="append", default=[], metavar="ORIGIN", help="may be repeated; * in it is a part")
    who.add_argument("--trusted-hops", type=int, default=0, metavar="N", help="proxies whose x-forwarded-for holds")
    much = parser.add_argument_group("how much")
    much.add_argument(
        "--client-limit",
        action="append",
        default=[],
        metavar="[CLIENT=]N/s|m|h|d",
        help="of each client, or of this one; several windows hold together: 10/s and, as a quota, 5000/d",
    )
    much.add_argument("--model-limit", action="append", default=[], metavar="[MODEL=]N/s|m|h|d", help="as well")
    much.add_argument("--rate-limit-service", default="", metavar="HOST:PORT", help="counts over all replicas")
    much.add_argument("--rate-limit-required", action="store_true", help="refuse while that service does not answer")
    much.add_argument("--max-body", type=int, default=DEFAULT_BODY_BYTES, metavar="BYTES", help="(%(default)s)")
    much.add_argument("--timeout", type=int, default=DEFAULT_SECONDS, metavar="SECONDS", help="(%(default)s)")
    much.add_argument("--retries", type=int, default=2, metavar="N", help="of connections that fail (%(default)s)")
    much.add_argument("--ejection", type=int, default=10, metavar="SECONDS", help="0 for never (%(default)s)")
    where = parser.add_argument_group("where to")
    where.add_argument("--only", action="append", default=[], metavar="MODEL", help="default: all of the namespace")
    where.add_argument(
        "--backend", action="append", default=[], metavar="MODEL=HOST:PORT", help="where that is no Knative service"
    )
    seen = parser.add_argument_group("what is seen")
    seen.add_argument(
        "--traces", default="", metavar="URL", help="collector of OpenTelemetry spans, over OTLP/HTTP: http://HOST:4318"
    )
    seen.add_argument(
        "--trace-percent",
        type=float,
        default=100.0,
        metavar="N",
        help="of requests whose callers do not say (%(default)g)",
    )
    where.add_argument("--cluster-domain", default="cluster.local", metavar="NAME", help="(%(default)s)")


def add_installation(parser: argparse.ArgumentParser) -> None:
    """How it runs on a cluster."""
    group = parser.add_argument_group("how it runs")
    group.add_argument("--image", default=IMAGE, help="(%(default)s)")
    group.add_argument("--replicas", type=int, default=1, help="each counts limits for itself (%(default)s)")
    group.add_argument("--service-type", default=SERVICE_TYPES[0], metavar="TYPE", help="(%(default)s)")
    group.add_argument("--cpu", default="100m", help="(%(default)s)")
    group.add_argument("--memory", type=int, default=MEMORY_MIB, metavar="MIB", help="(%(default)s)")
    group.add_argument("--threads", type=int, default=2, help="(%(default)s)")


def gateway(asked: argparse.Namespace, namespace: str) -> Gateway:
    """What the words of `add_gateway` want.

    Raises:
        DeployError: they make no sense.
    """
    jwt = _jwt(asked)
    if asked.open and jwt is not None:
        raise DeployError("--open goes with no --jwt-issuer: either anybody may call, or those with a token")
    if asked.tokens_only and jwt is None:
        raise DeployError("--tokens-only needs --jwt-issuer and --jwks")
    return Gateway(
        namespace=namespace,
        keys=not (asked.open or asked.tokens_only),
        jwt=jwt,
        models=tuple(asked.only),
        backends=_backends(asked.backend),
        client_limits=tuple(map(parse_limit, asked.client_limit)),
        model_limits=tuple(map(parse_limit, asked.model_limit)),
        rate_limit_service=asked.rate_limit_service,
        rate_limit_required=asked.rate_limit_required,
        cors_origins=tuple(asked.cors),
        max_body_bytes=asked.max_body,
        timeout_seconds=asked.timeout,
        retries=asked.retries,
        ejection_seconds=asked.ejection,
        trusted_hops=asked.trusted_hops,
        cluster_domain=asked.cluster_domain,
        traces=asked.traces,
        trace_percent=asked.trace_percent,
    )


def installation(asked: argparse.Namespace) -> Installation:
    """What the words of `add_installation` want."""
    return Installation(
        image=asked.image,
        replicas=asked.replicas,
        service_type=asked.service_type,
        cpu=asked.cpu,
        memory_mib=asked.memory,
        threads=asked.threads,
    )


def _jwt(asked: argparse.Namespace) -> Jwt | None:
    if not asked.jwt_issuer:
        if asked.jwks or asked.jwt_audience:
            raise DeployError("--jwks and --jwt-audience need --jwt-issuer")
        return None
    is_url = asked.jwks.startswith(("http://", "https://"))
    keys = "" if is_url or not asked.jwks else _text(Path(asked.jwks))
    url = asked.jwks if is_url else ""
    return Jwt(asked.jwt_issuer, tuple(asked.jwt_audience), url, keys, asked.jwt_claim)


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_JWKS_BYTES:
            raise DeployError(f"--jwks={file}: more than {MAX_JWKS_BYTES} bytes are no JWKS")
        return file.read_text()
    except (OSError, UnicodeError) as error:
        raise DeployError(f"--jwks={file}: {error}") from None


def _backends(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        model, equals, address = word.partition("=")
        if not equals:
            raise DeployError(f"--backend {word!r}: wanted MODEL=HOST:PORT")
        found[model] = address
    return found

"""One port, several protocols: clear text and TLS."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import trustme

from functions.rpc.asgi import GrpcApplication
from functions.web.server import tls_context
from functions.web.service import HttpLimits
from tests.functions.http_running import Running, read_answer, read_to_end, running


class Certificates(NamedTuple):
    """PEM texts: an authority, and a key and certificate that it has signed for 127.0.0.1."""

    authority: str
    key: str
    certificate: str


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    return Certificates(
        *(pem.bytes().decode() for pem in (authority.cert_pem, own.private_key_pem, own.cert_chain_pems[0]))
    )


async def rest(scope: Any, receive: Any, send: Any) -> None:
    """Says which protocol it was asked over."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{scope['scheme']} {scope['http_version']}".encode()})


async def _shout(request: bytes, context: Any) -> bytes:
    return request.upper()


_grpc = GrpcApplication()
_grpc.add_generic_rpc_handlers(
    (grpc.method_handlers_generic_handler("test.Service", {"shout": grpc.unary_unary_rpc_method_handler(_shout)}),)
)


async def both(scope: Any, receive: Any, send: Any) -> None:
    """gRPC and the rest behind one port."""
    is_grpc = dict(scope["headers"]).get(b"content-type") == b"application/grpc"
    await (_grpc if is_grpc else rest)(scope, receive, send)


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Iterator[Running]:
    with running(both, tls=tls_context(certificates.key, certificates.certificate)) as found:
        yield found


def shout(channel: grpc.Channel) -> bytes:
    return channel.unary_unary("/test.Service/shout")(b"hello", timeout=10, wait_for_ready=True)


def curl(*words: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("no curl: install curl")
    return subprocess.run(["curl", "-s", "-S", *words], capture_output=True, text=True, check=True, timeout=20).stdout


def test_one_port_speaks_http_1_http_2_and_grpc() -> None:
    with running(both) as server:
        url = f"http://{server.address}/"
        assert curl("--http1.1", "-d", "x", url) == "http 1.1"
        assert curl("--http2-prior-knowledge", "-d", "x", url) == "http 2"
        assert curl("--http2-prior-knowledge", url) == "http 2"
        with grpc.insecure_channel(server.address) as channel:
            assert shout(channel) == b"HELLO"


def test_a_preface_that_comes_in_pieces_is_understood() -> None:
    with running(both) as server, server.connect() as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
            stream.sendall(bytes((byte,)))
        stream.sendall(b"\0\0\0\x04\0\0\0\0\0")
        assert stream.recv(9)[3] == 4  # SETTINGS


def test_a_method_that_begins_like_the_preface_is_http_1() -> None:
    with running(both) as server, server.connect() as stream:
        stream.sendall(b"P")
        stream.sendall(b"UT / HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n")
        assert read_answer(stream)[2] == b"http 1.1"


def test_a_connection_that_says_nothing_is_closed() -> None:
    with running(both, HttpLimits(head_seconds=0.2)) as server, server.connect() as stream:
        assert read_to_end(stream) == b""


def test_one_tls_port_speaks_http_1_http_2_and_grpc(
    tls_server: Running, certificates: Certificates, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text(certificates.authority)
    url = f"https://{tls_server.address}/"
    assert curl("--http1.1", "--cacert", str(authority), "-d", "x", url) == "https 1.1"
    assert curl("--http2", "--cacert", str(authority), "-d", "x", url) == "https 2"
    credentials = grpc.ssl_channel_credentials(certificates.authority.encode())
    with grpc.secure_channel(tls_server.address, credentials) as channel:
        assert shout(channel) == b"HELLO"


def test_clear_text_to_a_tls_port_is_closed(tls_server: Running) -> None:
    with tls_server.connect() as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        assert b"200" not in read_to_end(stream)


def test_clients_without_a_certificate_are_refused_where_one_is_asked_for(
    certificates: Certificates, tmp_path: Path
) -> None:
    tls = tls_context(certificates.key, certificates.certificate, certificates.authority, client_verify=True)
    with running(both, tls=tls) as server:
        authority = tmp_path / "ca.pem"
        authority.write_text(certificates.authority)
        with pytest.raises(subprocess.CalledProcessError):
            curl("--cacert", str(authority), f"https://{server.address}/")
        known = grpc.ssl_channel_credentials(
            certificates.authority.encode(), certificates.key.encode(), certificates.certificate.encode()
        )
        with grpc.secure_channel(server.address, known) as channel:
            assert shout(channel) == b"HELLO"


def test_a_key_that_does_not_belong_to_the_certificate_is_refused(certificates: Certificates) -> None:
    with pytest.raises(ssl.SSLError):
        tls_context(certificates.key, certificates.authority)

"""`--ssl_config_file`."""

import socket
from pathlib import Path

import pytest
import requests
import trustme

from functions.web.tls import read_tls
from loader.status import ServingError
from tests.functions.command import Command
from tests.functions.served import GOLDEN_MODELS


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key.pem and cert.pem of 127.0.0.1, and ca.pem of who vouches for them."""
    folder = tmp_path_factory.mktemp("identity")
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(str(folder / "key.pem"))
    own.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return folder


def config(folder: Path, identity: Path, **more: str) -> str:
    fields = {
        "server_key": (identity / "key.pem").read_text(),
        "server_cert": (identity / "cert.pem").read_text(),
        **more,
    }
    lines = [
        f"{name}: {value if value == 'true' else chr(34) + value.encode('unicode_escape').decode() + chr(34)}"
        for name, value in fields.items()
    ]
    path = folder / "ssl.config"
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_port_speaks_tls_with_the_certificate_of_the_file(tmp_path: Path, identity: Path, workers: int) -> None:
    flags = [f"--ssl_config_file={config(tmp_path, identity)}", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}"]
    with Command(tmp_path, *flags, f"--workers={workers}") as command:
        url = f"https://127.0.0.1:{command.port}/v1/models/default:predict"
        for _ in range(6):
            with socket.create_connection(("127.0.0.1", command.port)) as plain:  # speaks no TLS, and harms nobody
                plain.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
                assert not plain.recv(1000).startswith(b"HTTP/")
            answer = requests.post(url, data='{"instances": [1.0]}', timeout=60, verify=str(identity / "ca.pem"))
            assert answer.json() == {"predictions": [2.5]}


def test_with_client_verify_a_client_without_a_certificate_is_refused(tmp_path: Path, identity: Path) -> None:
    ssl_config = config(tmp_path, identity, custom_ca=(identity / "ca.pem").read_text(), client_verify="true")
    flags = [f"--ssl_config_file={ssl_config}", f"--model_base_path={GOLDEN_MODELS / 'half_plus_two'}"]
    authority = str(identity / "ca.pem")
    own = (str(identity / "cert.pem"), str(identity / "key.pem"))
    with Command(tmp_path, *flags) as command:
        url = f"https://127.0.0.1:{command.port}/healthz"
        assert requests.get(url, timeout=60, verify=authority, cert=own).status_code == 200
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=60, verify=authority)


def test_a_file_without_a_key_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "ssl.config").write_text("client_verify: false")
    with pytest.raises(ServingError, match="wanted server_key and server_cert"):
        read_tls(str(tmp_path / "ssl.config"))


def test_client_verify_without_an_authority_is_refused(tmp_path: Path, identity: Path) -> None:
    with pytest.raises(ServingError, match="client_verify needs custom_ca"):
        read_tls(config(tmp_path, identity, client_verify="true"))


def test_without_a_file_there_is_no_tls() -> None:
    assert read_tls("") is None

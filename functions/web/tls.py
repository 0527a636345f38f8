"""TLS from `--ssl_config_file`.

It is for every port here, REST as well as gRPC; the stock server's REST port is always in clear text.

Source: tensorflow_serving/config/ssl_config.proto: the fields hold PEM texts, not names of files.
"""

import functools
import ssl
from typing import Any

from functions.session_settings import read_text_proto
from functions.web.server import tls_context
from loader.status import Code, ServingError
from loader.text_message import message_class


@functools.cache
def _message() -> Any:
    # The message of the stock server is not in the tensorflow-serving-api package; a process makes it once.
    fields = {"server_key": "string", "server_cert": "string", "custom_ca": "string", "client_verify": "bool"}
    return message_class("SSLConfig", fields)


def read_tls(config_file: str) -> ssl.SSLContext | None:
    """The TLS that the file describes; None without a file.

    Raises:
        ServingError: INVALID_ARGUMENT for a file that cannot be read or parsed, or holds no key and certificate.
    """
    if not config_file:
        return None
    config = read_text_proto(config_file, _message()(), "ssl_config_file")
    if config.client_verify and not config.custom_ca:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"--ssl_config_file: {config_file}: client_verify needs custom_ca, who signs clients"
        )
    try:
        return tls_context(config.server_key, config.server_cert, config.custom_ca, client_verify=config.client_verify)
    except (ssl.SSLError, UnicodeEncodeError) as error:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"--ssl_config_file: {config_file}: wanted server_key and server_cert as PEM texts that belong together:"
            f" {error}",
        ) from None

"""The command `zeroserve deployer`: the deploy function on a server of its own."""

import logging
import socket
import sys
import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from functions.config import deployer_environment
from functions.deployer.app import DeployApplication
from functions.deployer.function import deploy_function
from functions.deployer.settings import FLAGS, DeployerSettings, load_deployer_settings
from functions.observing.log_format import configure
from functions.web.server import serve
from functions.whole_file import write_whole
from knative.error import DeployError

EXIT_FAILED = 1

_log = logging.getLogger("zeroserve.deployer")


def main(words: Sequence[str]) -> int:
    """Answers events until SIGTERM; gives the exit status. Raises UsageError."""
    if any(word in {"--help", "-h"} for word in words):
        print(_help(), end="")
        return 0
    settings = load_deployer_settings(words, deployer_environment())
    configure(settings.log_level.upper(), settings.log_format)
    try:
        function = deploy_function(settings)
        listener = _listen(settings)
    except (DeployError, OSError, ValueError) as error:
        print(f"zeroserve deployer: {error}", file=sys.stderr)
        return EXIT_FAILED
    _log.info("events for the services of namespace %s on port %d", function.namespace, listener.getsockname()[1])
    application = DeployApplication(lambda: function)
    serve(application, [listener], on_drain=lambda: None, drain_timeout=settings.drain_timeout_seconds)
    application.close()
    return 0


def _listen(settings: DeployerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    if settings.port_file:
        write_whole(Path(settings.port_file), b"%d\n" % listener.getsockname()[1])
    return listener


def _help() -> str:
    lines = [
        "zeroserve deployer: answers storage's events and brings what landed to the cluster",
        "",
        "Each flag is also the environment variable SERVING_<FLAG IN CAPITALS>; PORT is read too.",
    ]
    for group, flags in groupby(FLAGS.values(), key=lambda one: one.group):
        lines += ["", f"{group}:"]
        for one in flags:
            value = str(one.default).lower() if one.kind is bool else str(one.default)
            lines.append(f"  --{one.name}={value}")
            lines += textwrap.wrap(one.text, 100, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines) + "\n"

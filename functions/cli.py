"""The command line: `zeroserve serve`, `settings`, `predict`, `inspect`, `deploy` and its kin, `--version`."""

import logging
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from functions.config import Settings, load_settings
from functions.flags import UsageError
from functions.observing.log_format import configure, formatter
from functions.serving import Beside, serve_process
from functions.whole_file import write_whole
from loader.gpu import has_gpu
from loader.status import ServingError

if TYPE_CHECKING:
    import ssl

    from functions.crew.board import Berth
    from functions.server import Server

USAGE = """\
zeroserve: serves TensorFlow SavedModels as functions that scale to zero

  zeroserve serve                        the bundled demo: handwritten digits
  zeroserve serve --model_name=m --model_base_path=URL --port=8080
  zeroserve serve --help                 all flags
  zeroserve settings [--markdown]        all settings with their environment variables
  zeroserve predict TARGET --model M --json FILE|-
                                         one prediction by this server or TensorFlow Serving; --help says more
  zeroserve record TARGET --model M --requests FILE --to FILE
                                         requests and their answers as a warm-up file
  zeroserve inspect URL [--json]         the signatures of a SavedModel
  zeroserve batch INPUT... --model URL|--url TARGET
                                         files in storage through a model, in bounded memory and resumable
  zeroserve export URL --tflite OUT      a file for phones, checked to answer as the SavedModel does
  zeroserve deploy NAME URL --image I    a service on Knative that scales to zero; --help says more
  zeroserve declare NAME URL --image I   what is wanted of a model: its uploads deploy it
  zeroserve status|list|delete|split|promote|rollback
                                         what is deployed, and who gets the traffic
  zeroserve compare NAME                 errors and latency of its revisions, the split, what the shadow said
  zeroserve events install|status|uninstall
                                         an upload deploys: what that takes on a cluster
  zeroserve watch URL --sink URL         sends an event for each version that lands in storage
  zeroserve coldstart NAME|URL [--json]  where the time of the last cold start went, and what would change it
  zeroserve gateway render|run|install|keys|status|uninstall
                                         one entry for all models: keys, limits, CORS, before a model wakes
  zeroserve monitoring render            dashboards for Grafana, alerts and what to scrape for Prometheus
  zeroserve completion bash|zsh|fish     a script for the shell
  zeroserve --version
"""

COMMANDS = {
    "predict": "functions.commands.predict",
    "inspect": "functions.commands.inspect",
    "record": "functions.commands.record",
    "events": "functions.commands.events",
    "watch": "functions.commands.watch",
    "deployer": "functions.commands.deployer",
    "compare": "functions.commands.compare",
    "coldstart": "functions.commands.coldstart",
    "gateway": "functions.commands.gateway",
    "monitoring": "functions.commands.monitoring",
    "batch": "functions.commands.batch",
    "export": "functions.commands.export",
    "completion": "functions.commands.completion",
}
"""Command -> the module whose `main` runs it: none is imported where a server starts."""

CLUSTER_COMMANDS = frozenset({"deploy", "declare", "status", "list", "delete", "split", "promote", "rollback"})
"""Those that talk to a cluster, and load no model."""

EXIT_USAGE = 2
"""Exit status for a command line or an environment that makes no sense."""

EXIT_FAILED = 1
"""Exit status for a start that failed: a port in use, no model that loads."""

END_SECONDS = 10.0
"""What workers get to end beyond the time for their requests and for unloading."""

BACKLOG = 2048
"""Connections that may wait to be accepted, while the model loads for instance."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status; a failure is one line on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words.pop(0) if words else "--help"
    try:
        if command == "serve":
            return _serve(words)
        if command == "settings":
            return _settings(words)
        if command in COMMANDS:
            return int(import_module(COMMANDS[command]).main(words))
        if command in CLUSTER_COMMANDS:
            from functions.commands.cluster import main as cluster  # noqa: PLC0415  a server does not need it

            return cluster(command, words)
    except UsageError as error:
        return _fail(str(error), EXIT_USAGE)
    if command in {"--version", "version"}:
        from importlib.metadata import version  # noqa: PLC0415  only this command needs it

        print(f"zeroserve {version('zeroserve')}")
        return 0
    if command in {"--help", "-h", "help"}:
        print(USAGE, end="")
        return 0
    return _fail(f"unknown command {command!r}: zeroserve --help lists those there are", EXIT_USAGE)


def _serve(words: Sequence[str]) -> int:
    if any(word in {"--help", "-h", "--helpfull"} for word in words):
        from functions.settings_text import help_text  # noqa: PLC0415  a start does not need it

        print(help_text(), end="")
        return 0
    if "--version" in words:
        return main(["--version"])
    settings = load_settings(words)
    if not settings.demo:
        settings.require_models()
    level = "WARNING" if settings.demo else settings.log_level.upper()
    configure(level, settings.log_format)
    if settings.traces:
        from functions.observing.observers import check_telemetry  # noqa: PLC0415  only with the flag

        check_telemetry()
    try:
        tls = _tls(settings)
        beside = _beside(settings)
        sockets = _listen(settings)
    except ServingError as error:
        return _failed(settings, error.message, EXIT_USAGE)
    except OSError as error:
        return _failed(settings, f"cannot listen: {error}", EXIT_FAILED)

    if settings.workers > 1 and has_gpu():
        logging.getLogger("zeroserve.cli").warning("--workers=%d: one process serves a GPU", settings.workers)
        settings = replace(settings, workers=1)
    if settings.workers == 1:
        return serve_process(
            settings,
            sockets,
            tls,
            fail=lambda text: _failed(settings, text, EXIT_FAILED),
            on_listen=lambda: _write_port(settings, sockets[0]),
            on_loaded=lambda: _greet(settings, sockets[0]),
            beside=beside,
        )
    from functions.crew.parent import Crew  # noqa: PLC0415  only with several workers

    _write_port(settings, sockets[0])
    end_seconds = 2 * settings.drain_timeout_seconds + END_SECONDS
    status, failure = Crew(
        settings.workers, sockets, partial(_work, settings, sockets, tls, beside), end_seconds=end_seconds
    ).run()
    return _failed(settings, failure, status) if failure else status


def _work(
    settings: Settings,
    sockets: Sequence[socket.socket],
    tls: "ssl.SSLContext | None",
    beside: Callable[["Server"], Beside] | None,
    berth: "Berth",
) -> int:
    """What one worker of several does."""
    logging.getLogger().handlers[0].setFormatter(formatter(settings.log_format, berth.index))

    def fail(text: str) -> int:
        berth.board.fail(berth.index, text)
        return EXIT_FAILED

    def greet() -> None:
        if berth.index == 0 and not berth.again:
            _greet(settings, sockets[0])

    return serve_process(settings, sockets, tls, fail=fail, on_loaded=greet, berth=berth, beside=beside)


def _tls(settings: Settings) -> "ssl.SSLContext | None":
    if not settings.ssl_config_file:
        return None
    from functions.web.tls import read_tls  # noqa: PLC0415  only with the flag

    return read_tls(settings.ssl_config_file)


def _beside(settings: Settings) -> Callable[["Server"], Beside] | None:
    """What `--watch` runs beside the server: no server without it knows of events."""
    if not settings.watch:
        return None
    from functions.watch_serving import WatchedServing, read_senders  # noqa: PLC0415  only with the flag

    senders = read_senders(settings.watch_secret_file) if settings.watch_secret_file else None
    return lambda server: WatchedServing(server, senders)


def _listen(settings: Settings) -> list[socket.socket]:
    ports = []
    if settings.port or settings.port_file:
        ports.append(settings.port)
    if settings.rest_api_port:
        ports.append(settings.rest_api_port)
    sockets = []
    for port in ports:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((settings.host, port))
        except OSError as error:
            one.close()
            raise OSError(f"{settings.host}:{port}: {error.strerror}") from error
        one.listen(BACKLOG)
        sockets.append(one)
    if settings.grpc_socket_path:
        path = Path(settings.grpc_socket_path)
        path.unlink(missing_ok=True)
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.bind(str(path))
        one.listen(BACKLOG)
        sockets.append(one)
    return sockets


def _write_port(settings: Settings, first: socket.socket) -> None:
    if settings.port_file:
        write_whole(Path(settings.port_file), b"%d\n" % first.getsockname()[1])


def _greet(settings: Settings, first: socket.socket) -> None:
    """What to try with the demo: after TensorFlow's own lines, so that it stays in sight."""
    if settings.demo and first.family != socket.AF_UNIX:
        from functions.demo.bundle import greeting  # noqa: PLC0415  only the demo needs it

        print(f"\n{greeting(first.getsockname()[1], Path.cwd())}", flush=True)


def _settings(words: Sequence[str]) -> int:
    from functions.settings_text import help_text, markdown  # noqa: PLC0415  a start does not need it

    if words not in ([], ["--markdown"]):
        raise UsageError(f"settings: found {' '.join(words)!r}, wanted --markdown or nothing")
    print(markdown() if words else help_text(), end="")
    return 0


def _failed(settings: Settings, text: str, status: int) -> int:
    """A server's failure, said in the form of its log."""
    if settings.log_format == "text":
        return _fail(text, status)
    logging.getLogger("zeroserve").critical("%s", text)
    return status


def _fail(text: str, status: int) -> int:
    print(f"zeroserve: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())

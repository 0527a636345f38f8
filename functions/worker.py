"""The one server of a process that is not ours: functions-framework's gunicorn worker.

functions-framework imports the function's source in gunicorn's arbiter and forks afterwards. Threads do not survive a
fork, and a TensorFlow runtime started before one hangs for ever after it; so this module only notes what to start, and
starts it in the child, at once: a cold start must not wait for the first request.

Of the end the framework tells nobody: uvicorn raises the SIGTERM that it has drained for a second time, which kills the
process before anything else is run, and Starlette offers no way to a shutdown handler from a route. So the first
request puts a handler before uvicorn's that ends its server by `should_exit` instead; the process then ends as any
Python program does, and the models are unloaded on the way.
"""

import atexit
import os
import signal
import sys
from typing import TYPE_CHECKING

from functions.config import Settings, load_settings
from functions.flags import UsageError

if TYPE_CHECKING:
    from functions.asgi import AsgiApplication
    from functions.server import Server

_settings: Settings | None = None
_server: "Server | None" = None
_ends_well = False


def prepare() -> None:
    """Reads the settings and makes every process that is forked from this one start its server.

    Exits with one line when the settings make no sense.
    """
    global _settings  # noqa: PLW0603  one process, one server
    if _settings is not None:
        return
    try:
        _settings = load_settings()
        _settings.require_models()
        if _settings.traces:
            from functions.observing.observers import check_telemetry  # noqa: PLC0415  only with the flag

            check_telemetry()
    except UsageError as error:
        sys.exit(f"zeroserve: {error}")
    os.register_at_fork(after_in_child=_start)


def application() -> "AsgiApplication":
    """The ASGI application of this process; starts the server where no fork has done so (`--debug`).

    Called by the framework for each request, on the main thread.
    """
    server = _start()
    if not _ends_well:
        _end_well(server)
    return server.application


def _end_well(server: "Server") -> None:
    """Lets a SIGTERM that uvicorn drains for end with `server.close`."""
    global _ends_well  # noqa: PLW0603  one process, one server
    import uvicorn  # noqa: PLC0415  the framework has imported it

    _ends_well = True
    host = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not isinstance(host, uvicorn.Server):
        return

    def drain(*_: object) -> None:
        server.drain()
        host.should_exit = True

    signal.signal(signal.SIGTERM, drain)
    atexit.register(server.close)


def _start() -> "Server":
    global _server  # noqa: PLW0603  one process, one server
    # A process forked from one that serves already inherits the variable: it is a helper, not a worker.
    if _server is None:
        from functions.server import Server  # noqa: PLC0415  not before the fork

        assert _settings is not None  # noqa: S101  prepare() comes first
        if _settings.log_format == "json":
            from functions.observing.log_format import configure  # noqa: PLC0415  else the framework's log is good enough

            configure(_settings.log_level.upper(), _settings.log_format)
        _server = Server(_settings)
        _server.start()
    return _server

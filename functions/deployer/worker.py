"""The one deploy function of a process that is not ours: functions-framework's gunicorn worker."""

import logging
import sys

from functions.config import deployer_environment
from functions.deployer.app import DeployApplication
from functions.deployer.function import deploy_function
from functions.deployer.settings import DeployerSettings, load_deployer_settings
from functions.flags import UsageError
from knative.error import DeployError

_settings: DeployerSettings | None = None
_application: DeployApplication | None = None


def prepare() -> None:
    """Reads the settings; exits with one line when they make no sense."""
    global _settings  # noqa: PLW0603  one process, one function
    if _settings is not None:
        return
    try:
        _settings = load_deployer_settings((), deployer_environment())
        deploy_function(_settings)  # starts nothing; what is wrong is said before a worker is forked
    except (UsageError, DeployError, OSError, ValueError) as error:
        sys.exit(f"zeroserve: {error}")


def application() -> DeployApplication:
    """The ASGI application of this process. Called for each request, on the main thread."""
    global _application  # noqa: PLW0603  one process, one function
    if _application is None:
        settings = _settings
        assert settings is not None  # noqa: S101  prepare() comes first
        if settings.log_format == "json":
            from functions.observing.log_format import configure  # noqa: PLC0415  else the framework's log is good enough

            configure(settings.log_level.upper(), settings.log_format)
        logging.getLogger("zeroserve").setLevel(settings.log_level.upper())
        _application = DeployApplication(lambda: deploy_function(settings))
    return _application

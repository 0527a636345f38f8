"""The deploy function under functions-framework: `--source functions/deploy_target.py --target deploy`.

The module is imported outside its package, before gunicorn forks its workers: it reads settings, and starts nothing.
The target is of the kind `http`: what the framework calls a CloudEvent function answers `OK`, which a Trigger takes
for a failure and delivers again.
"""

from typing import TYPE_CHECKING

import functions_framework.aio

from functions.deployer import worker as deploy_worker

if TYPE_CHECKING:
    from starlette.requests import Request

    from functions.deployer.app import DeployApplication

deploy_worker.prepare()


# Starlette calls whatever comes back as an ASGI application, although its types say Response.
@functions_framework.aio.http  # type: ignore[arg-type]
async def deploy(request: "Request") -> "DeployApplication":
    """Answers one request: the framework calls what this returns with the request's ASGI scope."""
    return deploy_worker.application()

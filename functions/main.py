"""The function: `functions-framework --source functions/main.py --target predict`.

The module is imported as `main`, outside its package, before gunicorn forks its workers: it holds no state and starts
nothing. Every path and method reaches `predict`, which hands the request on to the ASGI application of the process.
"""

from typing import TYPE_CHECKING

import functions_framework.aio

from functions import worker

if TYPE_CHECKING:
    from starlette.requests import Request

    from functions.asgi import AsgiApplication

worker.prepare()


# Starlette calls whatever comes back as an ASGI application, although its types say Response.
@functions_framework.aio.http  # type: ignore[arg-type]
async def predict(request: "Request") -> "AsgiApplication":
    """Answers one request: the framework calls what this returns with the request's ASGI scope."""
    return worker.application()

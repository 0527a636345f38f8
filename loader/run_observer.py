"""Who is told of the runs of a request: nobody by default, and then a scheduler looks at one variable and goes on.

Who asks (a log line, a trace) travels beside the request, as its priority does (`loader.priority`). What is told is in
`loader.run_log`, which is imported where somebody asks: a cold start does not pay for it.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loader.run_log import RunObserver

run_observer: ContextVar["RunObserver | None"] = ContextVar("run_observer", default=None)
"""Who is told of the runs of the request that this context answers."""

"""A step of a mix as a span, with all that its models do below it; a `loader.mixing.mixer.Around`."""

from collections.abc import Iterator
from contextlib import contextmanager

from functions.observing.current_access import current
from loader.run_observer import run_observer
from loader.status import ServingError


@contextmanager
def step_span(step: str, rows: int) -> Iterator[None]:
    """Stands around the calls of one step, on the event loop's thread; nothing where the request is not traced."""
    access = current.get()
    if access is None or access.trace is None:
        yield
        return
    from functions.tracing.spans import INTERNAL, StepObserver, parent_span  # noqa: PLC0415  traces are on

    span = access.trace.begin(f"step {step}", INTERNAL, {"zeroserve.step": step, "zeroserve.rows": rows})
    observer = run_observer.set(StepObserver(access, access.trace, span))
    parent = parent_span.set(span.span_id)
    try:
        yield
    except ServingError as error:
        span.error = error.code.name
        raise
    finally:
        parent_span.reset(parent)
        run_observer.reset(observer)
        span.end()

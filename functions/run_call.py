"""One prediction run: what every protocol does between its codec and the scheduler, in one place.

Here the version, its inputs and its outputs are known, whoever asked: so runs are counted here, and here the record of
the request (`functions.observing.access`) hears what answered it.
"""

import time
from typing import Any, TypeVar

from functions.observing.current_access import current
from functions.observing.metrics import Metrics
from loader.inference import Call
from loader.servable import Servable

_T = TypeVar("_T")


async def run_call(servable: Servable, api: str, call: "Call[_T]", deadline: float | None, metrics: Metrics) -> _T:
    """The result of one call.

    Args:
        servable: what runs it; held by the caller until this returns.
        api: what the run is counted as: `predict`, `classify`, `infer`...
        call: from `loader.inference`.
        deadline: in `time.monotonic()` seconds; None for no limit.
        metrics: where the run and its rows are counted.

    Raises:
        ServingError: what the run raises, and what the model's outputs are not.
    """
    access = current.get()
    if access is not None:
        access.version = servable.id.version
    started = time.perf_counter()
    arrays = await servable.scheduler.run(call.feeds, call.fetches, deadline=deadline)
    name = servable.id.name
    metrics.runtime_latency.observe((name, api, "TF1"), (time.perf_counter() - started) * 1e6)
    rows = next((int(array.shape[0]) for array in call.feeds.values() if array.ndim), 1)
    metrics.example_count.observe((name,), rows)
    metrics.example_total.add((name,), rows)
    result = call.finish(arrays)
    if access is not None:
        access.answered_by(servable.id.version, signature_name(result), rows)
        if access.tap is not None:
            access.tap.answered(access, servable, call.feeds, result)
    return result


def signature_name(result: Any) -> str:
    """The signature that gave a result; of several, the first."""
    first = result[0] if isinstance(result, list) else result
    return str(first.signature.name)

"""A step's model in this process: any version that the manager has, through that version's own scheduler.

So the rows of a step are batched with those of other requests where batching is on, and nothing is copied.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

import numpy as np

from functions.client.signature_choice import choose
from functions.first_load import CHECK_SECONDS
from loader import dtypes
from loader.dtypes import Array
from loader.inference import predict_call
from loader.manager import ServableManager
from loader.mixing.evaluation import cast
from loader.mixing.target import Target
from loader.servable import ModelSpec, State
from loader.servable_handle import ServableHandle
from loader.status import Code, ServingError

MAX_NESTING = 4
"""Mixes that may stand inside each other: a mix that asks itself ends here."""

MAX_WAIT_SECONDS = 30.0
"""How long a step waits for a model that is loading, where the request has no deadline."""

_nesting: ContextVar[int] = ContextVar("nesting", default=0)


class LocalTarget:
    """Asks one model of this process. Any event loop may use it."""

    def __init__(self, manager: ServableManager, target: Target) -> None:
        self._manager = manager
        self._spec = ModelSpec(target.model, target.version or None, target.label or None)
        self._signature = target.signature

    async def ask(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float | None
    ) -> Mapping[str, Array]:
        """See `loader.mixing.mixer.Ask`.

        Raises:
            ServingError: what the manager and the run raise; NOT_FOUND where the model is neither there nor loading.
        """
        depth = _nesting.get()
        if depth >= MAX_NESTING:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"mixes are more than {MAX_NESTING} deep: does one ask itself? ({self._spec})"
            )
        token = _nesting.set(depth + 1)
        try:
            with await self._handle(deadline) as handle:
                servable = handle.servable
                signature = choose(servable.model.signatures, self._signature)
                feeds = {
                    alias: cast(f"input {alias!r} of model {self._spec.name!r}", array, _dtype(spec.dtype))
                    if (spec := signature.inputs.get(alias)) is not None
                    else array
                    for alias, array in inputs.items()
                }
                call = predict_call(servable.model, signature.name, feeds, outputs)
                return call.finish(await servable.scheduler.run(call.feeds, call.fetches, deadline=deadline)).outputs
        finally:
            _nesting.reset(token)

    async def _handle(self, deadline: float | None) -> ServableHandle:
        latest = time.monotonic() + MAX_WAIT_SECONDS if deadline is None else deadline
        while True:
            try:
                return self._manager.handle(self._spec)
            except ServingError:
                if not self._coming():
                    raise
            if time.monotonic() >= latest:
                waiting = "; ".join(self._manager.waiting_for([self._spec.name]))
                raise ServingError(Code.DEADLINE_EXCEEDED, f"model {self._spec.name} is not loaded yet: {waiting}")
            await asyncio.sleep(CHECK_SECONDS)

    def _coming(self) -> bool:
        """Whether a version of the model is on its way, without a failure so far."""
        if self._spec.name not in self._manager.names():
            return False
        try:
            statuses = self._manager.statuses(self._spec.name)
        except ServingError:
            return False
        wanted = self._spec.version
        return any(
            one.state in (State.START, State.LOADING) and one.error is None and wanted in (None, one.version)
            for one in statuses
        )


def _dtype(number: int) -> "np.dtype[np.generic]":
    return dtypes.of_number(number).numpy

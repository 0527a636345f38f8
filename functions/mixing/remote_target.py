"""A step's model in another service: another revision, another function, a stock TensorFlow Serving.

Asked with the project's own client: its connections are kept and shared by all requests of the mix, the model's
signature is read with the first call (not before: that would wake the service), and what is left of the deadline is
told to the other side.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from functions.client import Client
from functions.observing.outgoing import outgoing
from loader.dtypes import Array
from loader.mixing.target import Target
from loader.status import Code, ServingError

MAX_CALLS = 64
"""Calls to other services at once, of one mix; further ones wait for a thread."""

MAX_WAITING = 1024
"""Calls that run or wait; beyond it they are refused."""

DEFAULT_SECONDS = 60.0
"""Of a call where neither step nor request says how long."""


class RemoteTargets:
    """The services that one mix asks. Thread-safe."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="zeroserve-mix")
        self._clients: dict[tuple[str, str], Client] = {}
        self._waiting = 0

    def target(self, target: Target) -> "RemoteTarget":
        """One model of one service; services with the same address share their connections."""
        key = (target.url, target.protocol)
        if key not in self._clients:
            # One try: it is the mix that says what comes instead.
            self._clients[key] = Client(target.url, protocol=target.protocol, timeout=DEFAULT_SECONDS, attempts=1)
        return RemoteTarget(self, self._clients[key], target)

    async def run(self, call: "partial[Mapping[str, Array]]") -> Mapping[str, Array]:
        """A blocking call in a thread. RESOURCE_EXHAUSTED where too many wait already."""
        if self._waiting >= MAX_WAITING:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, f"{MAX_WAITING} calls of this mix wait already", retry_after=1.0
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Closes the connections; calls that are late end with their own deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()


class RemoteTarget:
    """Asks one model of another service."""

    def __init__(self, targets: RemoteTargets, client: Client, target: Target) -> None:
        self._targets = targets
        self._client = client
        self._target = target

    async def ask(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float | None
    ) -> Mapping[str, Array]:
        """See `loader.mixing.mixer.Ask`.

        Raises:
            ServingError: the other side's code and text; UNAVAILABLE where it cannot be reached, DEADLINE_EXCEEDED.
        """
        target = self._target
        attributes = {"server.address": target.url, "zeroserve.model": target.model}
        with outgoing(f"predict {target.model}", attributes) as call:
            return await self._targets.run(partial(self._call, inputs, outputs, deadline, call.headers))

    def _call(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: float | None,
        headers: Mapping[str, str],
    ) -> Mapping[str, Array]:
        left = DEFAULT_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise ServingError(Code.DEADLINE_EXCEEDED, "the deadline had passed before the service could be asked")
        target = self._target
        return self._client.predict(
            target.model,
            inputs,
            version=target.version or None,
            label=target.label or None,
            signature=target.signature,
            outputs=outputs,
            timeout=left,
            headers=headers,
        ).outputs

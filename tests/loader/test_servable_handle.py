"""Nobody is ever given a closed version, however fast versions change under however many requests."""

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from loader import saved_model
from loader.completeness import missing
from loader.manager import ManagerOptions, ServableManager
from loader.model_config import ModelConfig
from loader.saved_model import SavedModel
from loader.servable import ModelSpec, Servable, ServableId, State
from loader.servable_handle import Holders
from loader.session import SessionOptions
from loader.source import SourceOptions, StorageSource
from loader.storage import open_storage
from tests.loader.counted import PATIENCE, QUICK, CountedSession, Direct, Shelf, answers, aspire, states, stored, until

LATEST = ModelSpec("m")


def holders() -> Holders:
    session = CountedSession(1)
    return Holders(Servable(ServableId("m", 1), SavedModel({}, session, Path("/")), Direct(session)))


def test_a_retired_version_gives_no_handle() -> None:
    version = holders()
    version.retire()
    assert version.acquire() is None
    assert version.wait_idle(0)


def test_a_version_is_idle_only_when_it_is_retired_and_nobody_holds_it() -> None:
    version = holders()
    handle = version.acquire()
    assert handle is not None
    version.retire()
    assert not version.wait_idle(0)
    handle.release()
    assert version.wait_idle(0)


def test_a_version_that_nobody_holds_is_not_idle_before_it_is_retired() -> None:
    version = holders()
    with version.acquire() or pytest.fail("not retired"):
        assert len(version) == 1
    assert len(version) == 0
    assert not version.wait_idle(0)


@pytest.mark.parametrize("entered", [False, True])
def test_a_version_that_retires_while_a_handle_is_being_taken_is_not_given(entered: bool) -> None:
    """At the one moment that counts: just before, or just after, the taker has entered itself."""
    version = holders()
    idle: list[bool] = []

    class Meanwhile(set[int]):
        def add(self, holder: int) -> None:
            if entered:
                super().add(holder)
            version.retire()
            idle.append(version.wait_idle(0))
            super().add(holder)

    version._held = Meanwhile()
    assert version.acquire() is None
    assert idle == [not entered]
    assert version.wait_idle(0)


class Callers:
    """Threads that send requests until they are told to stop, and keep count and what went wrong."""

    def __init__(self, count: int, request: Callable[[], None]) -> None:
        self.served = 0
        self.failures: list[BaseException] = []
        self._request = request
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self) -> None:
        served = 0
        while not self._stop.is_set():
            try:
                self._request()
            except BaseException as error:  # noqa: BLE001  # an assertion that fails in a thread counts too
                self.failures.append(error)
                return
            served += 1
        self.served += served


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads change places every few microseconds instead of every 5 ms, to fall into every gap that there is."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("spec", [LATEST, ModelSpec("m", label="stable"), ModelSpec("m", version=1000)])
def test_no_request_fails_while_versions_change_as_fast_as_they_can(
    spec: ModelSpec,
) -> None:
    shelf = Shelf()
    manager = shelf.manager()
    aspire(manager, 1, 1000)
    manager.set_labels({"m": {"stable": 1}})
    with Callers(4, lambda: answers(manager, spec)) as callers:
        for version in range(2, 62):
            manager.set_aspired("m", [stored(version), stored(version - 1), stored(1000)])
            until(manager, lambda v=version: states(manager).get(v) == State.AVAILABLE)
            manager.set_labels({"m": {"stable": version}})
            manager.set_aspired("m", [stored(version), stored(1000)])
    assert callers.failures == []
    assert manager.close(PATIENCE)
    assert len(shelf.sessions) == 62
    assert all(session.closed for session in shelf.sessions)


class World:
    """Copies of half_plus_two under a base path, served by TensorFlow's own runtime."""

    def __init__(self, root: Path, golden: Path) -> None:
        self.base, self.golden, self.staging = root / "m", golden / "half_plus_two" / "1", root / "staging"
        self.base.mkdir()
        self.manager = ServableManager(
            lambda _id, stored_version, _cancel: Path(stored_version.url), self.load, ManagerOptions(QUICK)
        )
        self.source = StorageSource(self.manager, open_storage, missing, SourceOptions(-1))
        self.source.reload([ModelConfig("m", str(self.base))])

    def load(self, servable_id: ServableId, path: Path) -> Servable:
        model = saved_model.load(path, SessionOptions(intra_op_parallelism=1, inter_op_parallelism=1))
        return Servable(servable_id, model, Direct(model.session))

    def put(self, version: int) -> None:
        shutil.copytree(self.golden, self.staging)
        self.staging.rename(self.base / str(version))

    def predict(self) -> None:
        with self.manager.handle(LATEST) as handle:
            model = handle.servable.model
            signature = model.signatures["serving_default"]
            [y] = model.session.run(
                {signature.inputs["x"].name: np.asarray([1.0, 2.0, 5.0], np.float32)}, [signature.outputs["y"].name]
            )
        assert y.tolist() == [2.5, 3.0, 4.5]


@pytest.mark.usefixtures("hasty")
def test_no_prediction_fails_while_real_models_are_swapped(tmp_path: Path, golden: Path) -> None:
    world = World(tmp_path, golden)
    world.put(1)
    world.source.poll()
    world.manager.wait_until_available(timeout=PATIENCE)
    with Callers(3, world.predict) as callers:
        for version in range(2, 17):
            world.put(version)
            world.source.poll()
            until(world.manager, lambda v=version: states(world.manager).get(v) == State.AVAILABLE)
            shutil.rmtree(world.base / str(version - 1))
    assert callers.failures == []
    assert callers.served > 0
    until(world.manager, lambda: sum(state != State.END for state in states(world.manager).values()) == 1)
    assert world.manager.close(PATIENCE)

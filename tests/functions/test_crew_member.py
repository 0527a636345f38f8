"""What workers tell and ask each other, over their real sockets; here all live in one process."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.crew.board import Berth, Board
from functions.crew.ledger import Ledger
from functions.crew.mail import Mail, NoAnswerError
from functions.crew.member import CrewMember
from functions.crew.models import CrewManager, CrewSource
from functions.observing.metrics import Gauge, Metrics
from loader.manager import ManagerOptions
from loader.model_config import ModelConfig
from loader.servable import ServableId, State
from loader.source import SourceOptions
from loader.status import Code, ServingError
from loader.storage import open_storage
from tests.loader.counted import PATIENCE, QUICK, Shelf


class Worker:
    """One worker with models that are loaded in no time; its storage is one that a test fills."""

    def __init__(self, berth: Berth) -> None:
        self.shelf = Shelf()
        self.metrics = Metrics()
        self.manager = CrewManager(self.shelf.fetch, self.shelf.load, ManagerOptions(loading=QUICK))
        self.source = CrewSource(self.manager, open_storage, lambda *_: [], SourceOptions(0.05))
        self.member = CrewMember(berth, self.metrics, self.manager, self.source, self.missing)
        self.began_with: object = "not yet"

    def missing(self) -> list[str]:
        return [] if self.manager.ready_here else self.manager.waiting_for()

    def join(self, configs: list[ModelConfig]) -> None:
        def begin(of_others: object) -> None:
            self.began_with = of_others
            self.source.reload_here(of_others or configs)  # type: ignore[arg-type]

        self.member.join(begin)
        self.source.start()

    def close(self) -> None:
        self.source.close(PATIENCE)
        self.member.close()
        assert self.manager.close(PATIENCE)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base path with version 1."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    return tmp_path / "m"


@pytest.fixture
def pair(tmp_path: Path, base: Path) -> Iterator[list[Worker]]:
    """Two workers that serve `m` and accept."""
    (tmp_path / "crew").mkdir()
    board = Board(2)
    workers = [Worker(Berth(index, 2, index == 1, tmp_path / "crew", 0, board)) for index in range(2)]
    for index, worker in enumerate(workers):
        worker.join([ModelConfig("m", str(base))])
        board.accepting(index, 0)
    for worker in workers:
        assert worker.manager.wait_until(lambda worker=worker: worker.manager.ready, PATIENCE)
    yield workers
    for worker in workers:
        worker.close()


def states(worker: Worker, name: str = "m") -> dict[int, State]:
    return {one.version: one.state for one in worker.manager.statuses(name)}


def test_a_worker_that_comes_later_serves_what_the_others_serve(pair: list[Worker]) -> None:
    assert pair[0].began_with is None
    assert [config.name for config in pair[1].began_with] == ["m"]  # type: ignore[attr-defined]


def test_a_new_version_is_available_once_both_workers_have_it(pair: list[Worker], base: Path) -> None:
    gate = pair[1].shelf.gate(2)
    (base / "2").mkdir()
    assert pair[0].manager.wait_until(lambda: pair[0].manager.in_use().keys() != set(), PATIENCE)
    assert pair[0].manager.wait_until(lambda: ServableId("m", 2) in pair[0].manager.in_use(), PATIENCE)
    assert states(pair[0])[2] is State.LOADING
    gate.set()
    for worker in pair:
        # told over a socket, so no change of this worker's own wakes the wait
        while states(worker) != {2: State.AVAILABLE, 1: State.END}:
            worker.manager.wait_until(lambda: False, 0.01)


def test_a_reload_returns_when_all_workers_have_the_new_model(pair: list[Worker], base: Path) -> None:
    configs = [ModelConfig("m", str(base)), ModelConfig("n", str(base))]
    assert pair[0].source.reload(configs) == ["n"]
    for worker in pair:
        assert states(worker, "n") == {1: State.AVAILABLE}
        assert [config.name for config in worker.source.configs] == ["m", "n"]


def test_a_reload_that_one_worker_cannot_do_changes_nothing_in_any(pair: list[Worker], base: Path) -> None:
    (base / "2").mkdir()
    assert pair[0].manager.wait_until(lambda: ServableId("m", 2) in pair[0].manager.in_use(), PATIENCE)
    gate = pair[1].shelf.gate(3)
    (base / "3").mkdir()
    assert pair[0].manager.wait_until(lambda: ServableId("m", 3) in pair[0].manager.in_use(), PATIENCE)
    # version 3 is available in the first worker and not in the second one, which therefore refuses its label
    with pytest.raises(ServingError, match="Request to assign label to version 3 of model m"):
        pair[0].source.reload([ModelConfig("m", str(base), labels={"stable": 3}), ModelConfig("n", str(base))])
    for worker in pair:
        assert [config.name for config in worker.source.configs] == ["m"]
        assert dict(worker.manager.labels("m")) == {}
        assert worker.manager.in_use()
    gate.set()


def test_counts_are_added_up_and_outlive_their_worker(pair: list[Worker]) -> None:
    def counted(worker: Worker) -> float:
        families = {one.name: one for one in worker.member.all_samples()}
        return families[":tensorflow:serving:request_count"].rows["m", "OK"][0]

    for worker in pair:
        worker.metrics.request_count.add(("m", "OK"), 5)
    assert [counted(worker) for worker in pair] == [10, 10]
    pair[1].metrics.request_count.add(("m", "OK"), 1)
    pair[1].member.close()
    assert counted(pair[0]) == 11
    workers = {one.name: one for one in pair[0].member.all_samples()}["zeroserve_workers"]
    assert workers.rows == {(): (1.0,)}


def test_the_processes_that_follow_one_another_inherit_the_counts(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.add_family(Gauge("g", (), lambda: {(): 1.0}))
    metrics.request_count.add(("m", "OK"), 3)
    for life in range(3):
        ledger = Ledger(tmp_path, 0)
        ledger.key = f"counts-0-{life + 100}"  # another process has another number
        ledger.inherit()
        ledger.keep(metrics.samples())
    names = sorted(path.name for path in tmp_path.glob("counts-*"))
    assert names == ["counts-0-0", "counts-0-102"]
    rows = [
        one.rows["m", "OK"][0]
        for samples in Ledger(tmp_path, 1).others({"counts-0-102"})
        for one in samples
        if one.name == ":tensorflow:serving:request_count"
    ]
    assert rows == [6]
    assert not any(one.name == "g" for samples in Ledger(tmp_path, 1).others(set()) for one in samples)


def test_a_worker_that_is_not_there_gives_no_answer_and_an_error_comes_back_as_it_was(tmp_path: Path) -> None:
    one, other = Mail(tmp_path, 0, 3), Mail(tmp_path, 1, 3)

    def fail(content: object) -> None:
        raise ServingError(Code.NOT_FOUND, f"no {content}")

    other.open({"fail": fail, "pid": lambda _: os.getpid(), "defect": lambda _: 1 / 0})
    try:
        assert one.ask(1, "pid") == os.getpid()
        with pytest.raises(ServingError, match="NOT_FOUND: no x"):
            one.ask(1, "fail", "x")
        with pytest.raises(ServingError, match="INTERNAL"):
            one.ask(1, "defect")
        with pytest.raises(NoAnswerError):
            one.ask(2, "pid")
        assert [type(answer) for answer in one.ask_others("pid").values()] == [int, NoAnswerError]
    finally:
        other.close()
    with pytest.raises(NoAnswerError):
        one.ask(1, "pid")

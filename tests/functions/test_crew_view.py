"""Several workers' versions as one."""

from hypothesis import given
from hypothesis import strategies as st

from functions.crew.view import CrewView, WorkerState, whole_version
from loader.servable import State, VersionStatus
from loader.status import Code, ServingError

STATES = [State.START, State.LOADING, State.AVAILABLE, State.UNLOADING, State.END]
ERROR = ServingError(Code.DATA_LOSS, "broken")
STATUS = st.builds(
    lambda state, error: VersionStatus(1, state, error if state in {State.START, State.LOADING, State.END} else None),
    st.sampled_from(STATES),
    st.sampled_from([None, ERROR]),
)
WORKERS = st.lists(st.none() | STATUS, min_size=1, max_size=4).filter(any)


@given(WORKERS)
def test_a_version_is_available_when_all_workers_have_it_and_never_else(workers: list[VersionStatus | None]) -> None:
    everywhere = all(one is not None and one.state is State.AVAILABLE for one in workers)
    assert (whole_version(1, workers).state is State.AVAILABLE) is everywhere


@given(WORKERS, st.randoms())
def test_it_does_not_matter_which_worker_says_what(workers: list[VersionStatus | None], random: object) -> None:
    shuffled = list(workers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert whole_version(1, shuffled) == whole_version(1, workers)


@given(STATUS, st.integers(1, 4))
def test_what_all_workers_say_is_what_is_said(status: VersionStatus, count: int) -> None:
    assert whole_version(1, [status] * count) == status


def test_a_version_that_one_worker_could_not_load_has_failed() -> None:
    assert whole_version(1, [VersionStatus(1, State.AVAILABLE), VersionStatus(1, State.END, ERROR)]) == VersionStatus(
        1, State.END, ERROR
    )


def test_a_version_that_one_worker_has_given_up_is_on_its_way_out() -> None:
    statuses = [VersionStatus(1, State.AVAILABLE), VersionStatus(1, State.END)]
    assert whole_version(1, statuses).state is State.UNLOADING


def test_a_worker_that_takes_no_requests_counts_as_one_that_has_nothing() -> None:
    accepting = {1, 2}
    view = CrewView([1, 2], accepting.__contains__)
    own = [VersionStatus(7, State.AVAILABLE)]
    view.note(1, WorkerState((), {"m": own}))
    assert view.missing() == ["worker 2: it is starting"]
    view.note(2, WorkerState(("m is LOADING",), {"m": [VersionStatus(7, State.LOADING)]}))
    assert view.missing() == ["worker 2: m is LOADING"]
    assert view.whole("m", own)[0].state is State.LOADING
    view.note(2, WorkerState((), {"m": own}))
    assert view.missing() == []
    assert view.whole("m", own)[0].state is State.AVAILABLE
    accepting.remove(1)
    assert view.missing() == ["worker 1: it is starting"]
    assert view.whole("m", own)[0].state is State.LOADING

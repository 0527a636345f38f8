"""The manager loads before it unloads, retries, reports, and never unloads what somebody uses."""

import gc
import threading
from dataclasses import replace

import pytest

from loader.lifecycle import LoadOptions
from loader.model_versions import MAX_ENDED_VERSIONS
from loader.servable import ModelSpec, State
from loader.status import Code, ServingError
from loader.transition import Transition
from tests.loader.counted import PATIENCE, QUICK, Shelf, answers, aspire, states, stored, until

LATEST = ModelSpec("m")


def test_a_request_without_a_version_gets_the_highest_loaded_one() -> None:
    manager = Shelf().manager()
    aspire(manager, 3, 10, 9)
    assert answers(manager, LATEST) == 10
    assert answers(manager, ModelSpec("m", 9)) == 9


@pytest.mark.parametrize(
    ("spec", "code", "text"),
    [
        (ModelSpec("nope"), Code.NOT_FOUND, "Servable not found for request: Latest(nope)"),
        (ModelSpec("m", 99), Code.NOT_FOUND, "Servable not found for request: Specific(m, 99)"),
        (ModelSpec("nope", 0), Code.NOT_FOUND, "Servable not found for request: Specific(nope, 0)"),
        (ModelSpec(""), Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
    ],
)
def test_what_is_not_loaded_is_refused_in_the_stock_servers_words(spec: ModelSpec, code: Code, text: str) -> None:
    manager = Shelf().manager()
    aspire(manager, 1)
    with pytest.raises(ServingError) as error:
        manager.handle(spec)
    assert (error.value.code, error.value.message) == (code, text)


def test_unknown_models_and_versions_have_no_status() -> None:
    manager = Shelf().manager()
    aspire(manager, 1)
    with pytest.raises(ServingError, match=r"^NOT_FOUND: Could not find any versions of model nope$"):
        manager.statuses("nope")
    with pytest.raises(ServingError, match=r"^NOT_FOUND: Could not find version 9 of model m$"):
        manager.status("m", 9)
    with pytest.raises(ServingError, match=r"^NOT_FOUND: Could not find version 9 of model nope$"):
        manager.status("nope", 9)
    assert manager.status("m", 1).state == State.AVAILABLE


def test_statuses_are_listed_highest_version_first_and_ended_ones_stay() -> None:
    manager = Shelf().manager()
    aspire(manager, 1)
    aspire(manager, 2, 3)
    assert [(s.version, s.state) for s in manager.statuses("m")] == [
        (3, State.AVAILABLE),
        (2, State.AVAILABLE),
        (1, State.END),
    ]


def test_the_old_version_answers_until_the_new_one_does() -> None:
    shelf = Shelf()
    manager = shelf.manager()
    aspire(manager, 1)
    gate = shelf.gate(2)
    manager.set_aspired("m", [stored(2)])
    until(manager, lambda: shelf.loads[2] == 1 or states(manager).get(2) == State.LOADING)
    assert answers(manager, LATEST) == 1
    gate.set()
    until(manager, lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})
    assert answers(manager, LATEST) == 2


def test_resource_preserving_never_has_two_versions_in_memory() -> None:
    shelf = Shelf()
    manager = shelf.manager(transition=Transition.RESOURCE_PRESERVING)
    aspire(manager, 1)
    with manager.handle(LATEST):
        manager.set_aspired("m", [stored(2)])
        until(manager, lambda: states(manager)[1] == State.UNLOADING)
        assert states(manager) == {1: State.UNLOADING, 2: State.START}
        assert shelf.loads[2] == 0
    until(manager, lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})
    assert [session.closed for session in shelf.sessions] == [True, False]


def test_a_version_in_use_is_unloaded_only_when_its_last_user_is_done() -> None:
    shelf = Shelf()
    manager = shelf.manager()
    aspire(manager, 1)
    first, second = manager.handle(LATEST), manager.handle(LATEST)
    manager.set_aspired("m", [stored(2)])
    until(manager, lambda: states(manager) == {1: State.UNLOADING, 2: State.AVAILABLE})
    first.release()
    first.release()
    assert second.servable.model.session.run({}, []) == [1]
    second.release()
    until(manager, lambda: states(manager)[1] == State.END)
    assert shelf.sessions[0].closed


def test_a_handle_that_is_dropped_lets_its_version_go() -> None:
    manager = Shelf().manager()
    aspire(manager, 1)
    handle = manager.handle(LATEST)
    manager.set_aspired("m", [])
    until(manager, lambda: states(manager)[1] == State.UNLOADING)
    del handle
    gc.collect()
    until(manager, lambda: states(manager)[1] == State.END)


def test_a_slow_request_on_one_version_does_not_keep_others_from_unloading() -> None:
    manager = Shelf().manager(replace(QUICK, num_unload_threads=1))
    aspire(manager, 1, 2)
    with manager.handle(ModelSpec("m", 1)):
        manager.set_aspired("m", [stored(3)])
        until(manager, lambda: states(manager) == {1: State.UNLOADING, 2: State.END, 3: State.AVAILABLE})
    until(manager, lambda: states(manager)[1] == State.END)


def test_a_version_that_is_wanted_again_is_loaded_again() -> None:
    shelf = Shelf()
    manager = shelf.manager()
    aspire(manager, 1)
    aspire(manager)
    with pytest.raises(ServingError, match=r"Latest\(m\)"):
        manager.handle(LATEST)
    aspire(manager, 1)
    assert shelf.loads[1] == 2
    assert answers(manager, LATEST) == 1


def test_a_version_that_is_wanted_again_while_it_is_still_in_use_is_loaded_beside_it() -> None:
    manager = Shelf().manager()
    aspire(manager, 1)
    with manager.handle(LATEST) as old:
        manager.set_aspired("m", [])
        until(manager, lambda: states(manager)[1] == State.UNLOADING)
        manager.set_aspired("m", [stored(1)])
        until(manager, lambda: states(manager)[1] == State.AVAILABLE)
        with manager.handle(LATEST) as new:
            assert new.servable is not old.servable
            assert old.servable.model.session.run({}, []) == new.servable.model.session.run({}, [])


def test_a_moved_base_path_replaces_the_version_of_the_same_number_without_a_gap() -> None:
    shelf = Shelf()
    manager = shelf.manager()
    aspire(manager, 1)
    gate = shelf.gate(1)
    manager.set_aspired("m", [stored(1, base="/moved/m")])
    until(manager, lambda: shelf.loads[1] >= 1)
    with manager.handle(LATEST) as handle:
        assert str(handle.servable.model.path) == "/models/m/1"
    gate.set()
    until(manager, lambda: shelf.sessions[0].closed)
    with manager.handle(LATEST) as handle:
        assert str(handle.servable.model.path) == "/moved/m/1"


def test_a_loaded_version_stays_as_it_is_when_its_files_change() -> None:
    shelf = Shelf()
    manager = shelf.manager()
    aspire(manager, 1)
    manager.set_aspired("m", [stored(1, fingerprint="b")])
    aspire(manager, 1, 2)
    assert shelf.loads[1] == 1


def test_a_load_that_fails_is_tried_again_as_often_as_allowed() -> None:
    shelf = Shelf()
    shelf.failures[1] = [OSError("reset"), OSError("reset")]
    manager = shelf.manager(replace(QUICK, max_num_load_retries=2))
    aspire(manager, 1)
    assert shelf.loads[1] == 3
    assert manager.statuses("m")[0].error is None


def test_a_version_that_keeps_failing_ends_with_its_error_while_the_old_one_answers() -> None:
    shelf = Shelf()
    shelf.broken.add((2, "a"))
    manager = shelf.manager(replace(QUICK, max_num_load_retries=3))
    aspire(manager, 1)
    manager.set_aspired("m", [stored(2)])
    until(manager, lambda: states(manager)[2] == State.END)
    assert shelf.loads[2] == 4
    status = manager.status("m", 2)
    assert status.error is not None
    assert (status.error.code, status.error.message) == (Code.DATA_LOSS, "version 2 is broken")
    assert answers(manager, LATEST) == 1


def test_a_failed_version_is_not_tried_again_for_as_long_as_it_stays_the_same() -> None:
    shelf = Shelf()
    shelf.broken.add((1, "a"))
    manager = shelf.manager()
    manager.set_aspired("m", [stored(1)])
    until(manager, lambda: states(manager) == {1: State.END})
    manager.set_aspired("m", [stored(1)])
    aspire(manager, 3, name="other")
    assert shelf.loads[1] == 1


def test_a_failed_version_is_tried_again_when_its_bytes_change() -> None:
    shelf = Shelf()
    shelf.broken.add((1, "a"))
    manager = shelf.manager()
    manager.set_aspired("m", [stored(1)])
    until(manager, lambda: states(manager) == {1: State.END})
    manager.set_aspired("m", [stored(1, fingerprint="b")])
    until(manager, lambda: states(manager) == {1: State.AVAILABLE})


def test_a_failed_version_is_tried_again_when_its_path_disappears_and_returns() -> None:
    shelf = Shelf()
    shelf.failures[1] = [OSError("reset")]
    manager = shelf.manager()
    manager.set_aspired("m", [stored(1)])
    until(manager, lambda: states(manager) == {1: State.END})
    manager.set_aspired("m", [])
    manager.set_aspired("m", [stored(1)])
    until(manager, lambda: states(manager) == {1: State.AVAILABLE})


SLOW_RETRY = LoadOptions(max_num_load_retries=5, load_retry_interval_micros=3_600_000_000)
"""Who waits for a retry here waits for an hour."""


def test_the_last_error_is_shown_while_a_version_waits_for_its_next_try() -> None:
    shelf = Shelf()
    shelf.failures[1] = [OSError("connection reset")]
    manager = shelf.manager(SLOW_RETRY)
    manager.set_aspired("m", [stored(1)])
    until(manager, lambda: manager.status("m", 1).error is not None)
    status = manager.status("m", 1)
    assert status.state == State.LOADING
    assert status.error is not None
    assert "connection reset" in status.error.message


def test_a_pending_retry_is_cancelled_when_the_version_is_no_longer_wanted() -> None:
    shelf = Shelf()
    shelf.failures[1] = [OSError("reset")]
    manager = shelf.manager(SLOW_RETRY)
    manager.set_aspired("m", [stored(1)])
    until(manager, lambda: manager.status("m", 1).error is not None)
    manager.set_aspired("m", [])
    until(manager, lambda: states(manager) == {1: State.END})
    error = manager.status("m", 1).error
    assert error is not None
    assert error.code == Code.CANCELLED
    assert shelf.loads[1] == 1


def test_a_pending_retry_happens_at_once_when_the_bytes_change() -> None:
    shelf = Shelf()
    shelf.broken.add((1, "a"))
    manager = shelf.manager(SLOW_RETRY)
    manager.set_aspired("m", [stored(1)])
    until(manager, lambda: manager.status("m", 1).error is not None)
    manager.set_aspired("m", [stored(1, fingerprint="b")])
    until(manager, lambda: states(manager) == {1: State.AVAILABLE})


def test_a_version_that_waits_for_its_retry_keeps_no_other_from_loading() -> None:
    shelf = Shelf()
    shelf.failures[9] = [OSError("reset")]
    manager = shelf.manager(replace(SLOW_RETRY, num_initial_load_threads=1))
    manager.set_aspired("bad", [stored(9)])
    aspire(manager, 1, name="good")
    assert answers(manager, ModelSpec("good")) == 1


def test_a_load_that_ends_after_it_was_cancelled_is_closed_and_never_served() -> None:
    shelf = Shelf()
    gate = shelf.gate(1)
    manager = shelf.manager()
    manager.set_aspired("m", [stored(1)])
    until(manager, lambda: states(manager) == {1: State.LOADING})
    manager.set_aspired("m", [])
    gate.set()
    until(manager, lambda: states(manager) == {1: State.END})
    assert [session.closed for session in shelf.sessions] == [True]


def test_an_unforeseen_exception_is_shown_by_its_type_and_not_its_text(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.failures[1] = [ValueError("secret")]
    manager = shelf.manager()
    manager.set_aspired("m", [stored(1)])
    until(manager, lambda: states(manager) == {1: State.END})
    error = manager.status("m", 1).error
    assert error is not None
    assert error.code == Code.INTERNAL
    assert "secret" not in error.message
    assert "ValueError: secret" in caplog.text


def test_first_loads_run_together_and_later_ones_as_many_as_allowed() -> None:
    shelf = Shelf()
    gates = [shelf.gate(version) for version in (1, 2, 3)]
    manager = shelf.manager(replace(QUICK, num_initial_load_threads=3, num_load_threads=1))
    manager.set_aspired("m", [stored(1), stored(2), stored(3)])
    until(manager, lambda: list(states(manager).values()) == [State.LOADING] * 3)
    for gate in gates:
        gate.set()
    manager.wait_until_available(timeout=PATIENCE)
    shelf.most_at_once = 0
    aspire(manager, 1, 2, 3, 4, 5, 6)
    assert shelf.most_at_once == 1


def test_the_highest_version_is_loaded_first() -> None:
    shelf = Shelf()
    manager = shelf.manager(replace(QUICK, num_initial_load_threads=1, num_load_threads=1))
    aspire(manager, 1, 3, 2)
    assert shelf.order == [3, 2, 1]


def test_a_model_of_many_versions_does_not_keep_another_model_waiting() -> None:
    shelf = Shelf()
    gate = shelf.gate(30)
    manager = shelf.manager(replace(QUICK, num_initial_load_threads=1))
    manager.set_aspired("many", [stored(version) for version in range(21, 31)])
    manager.set_aspired("one", [stored(1)])
    gate.set()
    manager.wait_until_available(timeout=PATIENCE)
    assert shelf.order.index(1) <= 2


def test_a_version_that_is_not_complete_is_shown_as_start_with_what_it_lacks() -> None:
    manager = Shelf().manager()
    lacks = ServingError(Code.UNAVAILABLE, "version 2 of m is not complete in storage: variables.index is missing")
    manager.set_aspired("m", [stored(1)], {2: lacks})
    manager.wait_until_available(timeout=PATIENCE)
    assert [(s.version, s.state, s.error) for s in manager.statuses("m")] == [
        (2, State.START, lacks),
        (1, State.AVAILABLE, None),
    ]


def test_the_old_version_stays_while_the_only_wanted_one_is_not_complete() -> None:
    manager = Shelf().manager()
    aspire(manager, 1)
    manager.set_aspired("m", [], {2: ServingError(Code.UNAVAILABLE, "not complete")})
    assert answers(manager, LATEST) == 1
    manager.set_aspired("m", [stored(2)])
    until(manager, lambda: states(manager) == {1: State.END, 2: State.AVAILABLE})


def test_ready_waits_for_every_version_of_every_model() -> None:
    shelf = Shelf()
    manager = shelf.manager()
    assert not manager.ready
    manager.set_models(["m", "n"])
    gate = shelf.gate(2)
    manager.set_aspired("m", [stored(1), stored(2)])
    until(manager, lambda: states(manager)[1] == State.AVAILABLE)
    assert not manager.ready
    gate.set()
    until(manager, lambda: states(manager)[2] == State.AVAILABLE)
    assert not manager.ready
    assert manager.waiting_for() == ["n: no version was found yet"]
    manager.set_aspired("n", [stored(1)])
    manager.wait_until_available(timeout=PATIENCE)
    assert manager.ready


def test_ready_stays_true_when_a_later_version_fails_and_ends_with_close() -> None:
    shelf = Shelf()
    shelf.broken.add((2, "a"))
    manager = shelf.manager()
    aspire(manager, 1)
    manager.set_aspired("m", [stored(2)])
    until(manager, lambda: states(manager)[2] == State.END)
    assert manager.ready
    assert manager.close(PATIENCE)
    assert not manager.ready


@pytest.mark.parametrize("despite", [False, True])
def test_a_failed_model_keeps_the_server_from_ready_unless_set_otherwise(despite: bool) -> None:
    shelf = Shelf()
    shelf.broken.add((2, "a"))
    manager = shelf.manager(ready_despite_failed_models=despite)
    manager.set_models(["good", "bad"])
    manager.set_aspired("good", [stored(1)])
    manager.set_aspired("bad", [stored(2)])
    with pytest.raises(ServingError) as error:
        manager.wait_until_available(timeout=PATIENCE)
    assert error.value.code == Code.UNKNOWN
    assert error.value.message == (
        "1 model(s) did not become available: {{{name: bad version: 2} due to error: DATA_LOSS: version 2 is broken}, }"
    )
    assert answers(manager, ModelSpec("good")) == 1
    assert manager.ready is despite


def test_a_server_whose_failed_model_is_mended_becomes_ready() -> None:
    shelf = Shelf()
    shelf.broken.add((1, "a"))
    manager = shelf.manager()
    manager.set_aspired("m", [stored(1)])
    until(manager, lambda: states(manager) == {1: State.END})
    assert not manager.ready
    manager.set_aspired("m", [stored(1, fingerprint="b")])
    until(manager, lambda: manager.ready)


def test_who_waits_too_long_is_told_what_for() -> None:
    manager = Shelf().manager()
    manager.set_models(["m"])
    manager.set_problem("m", ServingError(Code.NOT_FOUND, "Could not find base path /models/m"))
    with pytest.raises(ServingError) as error:
        manager.wait_until_available(timeout=0.01)
    assert error.value.code == Code.DEADLINE_EXCEEDED
    assert error.value.message == "models not available after 0.01 s: m: Could not find base path /models/m"


def test_who_waits_is_woken_by_close() -> None:
    manager = Shelf().manager()
    manager.set_models(["m"])
    threading.Timer(0.01, manager.close).start()
    with pytest.raises(ServingError, match=r"^UNAVAILABLE"):
        manager.wait_until_available(timeout=PATIENCE)


def test_a_model_that_is_no_longer_declared_is_unloaded_and_its_status_stays() -> None:
    manager = Shelf().manager()
    aspire(manager, 1)
    aspire(manager, 2, name="other")
    manager.set_models(["other"])
    until(manager, lambda: states(manager) == {1: State.END})
    assert manager.names() == ["other"]


def test_ended_versions_are_listed_up_to_a_limit_and_the_running_one_always() -> None:
    manager = Shelf().manager()
    for version in range(1, MAX_ENDED_VERSIONS + 12):
        aspire(manager, version)
    listed = manager.statuses("m")
    assert len(listed) == MAX_ENDED_VERSIONS + 1
    assert listed[0].state == State.AVAILABLE
    assert listed[-1].version == 11


def test_close_waits_for_running_requests_and_gives_no_new_handles() -> None:
    shelf = Shelf()
    manager = shelf.manager()
    aspire(manager, 1)
    with manager.handle(LATEST) as handle:
        assert not manager.close(0.01)
        with pytest.raises(ServingError, match=r"^UNAVAILABLE: the server is shutting down"):
            manager.handle(LATEST)
        assert handle.servable.model.session.run({}, []) == [1]
    assert manager.close(PATIENCE)
    assert shelf.sessions[0].closed
    manager.set_aspired("m", [stored(5)])
    assert shelf.loads[5] == 0


def test_close_without_models_is_done_at_once() -> None:
    assert Shelf().manager().close(0)

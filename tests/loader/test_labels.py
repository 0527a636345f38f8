"""Labels move only to versions that answer, all of them together or none."""

import pytest

from loader.labels import check_labels
from loader.servable import ModelSpec
from loader.status import Code, ServingError
from tests.loader.counted import Shelf, answers, aspire, stored


def assign(wanted: dict[str, int], *, current: dict[str, int], available: set[int], allow: bool) -> None:
    check_labels({"m": current}, {"m": wanted}, lambda _, version: version in available, allow_unavailable=allow)


def test_a_label_on_a_version_that_answers_is_taken() -> None:
    assign({"stable": 1, "canary": 2}, current={}, available={1, 2}, allow=False)


def test_many_labels_may_point_at_one_version() -> None:
    assign({"stable": 1, "old": 1}, current={}, available={1}, allow=False)


def test_a_label_on_a_version_that_does_not_answer_is_refused() -> None:
    with pytest.raises(ServingError) as error:
        assign({"stable": 1, "canary": 2}, current={}, available={1}, allow=False)
    assert error.value.code == Code.FAILED_PRECONDITION
    assert error.value.message == (
        "Request to assign label to version 2 of model m, which is not currently available for inference"
    )


def test_with_the_flag_a_new_label_may_point_at_what_does_not_answer_yet() -> None:
    assign({"stable": 2}, current={}, available=set(), allow=True)


def test_with_the_flag_a_label_may_stay_on_what_no_longer_answers() -> None:
    assign({"stable": 2}, current={"stable": 2}, available=set(), allow=True)


def test_with_the_flag_a_label_still_moves_only_to_what_answers() -> None:
    with pytest.raises(ServingError, match="Request to assign label to version 3"):
        assign({"stable": 3}, current={"stable": 2}, available={2}, allow=True)
    assign({"stable": 3}, current={"stable": 2}, available={3}, allow=True)


def test_requests_follow_a_label_when_it_moves() -> None:
    manager = Shelf().manager()
    aspire(manager, 1, 2)
    manager.set_labels({"m": {"stable": 1}})
    assert answers(manager, ModelSpec("m", label="stable")) == 1
    manager.set_labels({"m": {"stable": 2}})
    assert answers(manager, ModelSpec("m", label="stable")) == 2
    assert manager.labels("m") == {"stable": 2}


def test_refused_labels_change_nothing() -> None:
    manager = Shelf().manager()
    aspire(manager, 1)
    manager.set_labels({"m": {"stable": 1}})
    with pytest.raises(ServingError, match="version 9 of model m"):
        manager.set_labels({"m": {"stable": 1, "canary": 9}})
    assert manager.labels("m") == {"stable": 1}


def test_labels_left_out_are_gone() -> None:
    manager = Shelf().manager()
    aspire(manager, 1)
    manager.set_labels({"m": {"stable": 1}})
    manager.set_labels({})
    assert manager.labels("m") == {}
    with pytest.raises(ServingError, match=r"^INVALID_ARGUMENT: Unrecognized servable version label: stable$"):
        manager.handle(ModelSpec("m", label="stable"))


def test_an_unknown_label_is_an_invalid_argument_even_of_an_unknown_model() -> None:
    with pytest.raises(ServingError, match=r"^INVALID_ARGUMENT: Unrecognized servable version label: stable$"):
        Shelf().manager().handle(ModelSpec("nope", label="stable"))


def test_a_label_whose_version_is_not_loaded_is_not_found_under_its_version() -> None:
    manager = Shelf().manager()
    manager.set_labels({"m": {"canary": 2}}, allow_unavailable=True)
    with pytest.raises(ServingError, match=r"^NOT_FOUND: Servable not found for request: Specific\(m, 2\)$"):
        manager.handle(ModelSpec("m", label="canary"))
    manager.set_aspired("m", [stored(2)])
    manager.wait_until_available()
    assert answers(manager, ModelSpec("m", label="canary")) == 2

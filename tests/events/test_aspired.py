"""What is to be deployed follows from real files in storage, the policy, and what has landed."""

import os
import shutil
import time

import pytest

from events.aspired import SETTLED_SECONDS, Overwritten, aspired
from loader.completeness import missing
from loader.policy import All, Latest, Specific
from loader.storage import open_storage
from tests.functions.served import GOLDEN_MODELS

MODEL = GOLDEN_MODELS / "half_plus_two" / "1"


@pytest.fixture
def model(tmp_path):
    for version in (1, 2, 7):
        shutil.copytree(MODEL, tmp_path / str(version))
    return tmp_path


def look(model, policy, landed=(), overwritten=Overwritten.REFUSE):
    return aspired(open_storage(str(model)), policy, dict(landed), missing, overwritten)


@pytest.mark.parametrize(
    ("policy", "versions"),
    [(Latest(), {7}), (Latest(2), {2, 7}), (All(), {1, 2, 7}), (Specific(frozenset({1, 5})), {1})],
)
def test_the_policy_chooses_among_what_is_there(model, policy, versions):
    found = look(model, policy)
    assert set(found.versions) == versions
    assert found.listed == {1, 2, 7}
    assert not found.lacking
    assert not found.notes


def test_where_the_chosen_version_is_not_complete_the_next_one_takes_its_place(model):
    (model / "7" / "variables" / "variables.index").unlink()
    found = look(model, Latest())
    assert set(found.versions) == {2}
    assert "variables/variables.index" in found.lacking[7]


def test_a_version_that_landed_stays_while_its_files_are_replaced(model):
    landed = {7: look(model, Latest()).versions[7]}
    (model / "7" / "variables" / "variables.index").unlink()
    found = look(model, Latest(), landed)
    assert found.versions == landed
    assert not found.lacking
    assert "version 7 changed after it landed" in found.notes[0]
    shutil.rmtree(model / "7")
    assert set(look(model, Latest(), landed).versions) == {2}


def test_replaced_files_are_taken_where_wanted_once_they_are_complete_and_settled(model):
    landed = {7: look(model, Latest()).versions[7]}
    index = model / "7" / "variables" / "variables.index"
    content = index.read_bytes()
    index.unlink()
    found = look(model, Latest(), landed, Overwritten.REDEPLOY)
    assert (found.versions, "variables.index" in found.notes[0]) == (landed, True)
    index.write_bytes(content)
    found = look(model, Latest(), landed, Overwritten.REDEPLOY)
    assert (found.versions, "nothing has changed for" in found.notes[0]) == (landed, True)
    old = time.time() - SETTLED_SECONDS - 1
    for file in (model / "7").rglob("*"):
        os.utime(file, (old, old))
    found = look(model, Latest(), landed, Overwritten.REDEPLOY)
    assert found.versions != landed
    assert not found.notes


def test_numbers_that_no_pod_could_be_asked_for_are_left_out_with_a_note(model):
    shutil.copytree(MODEL, model / "0")
    shutil.copytree(MODEL, model / "-3")
    found = look(model, All())
    assert set(found.versions) == {1, 2, 7}
    assert len(found.notes) == 2


def test_a_base_path_that_is_not_there_holds_nothing(tmp_path):
    found = look(tmp_path / "none", Latest())
    assert (found.versions, found.listed) == ({}, frozenset())

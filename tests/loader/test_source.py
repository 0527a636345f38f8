"""The source wants what storage holds, and keeps what is served while storage cannot tell."""

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from loader.completeness import missing
from loader.config_file import ConfigFile
from loader.manager import ServableManager
from loader.model_config import ModelConfig
from loader.policy import All, Latest, Specific, VersionPolicy
from loader.servable import ModelSpec, State
from loader.source import SourceOptions, StorageSource
from loader.status import Code, ServingError
from loader.storage import open_storage
from tests.loader.counted import PATIENCE, Shelf, answers, states, until

LATEST = ModelSpec("m")


class World:
    """A base path that a test fills, and who watches it. Each `look` is one poll."""

    def __init__(self, root: Path, golden: Path, **options: object) -> None:
        self.base = root / "models" / "m"
        self.golden = golden / "half_plus_two" / "1"
        self.shelf = Shelf()
        self.manager: ServableManager = self.shelf.manager()
        self.source = StorageSource(self.manager, open_storage, missing, SourceOptions(-1, **options))

    def put(self, *versions: int, base: Path | None = None) -> None:
        for version in versions:
            shutil.copytree(self.golden, (base or self.base) / str(version), dirs_exist_ok=True)

    def config(self, policy: VersionPolicy | None = None, **fields: object) -> ModelConfig:
        return ModelConfig("m", str(self.base), policy or Latest(), **fields)

    def look(self) -> None:
        self.source.poll()

    def serves(self, *versions: int) -> None:
        """Looks, and waits until exactly these versions answer."""
        self.look()
        until(
            self.manager,
            lambda: (
                {v for v, state in states(self.manager).items() if state == State.AVAILABLE} == set(versions)
                and not {State.LOADING, State.UNLOADING} & set(states(self.manager).values())
            ),
        )


@pytest.fixture
def world(tmp_path: Path, golden: Path) -> World:
    return World(tmp_path, golden)


@pytest.mark.parametrize(
    ("policy", "served"),
    [(Latest(1), [9]), (Latest(2), [9, 7]), (All(), [1, 7, 9]), (Specific(frozenset({1, 7, 8})), [1, 7])],
)
def test_each_policy_serves_its_choice(world: World, policy: VersionPolicy, served: Sequence[int]) -> None:
    world.put(1, 7, 9)
    world.source.reload([world.config(policy)])
    world.serves(*served)


def test_a_new_version_replaces_the_old_one_and_a_removed_one_goes(world: World) -> None:
    world.put(1)
    world.source.reload([world.config()])
    world.serves(1)
    world.put(2)
    world.serves(2)
    shutil.rmtree(world.base / "2")
    world.serves(1)


def test_a_version_that_is_in_use_when_it_is_removed_finishes_its_requests(world: World) -> None:
    world.put(1)
    world.source.reload([world.config()])
    world.serves(1)
    with world.manager.handle(LATEST) as handle:
        shutil.rmtree(world.base / "1")
        world.look()
        until(world.manager, lambda: states(world.manager)[1] == State.UNLOADING)
        assert handle.servable.model.session.run({}, []) == [1]
    until(world.manager, lambda: states(world.manager)[1] == State.END)


def test_a_missing_base_path_changes_nothing_and_is_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.put(1)
    world.source.reload([world.config()])
    world.serves(1)
    world.base.rename(world.base.with_name("gone"))
    world.serves(1)
    world.serves(1)
    said = [record.message for record in caplog.records if "Could not find base path" in record.message]
    assert len(said) == 1
    assert said[0].startswith(f"Could not find base path {world.base} for servable m with error NOT_FOUND: ")
    world.base.with_name("gone").rename(world.base)
    world.serves(1)
    world.base.rename(world.base.with_name("gone"))
    world.serves(1)
    assert sum("Could not find base path" in record.message for record in caplog.records) == 2


def test_a_missing_base_path_concerns_its_own_model_only(world: World) -> None:
    world.put(1)
    world.source.reload([ModelConfig("lost", "/nowhere/at/all"), world.config()])
    world.serves(1)
    assert world.manager.waiting_for() == world.manager.waiting_for(["lost"]) != []


def test_a_present_but_empty_base_path_unloads_all(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.put(1, 2)
    world.source.reload([world.config(All())])
    world.serves(1, 2)
    for version in (1, 2):
        shutil.rmtree(world.base / str(version))
    world.serves()
    assert (
        f"No versions of servable m found under base path {world.base}. "
        "Did you forget to name your leaf directory as a number (eg. '/1/')?"
    ) in caplog.text


def test_versions_that_must_be_present_are_kept_when_the_base_path_is_empty(tmp_path: Path, golden: Path) -> None:
    world = World(tmp_path, golden, servable_versions_always_present=True)
    world.put(1)
    world.source.reload([world.config()])
    world.serves(1)
    shutil.rmtree(world.base / "1")
    world.serves(1)
    world.put(2)
    world.serves(2)


def test_an_incomplete_version_is_not_loaded_and_its_status_names_what_is_missing(world: World) -> None:
    world.put(1, 2)
    shard = world.base / "2" / "variables" / "variables.data-00000-of-00001"
    shard.rename(world.base / "late")
    world.source.reload([world.config()])
    world.serves(1)
    status = world.manager.status("m", 2)
    assert status.state == State.START
    assert status.error is not None
    assert status.error.code == Code.UNAVAILABLE
    assert "variables.data-00000-of-00001" in status.error.message
    assert world.shelf.loads[2] == 0
    (world.base / "late").rename(shard)
    world.serves(2)


def test_when_the_only_version_is_incomplete_the_removed_one_keeps_answering(world: World) -> None:
    world.put(1)
    world.source.reload([world.config()])
    world.serves(1)
    shutil.rmtree(world.base / "1")
    (world.base / "2").mkdir()
    shutil.copy(world.golden / "saved_model.pb", world.base / "2")
    world.serves(1)
    world.put(2)
    world.serves(2)


def test_a_running_version_that_is_rewritten_file_by_file_keeps_answering(world: World) -> None:
    world.put(1)
    world.source.reload([world.config()])
    world.serves(1)
    (world.base / "1" / "saved_model.pb").write_bytes(b"")
    world.serves(1)
    world.put(1)
    world.serves(1)
    assert world.shelf.loads[1] == 1


def test_a_failed_version_is_tried_again_when_its_changed_files_are_complete(world: World) -> None:
    world.put(1)
    world.shelf.failures[1] = [ServingError(Code.INTERNAL, "cannot")]
    world.source.reload([world.config()])
    world.look()
    until(world.manager, lambda: states(world.manager) == {1: State.END})
    world.look()
    assert world.shelf.loads[1] == 1
    (world.base / "1" / "saved_model.pb").unlink()
    world.look()
    assert world.shelf.loads[1] == 1
    world.put(1)
    (world.base / "1" / "assets.extra").mkdir()
    (world.base / "1" / "assets.extra" / "note").write_text("new")
    world.serves(1)
    assert world.shelf.loads[1] == 2


def test_a_specific_version_that_is_not_there_is_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.put(1)
    world.source.reload([world.config(Specific(frozenset({1, 3})))])
    world.serves(1)
    assert (
        "Version 3 of servable m, which was requested to be served as a 'specific' version in the servable's version "
        "policy, was not found in the file system"
    ) in caplog.text


def test_a_changed_policy_takes_effect(world: World) -> None:
    world.put(1, 2)
    world.source.reload([world.config()])
    world.serves(2)
    assert world.source.reload([world.config(All())]) == []
    world.serves(1, 2)
    world.source.reload([world.config(Specific(frozenset({1})))])
    world.serves(1)


def test_a_changed_base_path_takes_effect_without_a_gap(world: World, tmp_path: Path) -> None:
    world.put(1)
    world.source.reload([world.config()])
    world.serves(1)
    moved = tmp_path / "elsewhere"
    world.source.reload([ModelConfig("m", str(moved))])
    world.serves(1)  # nothing is there yet, so what is served stays
    world.put(1, base=moved)
    world.look()
    until(world.manager, lambda: [session.closed for session in world.shelf.sessions] == [True, False])
    with world.manager.handle(LATEST) as handle:
        assert handle.servable.model.path == moved / "1"


def test_a_model_left_out_of_a_reload_is_unloaded_and_a_new_one_is_loaded(world: World, tmp_path: Path) -> None:
    world.put(1)
    world.source.reload([world.config()])
    world.serves(1)
    world.put(5, base=tmp_path / "n")
    new = world.source.reload([ModelConfig("n", str(tmp_path / "n"))])
    assert new == ["n"]
    world.look()
    world.manager.wait_until_available(new, timeout=PATIENCE)
    until(world.manager, lambda: states(world.manager) == {1: State.END})
    assert world.manager.names() == ["n"]
    assert answers(world.manager, ModelSpec("n")) == 5


def test_an_empty_config_changes_nothing_and_an_empty_list_unloads_all(world: World) -> None:
    world.put(1)
    world.source.reload([world.config()])
    world.serves(1)
    assert world.source.reload(None) == []
    world.serves(1)
    world.source.reload([])
    until(world.manager, lambda: states(world.manager) == {1: State.END})


def test_a_reload_whose_labels_cannot_be_changes_nothing(world: World) -> None:
    world.put(1)
    world.source.reload([world.config()])
    world.serves(1)
    with pytest.raises(ServingError, match="version 2 of model m, which is not currently available for inference"):
        world.source.reload([world.config(All(), labels={"canary": 2}), ModelConfig("n", "/n")])
    assert world.source.configs == [world.config()]
    world.serves(1)
    assert world.manager.names() == ["m"]


def test_labels_of_the_first_config_need_the_flag(tmp_path: Path, golden: Path, world: World) -> None:
    world.put(1)
    with pytest.raises(ServingError, match=r"^FAILED_PRECONDITION: Request to assign label"):
        world.source.reload([world.config(labels={"stable": 1})])
    allowed = World(tmp_path, golden, allow_version_labels_for_unavailable_models=True)
    allowed.source.reload([allowed.config(labels={"stable": 1})])
    allowed.serves(1)
    assert answers(allowed.manager, ModelSpec("m", label="stable")) == 1


def test_a_reload_that_cannot_be_read_changes_nothing(world: World) -> None:
    world.put(1)
    world.source.reload([world.config()])
    with pytest.raises(ServingError, match="multiple times"):
        world.source.reload([world.config(), world.config()])
    with pytest.raises(ServingError, match="nonsense"):
        world.source.reload([ModelConfig("m", "nonsense://x")])
    world.serves(1)


def test_the_watch_finds_new_versions_by_itself_and_at_once_when_told(tmp_path: Path, golden: Path) -> None:
    world = World(tmp_path, golden)
    source = StorageSource(world.manager, open_storage, missing, SourceOptions(3600))
    world.put(1)
    source.reload([world.config()])
    source.start()
    world.manager.wait_until_available(timeout=PATIENCE)
    world.put(2)
    source.poll_soon()
    until(world.manager, lambda: states(world.manager) == {1: State.END, 2: State.AVAILABLE})
    source.close(PATIENCE)


def test_the_watch_finds_new_versions_in_its_period(tmp_path: Path, golden: Path) -> None:
    world = World(tmp_path, golden)
    source = StorageSource(world.manager, open_storage, missing, SourceOptions(0.01))
    world.base.mkdir(parents=True)
    source.reload([world.config()])
    source.start()
    world.put(1)
    world.manager.wait_until_available(timeout=PATIENCE)
    source.close(PATIENCE)


class TestConfigFile:
    def write(self, world: World, path: Path, policy: str = "") -> None:
        path.write_text(
            f'model_config_list {{ config {{ name: "m" base_path: "{world.base}" model_platform: "tensorflow" '
            f"{policy} }} }}"
        )

    def test_a_changed_file_is_applied(self, world: World, tmp_path: Path) -> None:
        path = tmp_path / "models.conf"
        world.put(1, 2)
        self.write(world, path)
        file = ConfigFile(str(path), world.source.reload)
        assert file.apply() == ["m"]
        world.serves(2)
        self.write(world, path, "model_version_policy { all {} }")
        file.check()
        world.serves(1, 2)

    def test_a_bad_file_is_logged_once_and_the_old_config_stays(
        self, world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "models.conf"
        world.put(1)
        self.write(world, path)
        file = ConfigFile(str(path), world.source.reload)
        file.apply()
        world.serves(1)
        path.write_text("model_config_list {\n nonsense")
        file.check()
        file.check()
        assert caplog.text.count(f"Invalid protobuf file: '{path}': 2:") == 1
        world.serves(1)
        path.unlink()
        file.check()
        assert f"no model config file at '{path}'" in caplog.text
        world.serves(1)

    def test_labels_that_could_not_be_yet_are_tried_again(self, world: World, tmp_path: Path) -> None:
        path = tmp_path / "models.conf"
        world.put(1)
        self.write(world, path)
        file = ConfigFile(str(path), world.source.reload)
        file.apply()
        self.write(world, path, 'version_labels { key: "stable" value: 1 }')
        file.check()
        assert world.manager.labels("m") == {}
        world.serves(1)
        file.check()
        assert world.manager.labels("m") == {"stable": 1}

    def test_a_reload_by_someone_else_stays_until_the_file_changes(self, world: World, tmp_path: Path) -> None:
        path = tmp_path / "models.conf"
        world.put(1, 2)
        self.write(world, path)
        file = ConfigFile(str(path), world.source.reload)
        file.apply()
        world.source.reload([world.config(All())])
        file.check()
        world.serves(1, 2)

    def test_a_missing_file_is_refused_at_the_start(self, world: World) -> None:
        with pytest.raises(ServingError, match=r"no model config file at '/nowhere/models.conf'"):
            ConfigFile("/nowhere/models.conf", world.source.reload).apply()

    def test_a_file_that_is_not_text_is_refused(self, world: World, tmp_path: Path) -> None:
        path = tmp_path / "models.conf"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ServingError, match="cannot be read"):
            ConfigFile(str(path), world.source.reload).apply()

    def test_the_file_is_watched(self, world: World, tmp_path: Path) -> None:
        path = tmp_path / "models.conf"
        world.put(1)
        path.write_text("model_config_list {}")
        file = ConfigFile(str(path), world.source.reload)
        file.apply()
        file.watch(0.01)
        self.write(world, path)
        until(world.manager, lambda: world.manager.names() == ["m"])
        file.close(PATIENCE)
        world.serves(1)


def test_without_a_period_storage_is_looked_at_until_all_that_is_wanted_is_there(tmp_path: Path, golden: Path) -> None:
    world, looks = World(tmp_path, golden), threading.Semaphore(0)
    world.put(1)
    graph = world.base / "1" / "saved_model.pb"
    kept = graph.rename(tmp_path / "kept.pb")
    source = StorageSource(
        world.manager, open_storage, missing, SourceOptions(0), looked=lambda name, seconds: looks.release()
    )
    source.reload([world.config(Specific(frozenset({1})))])
    source.start()
    try:
        assert looks.acquire(timeout=PATIENCE)
        kept.rename(graph)
        until(world.manager, lambda: states(world.manager).get(1) == State.AVAILABLE)
    finally:
        source.close()

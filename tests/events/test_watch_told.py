"""What a watcher remembers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.watch_event import Landed
from events.watch_told import Told


def landed(subject: str, fingerprint: str, base: str = "/m") -> Landed:
    return Landed(base, subject, fingerprint, 1, 1)


def test_a_version_is_known_until_it_changes() -> None:
    told = Told()
    told.note(landed("7", "a"))
    assert told.knows(landed("7", "a"))
    assert not told.knows(landed("7", "b"))
    assert not told.knows(landed("8", "a"))


def test_a_version_that_goes_and_returns_is_told_of_again() -> None:
    told = Told()
    told.note(landed("7", "a"))
    told.note(landed("7", "a", "/other"))
    assert told.keep("/m", set()) == [("/m", "7")]
    assert not told.knows(landed("7", "a"))
    assert told.knows(landed("7", "a", "/other"))


@given(st.dictionaries(st.tuples(st.text(), st.text()), st.text(alphabet="0123456789abcdef"), max_size=5))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, content: dict[tuple[str, str], str]
) -> None:
    file = tmp_path_factory.mktemp("told") / "state"
    told = Told(file)
    try:
        for (base, subject), fingerprint in content.items():
            told.note(landed(subject, fingerprint, base))
    except UnicodeEncodeError:
        return
    again = Told(file)
    assert all(again.knows(landed(subject, one, base)) for (base, subject), one in content.items())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": "b"}', '{"a b c": "d"}'])
def test_a_file_that_is_no_state_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "state"
    file.write_text(text)
    with pytest.raises(ValueError, match="not a watcher's state"):
        Told(file)


def test_no_other_files_are_left_beside_the_state(tmp_path: Path) -> None:
    told = Told(tmp_path / "state")
    for number in range(5):
        told.note(landed(str(number), "a"))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]

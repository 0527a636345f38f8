"""Who shows one of the secrets may send, in any of the ways that stores send it; nobody else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.sender import MAX_SECRETS, MIN_SECRET, SenderError, Senders, parse_secrets

SECRET = "a secret of enough characters"
SENDERS = Senders(lambda: (SECRET, "the new secret of tomorrow"), None, anonymous=False)


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {SECRET}",
        f"bearer {SECRET}",
        "Bearer the new secret of tomorrow",
        basic(f"sns:{SECRET}"),
        basic(f":{SECRET}"),
    ],
)
def test_a_secret_is_taken_however_it_is_sent(header):
    SENDERS.check({"authorization": header})


def test_a_secret_without_spaces_is_taken_alone():
    Senders(lambda: ("0123456789abcdef",), None, anonymous=False).check({"authorization": "0123456789abcdef"})


@pytest.mark.parametrize(
    "header",
    [
        "Bearer ",
        "Bearer another secret of some length",
        f"Bearer {SECRET}x",
        f"Basic {SECRET}",
        basic(SECRET),
        basic(f"{SECRET}:"),
        "Basic \xff",
        "Bearer a.b.c",
        "x" * 20_000,
    ],
)
def test_anything_else_is_not(header):
    with pytest.raises(SenderError) as refused:
        SENDERS.check({"authorization": header})
    assert refused.value.status == 403
    assert SECRET not in str(refused.value)


def test_who_says_nothing_is_asked_who_it_is_unless_anybody_may():
    with pytest.raises(SenderError) as refused:
        SENDERS.check({})
    assert refused.value.status == 401
    Senders(lambda: (), None, anonymous=True).check({})


@given(st.text())
def test_without_a_secret_nobody_may(header):
    with pytest.raises(SenderError):
        Senders(lambda: (), None, anonymous=False).check({"authorization": header})


def test_secrets_are_lines_of_a_file_and_short_ones_are_refused():
    assert parse_secrets(f"\n {SECRET} \n\n{SECRET[::-1]}\n") == (SECRET, SECRET[::-1])
    with pytest.raises(ValueError, match=f"secret 2 has 5 characters, wanted {MIN_SECRET}"):
        parse_secrets(f"{SECRET}\nshort")
    with pytest.raises(ValueError, match="secrets, at most"):
        parse_secrets(f"{SECRET}\n" * (MAX_SECRETS + 1))

"""What a door answers: a status, and next to nothing else. Pure.

A broker delivers again what is answered with 5xx, 404, 408, 409 or 429, and takes a 2xx with a body that is no event
for a failure; so good answers are empty, and only what sending again can heal gets a 5xx.

Source: knative/eventing pkg/kncloudevents/retries.go, pkg/broker/filter/filter_handler.go.
"""

from dataclasses import dataclass

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        status: of HTTP.
        text: why, for an error; one line.
        headers: name in small letters, value.
        content_type: of the text.
    """

    status: int
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = TEXT


DONE = Answer(204)
"""All is as it should be, or the event is about nothing that is deployed from here."""

STARTED = Answer(202)
"""A rollout is under way; nobody needs to send the event again."""


def again(text: str, seconds: float) -> Answer:
    """503: the same event may well succeed after so many seconds."""
    return Answer(503, text, (("retry-after", str(max(1, round(seconds)))),))


def refused(status: int, text: str) -> Answer:
    """An event that sending again does not heal."""
    return Answer(status, text)

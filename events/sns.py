"""Amazon SNS over HTTP: notifications, and the confirmation of a subscription. Pure.

SNS signs its messages with a certificate from a URL in the message; who may send is decided by what the subscription's
own URL carries (`https://user:secret@host/`) instead, see `events.sender`.

Source: docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html, .../SendMessageToHttp.prepare.html.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from events.error import MalformedError
from events.json_value import optional_text, text

CONFIRMATION = "SubscriptionConfirmation"
TYPES = frozenset({"Notification", CONFIRMATION, "UnsubscribeConfirmation"})

_HOST = re.compile(r"sns\.[a-z0-9-]{1,40}\.amazonaws\.com(\.cn)?")


def is_sns(value: Mapping[str, Any]) -> bool:
    """Whether this is a message of SNS."""
    return optional_text(value.get("Type")) in TYPES and "TopicArn" in value


def confirmation_url(value: Mapping[str, Any], topics: Collection[str]) -> str:
    """The URL to open so that the subscription begins.

    Args:
        value: a message of the type SubscriptionConfirmation.
        topics: the ARNs of the topics that we take messages of.

    Raises:
        MalformedError: another topic, or a URL that is not Amazon's: a stranger must not choose what we open.
    """
    topic = text(value.get("TopicArn"), "TopicArn")
    if topic not in topics:
        raise MalformedError(f"topic {topic!r:.200} is not among those that are taken; name it with --sns_topics")
    url = optional_text(value.get("SubscribeURL"))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise MalformedError("SubscribeURL is no URL") from None
    if parts.scheme != "https" or port or not _HOST.fullmatch(parts.netloc) or not url.isprintable() or " " in url:
        raise MalformedError(f"SubscribeURL {url!r:.200} is not one of Amazon SNS")
    return url

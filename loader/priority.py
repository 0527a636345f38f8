"""Which requests may wait for others: the caller says so, and batching heeds it.

The word travels beside a request, not in it, through everything that lies between the door and the scheduler; the
stock server's library does the same with a request's criticality. Source: xla/tsl/platform/criticality.h.
"""

from contextvars import ContextVar

LOW_WORDS = frozenset({b"low", b"sheddable", b"sheddable_plus"})
"""What a request says that may wait, in small letters; the longer words are the stock library's."""

low_priority: ContextVar[bool] = ContextVar("low_priority", default=False)
"""Whether the request that this context answers is one of low priority."""

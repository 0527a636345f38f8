"""`zeroserve` that counts nothing: what metrics cost is the difference to the real one."""

import sys

from functions.cli import main
from functions.observing import metrics


def _nothing(*_: object) -> None:
    """In the place of a sample."""


metrics.Counter.add = _nothing  # type: ignore[method-assign,assignment]
metrics.Histogram.observe = _nothing  # type: ignore[method-assign,assignment]
sys.exit(main())

"""Classifications and regressions as the stock server's messages, for answers and for logs of them. Pure.

Source: tensorflow_serving/apis/classification.proto, regression.proto; tensorflow/classifier.cc, regressor.cc.
"""

from collections.abc import Sequence
from typing import Any

from loader.dtypes import Array


def write_classifications(classes: Array | None, scores: Array | None, result: Any) -> None:
    """Fills a `ClassificationResult`.

    Args:
        classes: labels, string[batch, n]; None for none.
        scores: float32[batch, n]; None for none.
        result: the message.
    """
    labels = None if classes is None else classes.tolist()
    numbers = None if scores is None else scores.tolist()
    rows: Sequence[Any] = labels if labels is not None else numbers or ()
    for row in range(len(rows)):
        entry = result.classifications.add()
        for column in range(len(rows[row])):
            one = entry.classes.add()
            if labels is not None:
                label = labels[row][column]
                one.label = label.decode("utf-8", "replace") if isinstance(label, bytes) else label
            if numbers is not None:
                one.score = numbers[row][column]


def write_regressions(values: Array, result: Any) -> None:
    """Fills a `RegressionResult` with float32[batch]."""
    for value in values.tolist():
        result.regressions.add().value = value

"""The functions that an expression may call, and how many arguments each takes. Imports nothing."""

from collections.abc import Mapping

OPERATORS: Mapping[str, tuple[int, int]] = {
    "+": (2, 2),
    "-": (2, 2),
    "*": (2, 2),
    "/": (2, 2),
    "<": (2, 2),
    "<=": (2, 2),
    ">": (2, 2),
    ">=": (2, 2),
    "==": (2, 2),
    "!=": (2, 2),
    "and": (2, 2),
    "or": (2, 2),
    "not": (1, 1),
    "negative": (1, 1),
}
"""What the operators of the grammar become; none of these can be written as a call."""

MAX_ARGUMENTS = 16
"""Of one call."""

FUNCTIONS: Mapping[str, tuple[int, int]] = {
    "abs": (1, 1),
    "all": (1, 1),
    "any": (1, 1),
    "argmax": (1, 1),
    "average": (2, MAX_ARGUMENTS),
    "concat": (2, MAX_ARGUMENTS),
    "entropy": (1, 1),
    "exp": (1, 1),
    "if": (3, 3),
    "log": (1, 1),
    "margin": (1, 1),
    "max": (1, MAX_ARGUMENTS),
    "mean": (1, 1),
    "min": (1, MAX_ARGUMENTS),
    "round": (1, 1),
    "softmax": (1, 1),
    "sqrt": (1, 1),
    "sum": (1, 1),
    "vote": (2, MAX_ARGUMENTS),
}
"""Least and most arguments by name."""

FACTS = ("failed", "ran")
"""What can be asked of a step: `failed(large)`, `ran(large)`."""

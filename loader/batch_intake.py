"""A request as tasks for the queue: what it may share a batch with, how urgent it is, and its slices if it is large."""

from loader import batch
from loader.batch import Feeds, LengthRule
from loader.batch_kind import BatchKind
from loader.batch_queue import Task
from loader.batching_parameters import BatchingParameters
from loader.inline_cost import InlineCost
from loader.status import Code, ServingError

PATIENCE = 30.0
"""Seconds after which a request without a deadline is as urgent as one whose deadline is now: nobody starves."""

MAX_KINDS = 1024
"""Sets of outputs that one servable remembers; requests for others run alone."""


class BatchIntake:
    """Makes tasks of requests to one servable. Thread-safe.

    Args:
        parameters: sizes.
        rule: which dimensions may differ within a batch; None for none.
        fixed_rows: names of tensors whose 0th dimension is no batch dimension; a request that touches one runs alone.
    """

    def __init__(self, parameters: BatchingParameters, rule: LengthRule | None, fixed_rows: frozenset[str]) -> None:
        self._parameters = parameters
        self._rule = rule
        self._fixed_rows = fixed_rows
        self._kinds: dict[tuple[str, ...], BatchKind] = {}

    def tasks(
        self,
        feeds: Feeds,
        fetches: tuple[str, ...],
        rows: int | None,
        *,
        inline: InlineCost | None,
        deadline: float | None,
        now: float,
        low: bool = False,
    ) -> list[Task]:
        """The request as one task, or as its slices.

        Args:
            feeds: tensor name to array.
            fetches: tensor names.
            rows: what all inputs share, `batch.rows_of(feeds)`.
            inline: what is known of runs of this one alone.
            deadline: monotonic seconds after which nobody waits for the answer.
            now: monotonic seconds.
            low: of low priority.

        Raises:
            ServingError: INVALID_ARGUMENT for more rows than a batch takes.
        """
        kind = self._kinds.get(fetches) or self._new_kind(fetches)
        urgency = now + PATIENCE if deadline is None else deadline
        parameters = self._parameters
        max_rows, batch_rows = parameters.max_batch_size, parameters.batch_rows
        if low:
            max_rows = parameters.low_priority_max_batch_size
            batch_rows = min(batch_rows, max_rows)
            if not parameters.low_apart:  # in the one queue behind all others, and yet not for ever
                urgency += PATIENCE
                low = False
        if not rows or kind.alone or not self._fixed_rows.isdisjoint(fetches) or not self._fixed_rows.isdisjoint(feeds):
            return [Task(feeds, fetches, 1, None, deadline, urgency, now, kind, inline, whole=True, low=low)]
        if rows > max_rows:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Task size {rows} is larger than maximum input batch size {max_rows}"
            )
        key = fetches, batch.shape_key(feeds, self._rule)
        if rows <= batch_rows:
            return [Task(feeds, fetches, rows, key, deadline, urgency, now, kind, inline, whole=True, low=low)]
        return [
            Task(
                part,
                fetches,
                min(batch_rows, rows - start),
                key,
                deadline,
                urgency,
                now,
                kind,
                None,
                whole=False,
                low=low,
            )
            for start, part in zip(range(0, rows, batch_rows), batch.slices(feeds, rows, batch_rows), strict=True)
        ]

    def _new_kind(self, fetches: tuple[str, ...]) -> BatchKind:
        kind = BatchKind()
        if len(self._kinds) < MAX_KINDS:
            return self._kinds.setdefault(fetches, kind)
        kind.alone = True  # nothing that it learns would be remembered
        return kind

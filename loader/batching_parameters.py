"""How concurrent requests become one session call: the stock server's batching parameters.

The parameters come as protobuf text (`--batching_parameters_file`).

Source: tensorflow_serving/servables/tensorflow/session_bundle_config.proto (BatchingParameters), bundle_factory_util.cc
and tensorflow/core/kernels/batching_util/shared_batch_scheduler.h for the limits. The settings of priorities and of
padding have the names that the stock server gives them in `BatchOpRewriteConfig`, for batching inside a graph.
"""

from dataclasses import dataclass, field

from google.protobuf import text_format

from loader.cpu import cpu_count
from loader.status import Code, ServingError
from loader.text_message import message_class

DEFAULT_MAX_BATCH_SIZE = 1000
DEFAULT_MAX_ENQUEUED_BATCHES = 10

_WRAPPED = {
    "max_batch_size": "Int64Value",
    "batch_timeout_micros": "Int64Value",
    "max_enqueued_batches": "Int64Value",
    "num_batch_threads": "Int64Value",
    "thread_pool_name": "StringValue",
    "enable_large_batch_splitting": "BoolValue",
    "max_execution_batch_size": "Int64Value",
    "low_priority_max_batch_size": "Int64Value",
    "low_priority_batch_timeout_micros": "Int64Value",
    "low_priority_max_enqueued_batches": "Int64Value",
    "mixed_priority_policy": "StringValue",
    "batch_padding_policy": "StringValue",
}

FILL = "low_priority_padding_with_max_batch_size"
FILL_PADDING = "low_priority_padding_with_next_allowed_batch_size"
ISOLATION = "priority_isolation"
MERGE = "priority_merge"
MIXED_PRIORITY_POLICIES = (FILL, FILL_PADDING, ISOLATION, MERGE)
"""Values of `mixed_priority_policy`."""

PAD_UP = "PAD_UP"
BATCH_DOWN = "BATCH_DOWN"
CHEAPEST = "MINIMIZE_TPU_COST_PER_REQUEST"
BATCH_PADDING_POLICIES = (PAD_UP, BATCH_DOWN, CHEAPEST)
"""Values of `batch_padding_policy`."""


@dataclass(frozen=True, slots=True)
class BatchingParameters:
    """One set of batching parameters, checked.

    Attributes:
        max_batch_size: rows in one batch; without splitting, also the most rows of one request.
        batch_timeout_micros: the longest that a request may wait for company, in microseconds. It is an upper
            bound: an idle session waits only while waiting is measured to pay (`loader.batch_cost`).
        max_enqueued_batches: full batches that may wait for one servable; past it requests are rejected at once.
        num_batch_threads: session calls at the same time, over all servables.
        thread_pool_name: the name of the pool in metrics.
        allowed_batch_sizes: ascending; a batch is padded up to the next of them. Empty: any size.
        pad_variable_length_inputs: whether inputs of one batch may differ in dimensions after the first.
        enable_large_batch_splitting: whether a request larger than a batch is split over several.
        max_execution_batch_size: rows of one session call when splitting; 0 stands for `max_batch_size`.
        low_priority_max_batch_size: rows of a batch of requests of low priority, and of one of them; 0 makes no
            difference between requests.
        low_priority_batch_timeout_micros: how long they wait for company of their kind, always.
        low_priority_max_enqueued_batches: full batches of them that may wait; 0 stands for `max_enqueued_batches`.
        low_priority_allowed_batch_sizes: as `allowed_batch_sizes`, for batches of theirs alone.
        mixed_priority_policy: which of them join a batch of others: as many as there is room for, only what padding
            would take, none, or all in one queue, behind the others.
        batch_padding_policy: between two allowed sizes: pad up, start with fewer rows, or what costs less per row.

    Raises:
        ServingError: INVALID_ARGUMENT that names the field and the remedy.
    """

    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = DEFAULT_MAX_ENQUEUED_BATCHES
    num_batch_threads: int = field(default_factory=cpu_count)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0
    low_priority_max_batch_size: int = 0
    low_priority_batch_timeout_micros: int = 0
    low_priority_max_enqueued_batches: int = 0
    low_priority_allowed_batch_sizes: tuple[int, ...] = ()
    mixed_priority_policy: str = FILL
    batch_padding_policy: str = PAD_UP

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise _invalid(f"{name} must be positive; was {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise _invalid(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}")
        if self.max_execution_batch_size and not self.enable_large_batch_splitting:
            raise _invalid("max_execution_batch_size needs enable_large_batch_splitting: true")
        if not 0 <= self.max_execution_batch_size <= self.max_batch_size:
            raise _invalid(
                f"max_execution_batch_size must be at most max_batch_size ({self.max_batch_size});"
                f" was {self.max_execution_batch_size}"
            )
        _check_sizes("allowed_batch_sizes", self.allowed_batch_sizes, "max_batch_size", self.max_batch_size)
        _check_word("mixed_priority_policy", self.mixed_priority_policy, MIXED_PRIORITY_POLICIES)
        _check_word("batch_padding_policy", self.batch_padding_policy, BATCH_PADDING_POLICIES)
        self._check_low_priority()

    def _check_low_priority(self) -> None:
        numbers = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches")
        for name in (f"low_priority_{number}" for number in numbers):
            if getattr(self, name) < 0:
                raise _invalid(f"{name} must be non-negative; was {getattr(self, name)}")
        largest = self.low_priority_max_batch_size
        if largest > self.max_batch_size:
            raise _invalid(
                f"low_priority_max_batch_size must be at most max_batch_size ({self.max_batch_size}); was {largest}"
            )
        sizes = self.low_priority_allowed_batch_sizes
        if not largest and (sizes or self.low_priority_batch_timeout_micros or self.low_priority_max_enqueued_batches):
            raise _invalid("settings of low priority need low_priority_max_batch_size above 0")
        _check_sizes("low_priority_allowed_batch_sizes", sizes, "low_priority_max_batch_size", largest)

    @property
    def batch_rows(self) -> int:
        """Rows of one session call at the most."""
        return self.max_execution_batch_size or self.max_batch_size

    @property
    def queue_rows(self) -> int:
        """Rows that may wait for one servable."""
        return self.max_enqueued_batches * self.max_batch_size

    @property
    def concurrency(self) -> int:
        """Requests of one row each that keep every batch full, running and forming: Knative's `containerConcurrency`.

        Fewer starve the batches; more only wait here instead of waking another instance.
        """
        return self.batch_rows * (self.num_batch_threads + 1)

    @property
    def low_queue_rows(self) -> int:
        """Rows of low priority that may wait for one servable."""
        return (self.low_priority_max_enqueued_batches or self.max_enqueued_batches) * self.low_priority_max_batch_size

    @property
    def low_apart(self) -> bool:
        """Whether requests of low priority have a queue of their own."""
        return self.low_priority_max_batch_size > 0 and self.mixed_priority_policy != MERGE

    def padded_rows(self, rows: int, *, low: bool = False) -> int:
        """The size at which a batch of `rows` runs: the next allowed size, or `rows` where there is none.

        Args:
            low: all of them are of low priority.
        """
        sizes = self.low_priority_allowed_batch_sizes if low else self.allowed_batch_sizes
        if not sizes:
            return rows
        return next((size for size in sizes if size >= rows), rows)


def parse_batching_parameters(text: str) -> BatchingParameters:
    """The parameters in a `--batching_parameters_file`; what the text leaves out keeps its default.

    Args:
        text: a `BatchingParameters` message as protobuf text.

    Raises:
        ServingError: INVALID_ARGUMENT with the line and column of what could not be read, or the rule that is broken.
    """
    message = _MESSAGE()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise _invalid(str(error)) from error
    given: dict[str, object] = {name: getattr(message, name).value for name in _WRAPPED if message.HasField(name)}
    return BatchingParameters(
        **given,  # type: ignore[arg-type]  # the message gives each field its type
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        low_priority_allowed_batch_sizes=tuple(message.low_priority_allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
    )


def _check_sizes(name: str, sizes: tuple[int, ...], limit_name: str, limit: int) -> None:
    if sizes and sizes[-1] != limit:
        raise _invalid(f"Last entry in {name} must match {limit_name}; last entry was {sizes[-1]}; expected {limit}")
    if any(a >= b for a, b in zip((0, *sizes), sizes, strict=False)):
        raise _invalid(f"{name} must be positive and ascending; was {', '.join(map(str, sizes))}")


def _check_word(name: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise _invalid(f"{name}: found {word!r}, wanted one of {', '.join(words)}")


def _invalid(text: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, f"batching parameters: {text}")


_MESSAGE = message_class(
    "BatchingParameters",
    {
        **_WRAPPED,
        "allowed_batch_sizes": "repeated int64",
        "low_priority_allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
    },
)

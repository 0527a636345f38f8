"""Batching parameters keep the stock server's names, defaults and errors."""

from pathlib import Path

import pytest

from loader.batching_parameters import BatchingParameters, parse_batching_parameters
from loader.cpu import cpu_count
from loader.status import Code, ServingError

CONFIGS = Path(__file__).parents[1] / "golden" / "conf"


def test_defaults_are_the_stock_servers() -> None:
    found = parse_batching_parameters("")
    assert (found.max_batch_size, found.batch_timeout_micros, found.max_enqueued_batches) == (1000, 0, 10)
    assert (found.num_batch_threads, found.thread_pool_name) == (cpu_count(), "batch_threads")
    assert not found.pad_variable_length_inputs
    assert not found.enable_large_batch_splitting


def test_every_field_is_read() -> None:
    found = parse_batching_parameters(
        """max_batch_size { value: 16 } batch_timeout_micros { value: 5000 } max_enqueued_batches { value: 3 }
        num_batch_threads { value: 4 } thread_pool_name { value: "pool" } allowed_batch_sizes: 4
        allowed_batch_sizes: 16 pad_variable_length_inputs: true enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 8 }"""
    )
    assert found == BatchingParameters(16, 5000, 3, 4, "pool", (4, 16), True, True, 8)


def test_the_recorded_configuration_files_are_read() -> None:
    small = parse_batching_parameters((CONFIGS / "batch_small.conf").read_text())
    allowed = parse_batching_parameters((CONFIGS / "batch_allowed.conf").read_text())
    assert (small.max_batch_size, allowed.allowed_batch_sizes) == (4, (2, 8))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("num_batch_threads { value: -1 }", "num_batch_threads must be positive"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative"),
        (
            "max_batch_size { value: 16 } allowed_batch_sizes: 8",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; expected 16",
        ),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 8 allowed_batch_sizes: 4", "ascending"),
        ("max_execution_batch_size { value: 4 }", "needs enable_large_batch_splitting"),
        ("low_priority_max_batch_size { value: -1 }", "low_priority_max_batch_size must be non-negative; was -1"),
        ("max_batch_size { value: 4 } low_priority_max_batch_size { value: 8 }", "at most max_batch_size (4); was 8"),
        ("low_priority_batch_timeout_micros { value: 5 }", "need low_priority_max_batch_size above 0"),
        (
            "low_priority_max_batch_size { value: 8 } low_priority_allowed_batch_sizes: 4",
            "Last entry in low_priority_allowed_batch_sizes must match low_priority_max_batch_size",
        ),
        ('mixed_priority_policy { value: "fair" }', "wanted one of low_priority_padding_with_max_batch_size"),
        ('batch_padding_policy { value: "pad_up" }', "wanted one of PAD_UP, BATCH_DOWN, MINIMIZE_TPU_COST"),
        ("max_batch { value: 4 }", 'no field named "max_batch"'),
        ("max_batch_size { value: }", "1:"),
    ],
)
def test_what_is_wrong_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ServingError) as refused:
        parse_batching_parameters(text)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert complaint in refused.value.message


def test_concurrency_keeps_one_batch_running_on_each_thread_and_one_forming() -> None:
    assert BatchingParameters(max_batch_size=8, num_batch_threads=2).concurrency == 24


def test_a_batch_is_padded_to_the_next_allowed_size_only() -> None:
    parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(2, 8))
    assert [parameters.padded_rows(rows) for rows in (1, 2, 3, 8)] == [2, 2, 8, 8]
    assert BatchingParameters().padded_rows(3) == 3


def test_priority_and_padding_settings_are_read_from_text() -> None:
    found = parse_batching_parameters(
        "low_priority_max_batch_size { value: 8 } low_priority_batch_timeout_micros { value: 5000 }"
        " low_priority_max_enqueued_batches { value: 3 } low_priority_allowed_batch_sizes: 4"
        ' low_priority_allowed_batch_sizes: 8 mixed_priority_policy { value: "priority_isolation" }'
        ' batch_padding_policy { value: "BATCH_DOWN" }'
    )
    assert (found.low_priority_max_batch_size, found.low_priority_batch_timeout_micros) == (8, 5000)
    assert (found.low_queue_rows, found.low_priority_allowed_batch_sizes) == (24, (4, 8))
    assert (found.mixed_priority_policy, found.batch_padding_policy) == ("priority_isolation", "BATCH_DOWN")
    assert [found.padded_rows(3, low=low) for low in (True, False)] == [4, 3]

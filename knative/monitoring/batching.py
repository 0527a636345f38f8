"""The dashboard of in-function batching: waits, sizes, padding, refusals. Pure."""

from knative.monitoring.panel import WINDOW, Dashboard, Panel, Query
from knative.monitoring.serving import HERE, MODEL, VARIABLES, three
from knative.monitoring.words import mean, quantile, rate, summed

_VERSION = "model_name, version"

BATCHING = Dashboard(
    "zeroserve-batching",
    "zeroserve: batching and queue",
    "Whether batches pay: how long requests wait, how full batches are, what is refused. With --enable_batching.",
    VARIABLES,
    (
        (
            "Queue",
            (
                Panel(
                    "Waiting",
                    three("model_name", "{{model_name}}", "zeroserve_batch_queue_seconds_bucket", MODEL),
                    "s",
                ),
                Panel(
                    "Waiting, all models of a pool, p95",
                    [
                        Query(
                            quantile(
                                0.95,
                                "thread_pool_name",
                                ":tensorflow:serving:batching_session:queuing_latency_bucket",
                                WINDOW,
                                HERE,
                            ),
                            "{{thread_pool_name}}",
                        )
                    ],
                    "µs",
                ),
                Panel(
                    "Refused",
                    [
                        Query(
                            summed(f"{_VERSION}, status", rate("zeroserve_batch_rejected_total", WINDOW, MODEL)),
                            "{{model_name}} {{version}} {{status}}",
                        )
                    ],
                    "reqps",
                    "RESOURCE_EXHAUSTED: the queue is full, or the deadline cannot be met; nothing was run.",
                ),
            ),
        ),
        (
            "Batches",
            (
                Panel(
                    "Rows of a batch, mean",
                    [Query(mean(_VERSION, "zeroserve_batch_rows", WINDOW, MODEL), "{{model_name}} {{version}}")],
                ),
                Panel(
                    "Batches",
                    [
                        Query(
                            summed(_VERSION, rate("zeroserve_batch_rows_count", WINDOW, MODEL)),
                            "{{model_name}} {{version}}",
                        )
                    ],
                    "ops",
                ),
                Panel(
                    "Share of rows that are padding",
                    [
                        Query(
                            f"{summed(_VERSION, rate('zeroserve_batch_padding_rows_total', WINDOW, MODEL))} / ("
                            f"{summed(_VERSION, rate('zeroserve_batch_padding_rows_total', WINDOW, MODEL))} + "
                            f"{summed(_VERSION, rate('zeroserve_batch_rows_sum', WINDOW, MODEL))})",
                            "{{model_name}} {{version}}",
                        )
                    ],
                    "percentunit",
                    "Much of it: add a size to allowed_batch_sizes.",
                ),
                Panel(
                    "Run of a batch",
                    three(_VERSION, "{{model_name}} {{version}}", "zeroserve_batch_run_seconds_bucket", MODEL),
                    "s",
                    width=12,
                ),
                Panel(
                    "Run per row, mean",
                    [
                        Query(
                            f"{summed(_VERSION, rate('zeroserve_batch_run_seconds_sum', WINDOW, MODEL))} / "
                            f"{summed(_VERSION, rate('zeroserve_batch_rows_sum', WINDOW, MODEL))}",
                            "{{model_name}} {{version}}",
                        )
                    ],
                    "s",
                    "Falls as batches grow, as long as batching pays.",
                    width=12,
                ),
            ),
        ),
    ),
)

"""The dashboard of cold starts, loads and the cache. Pure."""

from knative.monitoring.panel import WINDOW, Dashboard, Panel, Query
from knative.monitoring.serving import HERE, MODEL, VARIABLES
from knative.monitoring.words import mean, quantile, rate, summed

_VERSION = "model_name, version"

STARTS = Dashboard(
    "zeroserve-starts",
    "zeroserve: cold starts and cache",
    "Where the time of a start goes, what is fetched and what the cache saves.",
    VARIABLES,
    (
        (
            "Cold starts",
            (
                Panel(
                    "From the start of the process until it was ready",
                    [
                        Query(f'max(zeroserve_cold_start_seconds{{{HERE}, phase="total"}})', "slowest"),
                        Query(f'quantile(0.5, zeroserve_cold_start_seconds{{{HERE}, phase="total"}})', "median"),
                    ],
                    "s",
                    "Of the pods there are. What Kubernetes does before the process starts is not in it.",
                ),
                Panel(
                    "Phases, mean of the pods there are",
                    [Query(f'avg by (phase) (zeroserve_cold_start_seconds{{{HERE}, phase!="total"}})', "{{phase}}")],
                    "s",
                    "Phases overlap: their sum is more than the whole.",
                ),
                Panel(
                    "When phases begin, mean",
                    [Query(f"avg by (phase) (zeroserve_cold_start_offset_seconds{{{HERE}}})", "{{phase}}")],
                    "s",
                ),
                Panel(
                    "Pods that became ready in the last hour, and how long they took",
                    [Query(f"topk(20, max_over_time(zeroserve_start_to_ready_seconds{{{HERE}}}[1h]))")],
                    "s",
                    kind="table",
                    width=24,
                ),
            ),
        ),
        (
            "Loads",
            (
                Panel(
                    "Phases of loads, p95",
                    [
                        Query(
                            quantile(0.95, "model_name, phase", "zeroserve_load_seconds_bucket", WINDOW, MODEL),
                            "{{model_name}} {{phase}}",
                        )
                    ],
                    "s",
                ),
                Panel(
                    "Tries that failed",
                    [
                        Query(
                            summed(f"{_VERSION}, phase, status", f"zeroserve_load_failures_total{{{MODEL}}}"),
                            "{{model_name}} {{version}} {{phase}} {{status}}",
                        )
                    ],
                    text="Since each pod's start.",
                ),
                Panel(
                    "Warm-up, mean",
                    [
                        Query(
                            mean("model_path", ":tensorflow:serving:model_warmup_latency", WINDOW, HERE),
                            "{{model_path}}",
                        )
                    ],
                    "µs",
                ),
            ),
        ),
        (
            "Cache",
            (
                Panel(
                    "Bytes of versions",
                    [Query(summed("source", rate("zeroserve_cache_bytes_total", WINDOW, HERE)), "{{source}}")],
                    "Bps",
                    "Fetched from storage, or there already.",
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "Share of bytes that the cache had",
                    [
                        Query(
                            f'sum(zeroserve_cache_bytes_total{{{HERE}, source="cache"}}) / '
                            f"sum(zeroserve_cache_bytes_total{{{HERE}}})",
                            "cache",
                        )
                    ],
                    "percentunit",
                    "Of the pods there are, since their start.",
                    width=12,
                ),
            ),
        ),
    ),
)

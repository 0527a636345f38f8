"""The dashboard of what answers predictions: requests, latency, versions, mixes. Pure."""

from knative.monitoring.panel import WINDOW, Dashboard, Panel, Query, Variable
from knative.monitoring.words import ERRORS, LATENCY, REQUESTS, mean, quantile, rate, share, summed

HERE = 'namespace=~"$namespace"'
MODEL = f'{HERE}, model_name=~"$model"'

VARIABLES = (
    Variable("namespace", "namespace", "zeroserve_version_state"),
    Variable("model", "model_name", "zeroserve_version_state"),
)

_VERSION = "model_name, version"
_GOOD = f'{MODEL}, status="OK"'
_BAD = f'{MODEL}, status=~"{ERRORS}"'
_RUNTIME = ":tensorflow:serving:runtime_latency"
_SIZES = ":tensorflow:serving:request_example_counts"


def three(by: str, legend: str, buckets: str, where: str) -> list[Query]:
    """Median, p95 and p99."""
    return [
        Query(quantile(part, by, buckets, WINDOW, where), f"p{100 * part:g} {legend}") for part in (0.5, 0.95, 0.99)
    ]


SERVING = Dashboard(
    "zeroserve-serving",
    "zeroserve: serving",
    "Requests, errors and latency by model, version and protocol.",
    VARIABLES,
    (
        (
            "Requests",
            (
                Panel(
                    "Requests by model",
                    [Query(summed("model_name", rate(REQUESTS, WINDOW, MODEL)), "{{model_name}}")],
                    "reqps",
                    "Good and bad. A pod that lives shorter than two scrapes is not in it: the gateway counts those.",
                ),
                Panel(
                    "Requests by status",
                    [Query(summed("status", rate(REQUESTS, WINDOW, MODEL)), "{{status}}")],
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Share of errors",
                    [
                        Query(
                            share("model_name", rate(REQUESTS, WINDOW, _BAD), rate(REQUESTS, WINDOW, _GOOD)),
                            "{{model_name}}",
                        )
                    ],
                    "percentunit",
                    "What the server is to blame for, of that and of the good ones; callers' mistakes are in neither.",
                ),
            ),
        ),
        (
            "Latency",
            (
                Panel("Latency of good requests", three("model_name", "{{model_name}}", LATENCY, MODEL), "µs"),
                Panel(
                    "Latency by protocol, p95",
                    [Query(quantile(0.95, "entrypoint, API", LATENCY, WINDOW, MODEL), "{{entrypoint}} {{API}}")],
                    "µs",
                ),
                Panel(
                    "Latency of runs by version, p95",
                    [
                        Query(
                            quantile(0.95, _VERSION, "zeroserve_run_seconds_bucket", WINDOW, MODEL),
                            "{{model_name}} {{version}}",
                        )
                    ],
                    "s",
                    "From the call of a run to its outputs, waiting for a batch included.",
                ),
                Panel(
                    "Where the time goes, mean",
                    [
                        Query(mean("model_name", _RUNTIME, WINDOW, MODEL), "run {{model_name}}"),
                        Query(mean("model_name", LATENCY.removesuffix("_bucket"), WINDOW, MODEL), "all {{model_name}}"),
                    ],
                    "µs",
                    "What lies between the two is decoding and encoding.",
                ),
                Panel(
                    "Rows per request, mean",
                    [Query(mean("model", _SIZES, WINDOW, f'{HERE}, model=~"$model"'), "{{model}}")],
                ),
                Panel(
                    "Rows",
                    [
                        Query(
                            summed(
                                "model", rate(f"{_SIZES.removesuffix('s')}_total", WINDOW, f'{HERE}, model=~"$model"')
                            ),
                            "{{model}}",
                        )
                    ],
                    "rowsps",
                ),
            ),
        ),
        (
            "Versions",
            (
                Panel(
                    "States",
                    [Query(f"max by (model_name, version, state) (zeroserve_version_state{{{MODEL}}})")],
                    text="END is a version that failed to load.",
                    kind="table",
                ),
                Panel(
                    "Requests that hold a version",
                    [Query(summed(_VERSION, f"zeroserve_open_handles{{{MODEL}}}"), "{{model_name}} {{version}}")],
                ),
                Panel(
                    "Workers",
                    [
                        Query(f"sum(zeroserve_workers{{{HERE}}})", "workers"),
                        Query(f"sum(zeroserve_worker_restarts{{{HERE}}})", "put into the place of one that ended"),
                    ],
                    text="With --workers.",
                ),
            ),
        ),
        (
            "Mixes",
            (
                Panel(
                    "Rows by branch",
                    [
                        Query(
                            summed("model_name, step, branch", rate("zeroserve_mix_rows_total", WINDOW, MODEL)),
                            "{{model_name}} {{step}} {{branch}}",
                        )
                    ],
                    "rowsps",
                    "run / (run + otherwise) of a step is the share that wakes its model.",
                    stacked=True,
                ),
                Panel(
                    "Calls of steps, p95",
                    [
                        Query(
                            quantile(0.95, "model_name, step", "zeroserve_mix_step_seconds_bucket", WINDOW, MODEL),
                            "{{model_name}} {{step}}",
                        )
                    ],
                    "s",
                ),
                Panel(
                    "Calls that failed",
                    [
                        Query(
                            summed(
                                "model_name, step, status", rate("zeroserve_mix_step_failures_total", WINDOW, MODEL)
                            ),
                            "{{model_name}} {{step}} {{status}}",
                        )
                    ],
                    "reqps",
                ),
            ),
        ),
    ),
)

"""The dashboard of versions that come and go: landing, the new against the old, the split, the shadow. Pure."""

from knative.monitoring.panel import WINDOW, Dashboard, Panel, Query
from knative.monitoring.serving import HERE, MODEL, VARIABLES
from knative.monitoring.words import mean, quantile, rate, share, summed

_VERSION = "model_name, version"
_LEGEND = "{{model_name}} {{version}}"
_RUNS = "zeroserve_run_seconds_count"

ROLLOUTS = Dashboard(
    "zeroserve-rollouts",
    "zeroserve: rollouts",
    "The new version beside the old one while traffic moves, and what the deploy function did.",
    VARIABLES,
    (
        (
            "New and old",
            (
                Panel("Runs by version", [Query(summed(_VERSION, rate(_RUNS, WINDOW, MODEL)), _LEGEND)], "reqps"),
                Panel(
                    "Share of runs that fail",
                    [
                        Query(
                            share(
                                _VERSION,
                                rate("zeroserve_run_failures_total", WINDOW, MODEL),
                                rate(_RUNS, WINDOW, MODEL),
                            ),
                            _LEGEND,
                        )
                    ],
                    "percentunit",
                    "Deadlines that passed in a queue and refusals are among them. `zeroserve compare` says what is "
                    "more than chance.",
                ),
                Panel(
                    "Runs, median and p99",
                    [
                        Query(quantile(0.5, _VERSION, "zeroserve_run_seconds_bucket", WINDOW, MODEL), f"p50 {_LEGEND}"),
                        Query(
                            quantile(0.99, _VERSION, "zeroserve_run_seconds_bucket", WINDOW, MODEL), f"p99 {_LEGEND}"
                        ),
                    ],
                    "s",
                ),
                Panel(
                    "Share of runs of each version",
                    [
                        Query(
                            f"{summed(_VERSION, rate(_RUNS, WINDOW, MODEL))} / on (model_name) group_left "
                            f"{summed('model_name', rate(_RUNS, WINDOW, MODEL))}",
                            _LEGEND,
                        )
                    ],
                    "percentunit",
                    stacked=True,
                ),
                Panel(
                    "Predictions by arm",
                    [
                        Query(
                            summed("arm, by, answered", rate("zeroserve_arm_requests_total", WINDOW, HERE)),
                            "{{arm}} by {{by}}, {{answered}}",
                        )
                    ],
                    "reqps",
                    "Those that name no version: chosen by the user's key, or as they arrived.",
                    stacked=True,
                ),
                Panel(
                    "Sent to another revision",
                    [
                        Query(
                            summed("tag, result", rate("zeroserve_forwarded_total", WINDOW, HERE)), "{{tag}} {{result}}"
                        )
                    ],
                    "reqps",
                ),
            ),
        ),
        (
            "Landing",
            (
                Panel(
                    "Where each model stands",
                    [Query(f"zeroserve_landing_state{{{HERE}}}")],
                    text="What the deploy function's last look found.",
                    kind="table",
                ),
                Panel(
                    "What became of rollouts",
                    [
                        Query(
                            summed("service, kind", f"zeroserve_rollout_events_total{{{HERE}}}"), "{{service}} {{kind}}"
                        )
                    ],
                    text="Since the deploy function's start.",
                ),
                Panel(
                    "Answers to events",
                    [Query(summed("code", rate("zeroserve_event_answers_total", WINDOW, HERE)), "{{code}}")],
                    "reqps",
                    "503: the same event comes again.",
                    stacked=True,
                ),
            ),
        ),
        (
            "Shadow",
            (
                Panel(
                    "Copies by result",
                    [
                        Query(
                            summed("arm, shadow, result", rate("zeroserve_shadow_total", WINDOW, HERE)),
                            "{{shadow}} of {{arm}}: {{result}}",
                        )
                    ],
                    "reqps",
                    stacked=True,
                ),
                Panel(
                    "Largest difference of an answer, p95",
                    [
                        Query(
                            quantile(0.95, "arm, shadow", "zeroserve_shadow_difference_bucket", WINDOW, HERE),
                            "{{shadow}} of {{arm}}",
                        )
                    ],
                ),
                Panel(
                    "Rows with the same best place",
                    [
                        Query(
                            summed(
                                "arm, shadow", rate("zeroserve_shadow_top_rows_total", WINDOW, f'{HERE}, top="same"')
                            )
                            + " / "
                            + summed("arm, shadow", rate("zeroserve_shadow_top_rows_total", WINDOW, HERE)),
                            "{{shadow}} of {{arm}}",
                        )
                    ],
                    "percentunit",
                ),
                Panel(
                    "To another revision and back, mean",
                    [Query(mean("tag, protocol", "zeroserve_forward_seconds", WINDOW, HERE), "{{tag}} {{protocol}}")],
                    "s",
                    width=12,
                ),
                Panel(
                    "Routes files that could not be read",
                    [Query(f"sum(zeroserve_routes_broken_total{{{HERE}}})", "states")],
                    width=12,
                ),
            ),
        ),
    ),
)

"""The dashboard of what leaves a server beside its answers, and of what is lost of it. Pure."""

from knative.monitoring.panel import WINDOW, Dashboard, Panel, Query
from knative.monitoring.serving import HERE, MODEL, VARIABLES
from knative.monitoring.words import rate, summed

RECORDS = Dashboard(
    "zeroserve-records",
    "zeroserve: logs, traces, events and outcomes",
    "What leaves a server beside its answers, and what of it is lost: that never holds a prediction up.",
    VARIABLES,
    (
        (
            "Requests that are logged",
            (
                Panel(
                    "Events and records",
                    [
                        Query(summed("exit", rate("zeroserve_tap_sampled_total", WINDOW, HERE)), "{{exit}} chosen"),
                        Query(summed("exit", rate("zeroserve_tap_passed_total", WINDOW, HERE)), "{{exit}} gone out"),
                    ],
                    "reqps",
                    "With --prediction_log_share, --feedback or --record_to.",
                ),
                Panel(
                    "Dropped",
                    [
                        Query(
                            summed("exit, reason", rate("zeroserve_tap_dropped_total", WINDOW, HERE)),
                            "{{exit}} {{reason}}",
                        )
                    ],
                    "reqps",
                    "duplicate and limit are as wanted; queue_full: the sink is slow; failed: it is away.",
                    stacked=True,
                ),
                Panel(
                    "As the stock server counts them",
                    [
                        Query(
                            summed(
                                "model_name, status_code", rate(":tensorflow:serving:request_log_count", WINDOW, MODEL)
                            ),
                            "{{model_name}} {{status_code}}",
                        )
                    ],
                    "reqps",
                ),
            ),
        ),
        (
            "Lines and traces",
            (
                Panel(
                    "Lines of requests",
                    [Query(summed("result", rate("zeroserve_request_log_lines_total", WINDOW, HERE)), "{{result}}")],
                    "ops",
                    "With --request_log.",
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "Spans",
                    [Query(summed("result", rate("zeroserve_trace_spans_total", WINDOW, HERE)), "{{result}}")],
                    "ops",
                    "With --traces. failed: the collector did not take them; dropped: they come faster than they go.",
                    stacked=True,
                    width=12,
                ),
            ),
        ),
        (
            "Outcomes",
            (
                Panel(
                    "Feedback",
                    [Query(summed("result", rate("zeroserve_feedback_total", WINDOW, HERE)), "{{result}}")],
                    "reqps",
                    "With --feedback.",
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "Mean outcome by version",
                    [
                        Query(
                            f"{summed('model_name, version', f'zeroserve_outcomes_sum{{{MODEL}}}')} / "
                            f"{summed('model_name, version', f'zeroserve_outcomes{{{MODEL}}}')}",
                            "{{model_name}} {{version}}",
                        )
                    ],
                    text="Of the pods there are, since their start. `zeroserve compare` says what is more than chance.",
                    width=12,
                ),
            ),
        ),
    ),
)

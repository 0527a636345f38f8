"""Dashboards and alerts against what is really exported, and against a real Prometheus."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.commands.monitoring import main
from functions.web.message import HTTP_STATUS
from knative import keys
from knative.monitoring.alerts import Objectives, alerts, recordings, rule_groups
from knative.monitoring.manifests import DASHBOARDS, files
from knative.monitoring.panel import ALL, WINDOW, grafana, queries
from knative.monitoring.scrape import TARGETS, scrape_configs
from knative.monitoring.words import ERRORS
from tests.functions.exported import Found, read
from tests.functions.monitored import Monitored, Source, monitored
from tests.functions.prometheus import needs_prometheus, needs_promtool, prometheus, promtool
from tests.functions.promql import read as read_promql
from tests.functions.served import ROOT

OF_TARGETS = {"namespace", "pod", "container", "revision", "knative_service"}
"""Labels that a scrape gives to all series of a pod."""

VARIABLES = {f"${one.name}": ALL for board in DASHBOARDS for one in board.variables}
ASKED = [expr for board in DASHBOARDS for expr in queries(board)]
RECORDED = dict(recordings())
ALERTS = {one.name: one.expr for one in alerts(Objectives())}


def plain(expr: str, window: str = "5m") -> str:
    """The PromQL that Grafana sends while nothing is chosen."""
    expr = expr.replace(WINDOW, window)
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    with monitored(tmp_path_factory.mktemp("monitored")) as found:
        found.traffic()
        found.traffic()
        yield found


@pytest.fixture(scope="module")
def exported(running: Monitored) -> Found:
    found: dict[str, Mapping[frozenset[tuple[str, str]], float]] = {}
    late = {
        "zeroserve-gateway-a": "envoy_zeroserve_milliseconds_bucket{",
        running.sources[0].name: "trace_spans_total{",
    }
    for source in running.sources:
        deadline = time.monotonic() + 30
        while late.get(source.name, "") not in source.text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for name, rows in read(source.text()).items():
            found[name] = {**found.get(name, {}), **rows}
    return found


def labels(exported: Found, name: str) -> set[str]:
    return {label for row in exported[name] for label, _ in row} | OF_TARGETS


@pytest.mark.parametrize("expr", [*ASKED, *RECORDED.values(), *ALERTS.values()])
def test_every_metric_label_and_value_is_really_exported(exported: Found, expr: str) -> None:
    asked = read_promql(plain(expr))
    assert asked.metrics
    for name, matchers in asked.metrics:
        if name in RECORDED:
            continue
        assert name in exported, f"{name} is not exported"
        for operator, label, value in matchers:
            assert label in labels(exported, name), f"{name} has no label {label}"
            values = {dict(row).get(label, "") for row in exported[name]}
            if operator in {"Equal", "Re"}:
                fits = re.compile(value if operator == "Re" else re.escape(value))
                assert any(fits.fullmatch(one) for one in values), f"{name}: {label} is {sorted(values)}, not {value}"
    for label, below in asked.labels:
        assert any(name in RECORDED or label in labels(exported, name) for name in below if name), (label, below)


def test_every_variable_offers_values_of_a_label_that_is_there(exported: Found) -> None:
    for board in DASHBOARDS:
        for one in board.variables:
            assert one.label in labels(exported, one.metric)


def test_what_counts_as_an_error_is_what_compare_counts() -> None:
    assert set(ERRORS.split("|")) == {code.name for code, http in HTTP_STATUS.items() if http >= 500 or http == 429}


def test_each_alert_has_its_lines_in_the_runbook() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    headings = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)


# What is rendered.


def test_a_dashboards_panels_do_not_overlap_and_each_has_its_own_number() -> None:
    for board in DASHBOARDS:
        found = grafana(board)
        places = set()
        for panel in found["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & places
            assert at["x"] + at["w"] <= 24
            places |= cells
        assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
        assert len(board.uid) <= 40  # Grafana's limit
    assert len({board.uid for board in DASHBOARDS}) == len(DASHBOARDS)


def test_files_are_written_or_only_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["render", "-o", str(tmp_path / "made"), "--json"]
    assert main([*words, "--dry-run"]) == 0
    named = json.loads(capsys.readouterr().out)["would_write"]
    assert not (tmp_path / "made").exists()
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["wrote"] == named
    assert {Path(name) for name in named} == {one for one in (tmp_path / "made").rglob("*") if one.is_file()}
    for name in named:
        text = Path(name).read_text()
        assert json.loads(text) if name.endswith(".json") else list(yaml.safe_load_all(text))


def test_manifests_are_for_one_namespace_or_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    def rendered(*words: str) -> list[dict[str, Any]]:
        assert main(["render", *words]) == 0
        return list(yaml.safe_load_all(capsys.readouterr().out))

    for words, selected in ((("-n", "m"), {"matchNames": ["m"]}), (("-n", "m", "-A"), {"any": True})):
        found = rendered(*words)
        assert {one["metadata"]["namespace"] for one in found} == {"m"}
        monitors = [one for one in found if one["kind"] == "PodMonitor"]
        assert len(monitors) == len(TARGETS)
        assert [one["spec"]["namespaceSelector"] for one in monitors] == [selected] * len(TARGETS)
    found = rendered()
    assert len(json.dumps(found)) < 1 << 20  # of one object, Kubernetes takes a MiB
    # No declaration of a service, and nothing of the gateway, has such a name or such a label.
    assert not [one for one in found if one["kind"] == "ConfigMap" and one["metadata"]["name"].startswith("zeroserve")]
    assert keys.FIELD_MANAGER not in {one["metadata"]["labels"][keys.MANAGED_BY] for one in found}


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["show"], "wanted render"),
        (["render", "--objective=100"], "wanted a share"),
        (["render", "--objective=nan"], "wanted a share"),
        (["render", "--latency=0"], "wanted seconds"),
        (["render", "--cold-start=nan"], "wanted seconds"),
        (["render", "-n", "A b"], "cannot name a namespace"),
        (["render", "-o", "/dev/null/x"], "Not a directory"),
    ],
)
def test_a_command_that_makes_no_sense_says_so_in_one_line(
    words: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert remedy in said.err
    assert said.err.count("\n") == 1


def test_the_command_loads_neither_tensorflow_nor_numpy() -> None:
    code = "import sys, functions.commands.monitoring; print(*{'tensorflow', 'numpy', 'grpc'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_server_that_starts_loads_nothing_of_it() -> None:
    code = "import sys, functions.models, functions.server; print([n for n in sys.modules if 'knative' in n])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# A real Prometheus.


def target(source: Source, kind: str, container: str, port: str, **of_pod: str) -> dict[str, Any]:
    """One container's port, as discovery of pods describes it."""
    meta = {
        "__meta_kubernetes_namespace": "models",
        "__meta_kubernetes_pod_name": source.name,
        "__meta_kubernetes_pod_phase": "Running",
        "__meta_kubernetes_pod_container_name": container,
        "__meta_kubernetes_pod_container_port_name": port,
    }
    meta |= {f"__meta_kubernetes_pod_label_{re.sub('[^a-zA-Z0-9]', '_', name)}": one for name, one in of_pod.items()}
    return {"targets": [source.address], "labels": meta}


def discovered(sources: tuple[Source, ...]) -> list[dict[str, Any]]:
    """What discovery would find: our containers, and queue-proxy beside those of Knative."""
    found = []
    for source in sources:
        if source.kind == "gateway":
            pod = {"app.kubernetes.io/name": "zeroserve-gateway"}
            found += [target(source, source.kind, "envoy", port, **pod) for port in ("http", "metrics")]
            continue
        service = "zeroserve-deploy" if source.kind == "deploy" else source.name.split("-")[0]
        pod = {keys.SERVICE: service, keys.REVISION: source.name.removesuffix("-deployment-a")}
        ours = "deploy" if source.kind == "deploy" else "zeroserve"
        found.append(target(source, source.kind, ours, "user-port", **pod))
        found += [target(source, source.kind, "queue-proxy", port, **pod) for port in ("http-usermetric", "user-port")]
    other = Source("other-00001-deployment-a", "other", "127.0.0.1:1")
    found.append(target(other, "other", "user-container", "user-port", **{keys.SERVICE: "other"}))
    return found


@needs_prometheus
def test_each_panel_shows_something_and_each_rule_holds_on_a_real_prometheus(
    running: Monitored, tmp_path: Path
) -> None:
    configs = scrape_configs("models", everywhere=False)
    for config in configs:
        del config["kubernetes_sd_configs"]
        config |= {"static_configs": discovered(running.sources), "scrape_interval": "1s"}
    (tmp_path / "rules.json").write_text(json.dumps(rule_groups(Objectives())))
    whole = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": [str(tmp_path / "rules.json")],
        "scrape_configs": configs,
    }
    with prometheus(tmp_path, whole) as asked:
        asked.until('up{pod="zeroserve-gateway-a"} == 1')
        for _ in range(4):
            running.traffic()
            time.sleep(1)  # so that scrapes see the counts grow
        asked.until('rate(envoy_zeroserve_milliseconds_count{model="m"}[20s]) >= 0')
        up = {one["metric"]["pod"]: one["value"][1] for one in asked.query("up")}
        assert up == dict.fromkeys([source.name for source in running.sources], "1")
        named = asked.query('zeroserve_version_state{pod="m-v2-deployment-a"}')[0]["metric"]
        assert (named["namespace"], named["knative_service"], named["revision"]) == ("models", "m", "m-v2")
        empty = []
        for board in DASHBOARDS:
            for _, panels in board.rows:
                for panel in panels:
                    for query in panel.queries:
                        found = asked.query(plain(query.expr, "20s"))
                        if not found:
                            empty.append((board.uid, panel.title, query.expr))
                            continue
                        for label in re.findall(r"{{(\w+)}}", query.legend):
                            assert any(label in one["metric"] for one in found), (panel.title, label)
        assert empty == []
        rules = {rule["name"]: rule for group in asked.get("rules")["groups"] for rule in group["rules"]}
        assert {name: rule.get("lastError", "") for name, rule in rules.items() if rule["health"] == "err"} == {}
        assert rules.keys() == RECORDED.keys() | ALERTS.keys()


@needs_promtool
def test_the_rules_and_the_scrape_configs_are_what_prometheus_takes(tmp_path: Path) -> None:
    made = files("models", Objectives(), everywhere=True)
    rules = tmp_path / "zeroserve.rules.yaml"
    rules.write_text(made["prometheus/zeroserve.rules.yaml"])
    assert "SUCCESS" in promtool("check", "rules", rules)
    config = yaml.safe_load(made["prometheus/zeroserve.scrape.yaml"])
    for one in config["scrape_configs"]:
        assert one.pop("kubernetes_sd_configs") == [{"role": "pod"}]  # Debian's Prometheus has none of it
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "SUCCESS" in promtool("check", "config", tmp_path / "config.json")


MODEL = 'namespace="n", model_name="m"'
GOOD = f':tensorflow:serving:request_count{{{MODEL}, status="OK"}}'
BAD = f':tensorflow:serving:request_count{{{MODEL}, status="UNAVAILABLE"}}'
WRONG = f':tensorflow:serving:request_count{{{MODEL}, status="INVALID_ARGUMENT"}}'
Series = dict[str, str]


def state(state: str, values: str) -> Series:
    return {f'zeroserve_version_state{{{MODEL}, version="2", state="{state}"}}': values}


CASES: dict[str, tuple[str, Series, int, bool]] = {
    # name of the case: alert, series (a value each minute), minute, whether it fires then
    "a few errors": ("ZeroserveErrorBudgetBurns1h", {GOOD: "0+10000x120", BAD: "0+50x120"}, 110, False),
    "many errors": ("ZeroserveErrorBudgetBurns1h", {GOOD: "0+1000x120", BAD: "0+50x120"}, 110, True),
    "errors that are over": ("ZeroserveErrorBudgetBurns1h", {GOOD: "0+1000x120", BAD: "0+50x80 _x40"}, 110, False),
    "callers' mistakes": ("ZeroserveErrorBudgetBurns1h", {GOOD: "0+1x120", WRONG: "0+500x120"}, 110, False),
    "nobody asks": ("ZeroserveErrorBudgetBurns1h", {GOOD: "5x120", BAD: "0x120"}, 110, False),
    "a slow burn": ("ZeroserveErrorBudgetBurns6h", {GOOD: "0+1000x300", BAD: "0+8x300"}, 280, True),
    "a slow burn is no fast one": ("ZeroserveErrorBudgetBurns1h", {GOOD: "0+1000x300", BAD: "0+8x300"}, 280, False),
    "a small leak": ("ZeroserveErrorBudgetBurns3d", {GOOD: "0+1000x400", BAD: "0+2x400"}, 380, True),
    "slow answers": (
        "ZeroserveLatencyHigh",
        {
            f':tensorflow:serving:request_latency_bucket{{{MODEL}, le="500000"}}': "0+90x60",
            f':tensorflow:serving:request_latency_bucket{{{MODEL}, le="9000000"}}': "0+100x60",
            f':tensorflow:serving:request_latency_bucket{{{MODEL}, le="+Inf"}}': "0+100x60",
        },
        40,
        True,
    ),
    "quick answers": (
        "ZeroserveLatencyHigh",
        {
            f':tensorflow:serving:request_latency_bucket{{{MODEL}, le="500000"}}': "0+100x60",
            f':tensorflow:serving:request_latency_bucket{{{MODEL}, le="+Inf"}}': "0+100x60",
        },
        40,
        False,
    ),
    "a full queue": (
        "ZeroserveQueueFull",
        {f'zeroserve_batch_rejected_total{{{MODEL}, version="1", status="RESOURCE_EXHAUSTED"}}': "0+1x30"},
        20,
        True,
    ),
    "a cold start of a minute": (
        "ZeroserveColdStartSlow",
        {'zeroserve_cold_start_seconds{phase="total", pod="p"}': "61x5"},
        2,
        True,
    ),
    "a phase is no start": (
        "ZeroserveColdStartSlow",
        {'zeroserve_cold_start_seconds{phase="download", pod="p"}': "61x5"},
        2,
        False,
    ),
    "a version that failed": ("ZeroserveVersionFailed", state("END", "1x9"), 5, True),
    "a version that is loading": ("ZeroserveVersionNotLoading", state("LOADING", "1x9"), 9, False),
    "a version that never arrives": ("ZeroserveVersionNotLoading", state("LOADING", "1x40"), 30, True),
    "a version that arrived": ("ZeroserveVersionNotLoading", state("LOADING", "1x10 stale"), 30, False),
    "the first load that fails": ("ZeroserveLoadFailing", {"zeroserve_load_failures_total": "_x5 1x20"}, 8, True),
    "a load that failed long ago": ("ZeroserveLoadFailing", {"zeroserve_load_failures_total": "_x5 1x60"}, 50, False),
    "one more load that fails": ("ZeroserveLoadFailing", {"zeroserve_load_failures_total": "1x40 2x9"}, 43, True),
    "a worker that ended": ("ZeroserveWorkerEnded", {"zeroserve_worker_restarts": "0x20 1x9"}, 24, True),
    "a rollout that failed": ("ZeroserveRolloutFailed", {'zeroserve_landing_state{state="failed"}': "1x9"}, 5, True),
    "a rollout under way": ("ZeroserveRolloutFailed", {'zeroserve_landing_state{state="working"}': "1x9"}, 5, False),
    "traffic that was taken back": (
        "ZeroserveRolloutTakenBack",
        {'zeroserve_rollout_events_total{kind="rolled_back"}': "_x5 1x30"},
        9,
        True,
    ),
    "a rollout that was promoted": (
        "ZeroserveRolloutTakenBack",
        {'zeroserve_rollout_events_total{kind="promoted"}': "_x5 1x30"},
        9,
        False,
    ),
    "storage that is away": (
        "ZeroserveLandingUnreachable",
        {'zeroserve_landing_state{state="unreachable"}': "1x30"},
        25,
        True,
    ),
    "routes that broke": ("ZeroserveRoutesBroken", {"zeroserve_routes_broken_total": "_x5 1x20"}, 8, True),
    "a tag that does not answer": (
        "ZeroserveForwardingFails",
        {'zeroserve_forwarded_total{tag="v2", result="late"}': "0+1x40"},
        30,
        True,
    ),
    "events that are dropped": (
        "ZeroserveEventsDropped",
        {'zeroserve_tap_dropped_total{exit="prediction_log", reason="queue_full"}': "_x5 1x20"},
        8,
        True,
    ),
    "records that are enough": (
        "ZeroserveEventsDropped",
        {'zeroserve_tap_dropped_total{exit="record", reason="limit"}': "_x5 1x20"},
        8,
        False,
    ),
    "spans that do not arrive": (
        "ZeroserveSpansLost",
        {'zeroserve_trace_spans_total{result="failed"}': "0x9 7x9"},
        12,
        True,
    ),
    "spans that arrive": (
        "ZeroserveSpansLost",
        {'zeroserve_trace_spans_total{result="exported"}': "0+5x20"},
        12,
        False,
    ),
    "lines that nobody reads": (
        "ZeroserveLinesLost",
        {'zeroserve_request_log_lines_total{result="dropped"}': "0x9 7x9"},
        12,
        True,
    ),
    "models that answer 503": (
        "ZeroserveGatewayErrors",
        {
            'envoy_zeroserve_requests{model="m", code="200"}': "0+100x40",
            'envoy_zeroserve_requests{model="m", code="503"}': "0+10x40",
        },
        30,
        True,
    ),
    "refusals are no errors": (
        "ZeroserveGatewayErrors",
        {
            'envoy_zeroserve_requests{model="m", code="200"}': "0+100x40",
            'envoy_zeroserve_requests{model="m", code="429"}': "0+100x40",
        },
        30,
        False,
    ),
    "somebody tries keys": (
        "ZeroserveGatewayKeysRefused",
        {
            'envoy_http_api_key_auth_unauthorized{envoy_http_conn_manager_prefix="entry"}': "0+100x40",
            'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="entry"}': "0+120x40",
        },
        30,
        True,
    ),
    "keys that are no keys": (
        "ZeroserveGatewayKeysUnread",
        {"envoy_extension_config_discovery_http_filter_zeroserve_keys_config_fail": "0x20 1x9"},
        24,
        True,
    ),
    "limits that nobody counts": (
        "ZeroserveGatewayLimitsUncounted",
        {'envoy_cluster_ratelimit_error{envoy_cluster_name="models"}': "0+60x30"},
        20,
        True,
    ),
    "memory that is full": (
        "ZeroserveGatewayMemoryHigh",
        {"envoy_overload_envoy_resource_monitors_fixed_heap_pressure": "93x20"},
        15,
        True,
    ),
}


def test_each_alert_is_shown_to_fire() -> None:
    assert {alert for alert, _, _, fires in CASES.values() if fires} == ALERTS.keys()


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(json.dumps(rule_groups(Objectives())))
    expr = 'count by (alertname) (ALERTS{alertname="%s", alertstate="firing"})'
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": expr % alert,
                    "eval_time": f"{minute}m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if fires else [],
                }
            ],
        }
        for alert, series, minute, fires in CASES.values()
    ]
    (tmp_path / "tests.json").write_text(
        json.dumps({"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": tests})
    )
    promtool("test", "rules", tmp_path / "tests.json")

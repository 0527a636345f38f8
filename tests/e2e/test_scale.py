"""Pods come and go under requests: from zero, to another version, down, killed, drained. None is lost."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from functions.client import Client
from tests.e2e.ingress import Answer, Service, constant_load, eventually
from tests.e2e.place import Place, needs_cluster

pytestmark = needs_cluster

AT_ONCE = 20


def one_version(here: Place, *words: str) -> Service:
    here.deploy("m", here.upload("m", 1), *words)
    return here.service("m")


def test_from_zero_twenty_requests_at_once_are_all_answered(here: Place):
    m = one_version(here)
    assert m.works()
    eventually(lambda: not here.pods("m"), 120)
    together = threading.Barrier(AT_ONCE)

    def ask(_: int) -> Answer:
        together.wait()
        return m.predict()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(ask, range(AT_ONCE)))
    assert [answer.status for answer in answers] == [200] * AT_ONCE
    timing = answers[0].headers["server-timing"]
    for phase in ("import", "list", "download", "load", "total"):
        assert f"{phase};dur=" in timing


def test_from_one_version_to_the_next_no_request_fails(here: Place):
    m = one_version(here)
    with constant_load(m.predict) as load:
        here.deploy("m", here.upload("m", 2), "--policy=latest:2")
        load.until(lambda: load.versions[2] > 50)
        here.zeroserve("split", "m", "1=50", "2=50")
        here.zeroserve("promote", "m", "1")
        before = load.versions[1]
        load.until(lambda: load.versions[1] > before + 50)
    assert load.failures == []
    assert load.answered > 200


def test_scaling_down_under_load_loses_nothing(here: Place):
    m = one_version(here, "--target=1", "--max-scale=3")
    with constant_load(m.predict, clients=1) as load:
        with constant_load(m.predict, clients=8, pause=0) as burst:
            burst.until(lambda: len(here.pods("m")) > 1)
        load.until(lambda: len(here.pods("m")) == 1, 180)
        # Those that go drain for half a minute; requests go on meanwhile.
        load.until(lambda: len(here.get("pods", "-l", "serving.knative.dev/service=m")["items"]) == 1, 120)
    assert load.failures == []
    assert burst.failures == []


@contextmanager
def two_pods(here: Place) -> Iterator[Service]:
    m = one_version(here, "--min-scale=2")
    eventually(lambda: len(here.pods("m")) == 2)
    yield m


def test_pods_that_are_evicted_one_after_another_lose_nothing(here: Place):
    """What `kubectl drain` does to a node's pods: each is told to go, with its time to end."""
    with two_pods(here) as m, constant_load(m.predict) as load:
        for pod in here.pods("m"):
            here.kubectl("delete", "pod", pod, "--wait=false")
            load.until(lambda pod=pod: pod not in here.pods("m") and ready(here) >= 2)
        before = load.answered
        load.until(lambda: load.answered > before + 100)
    assert load.failures == []


def test_a_pod_that_is_killed_costs_callers_of_the_client_nothing(here: Place):
    """Requests in flight on the killed pod may fail; the client tries them again."""
    with two_pods(here) as m, Client(f"http://{m.ingress}", headers={"Host": m.host}) as client:

        def call() -> Answer:
            outputs = client.predict("m", np.array([1.0, 2.0, 5.0], np.float32)).outputs
            assert next(iter(outputs.values())).tolist() == [2.5, 3.0, 4.5]
            return Answer(200, {}, b"")

        with constant_load(call) as load:
            victim = here.pods("m")[0]
            here.kubectl("delete", "pod", victim, "--grace-period=0", "--force", "--wait=false")
            load.until(lambda: victim not in here.pods("m") and ready(here) >= 2)
            before = load.answered
            load.until(lambda: load.answered > before + 100)
    assert load.failures == []


def ready(here: Place) -> int:
    """Pods that are ready and stay."""
    found = here.get("pods", "-l", "serving.knative.dev/service=m")["items"]
    return sum(
        not pod["metadata"].get("deletionTimestamp")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())
        for pod in found
    )

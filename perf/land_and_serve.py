"""How long from the last byte of an upload to the first answer by the new version on a cluster, and in what parts?

    KUBECONFIG=... KNATIVE_INGRESS=host:port python -m perf.land_and_serve --image IMAGE [--versions 6] [--host ADDRESS]
        [--asleep] [--no-gates]

A model's versions are uploaded one after the other to a real S3 server (moto) that pods reach at ADDRESS; the deploy
function is a process on this machine. The event of the last file is sent the moment its upload returns, as a store
does. Version 1 also makes the service; it is told apart. The old version is awake, unless `--asleep`: then the gate
that compares signatures has to wake it. Parts, each ending where the next begins:

- `revision created`: the event's answer, 202: the API server has the new revision. Our own code and its requests.
- `revision ready`: its pod was scheduled, has loaded the model, and is ready. The cluster's part, and a cold start.
- `gates passed, traffic written`: the function has seen it, its gates have looked, and the Service has its traffic.
- `first answer`: the ingress sends requests to it.
"""

import argparse
import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from perf.server import keep
from tests.e2e.deployers import Cluster, Deployer, cluster, deployer
from tests.functions.served import GOLDEN_MODELS
from tests.servers.s3 import BUCKET, S3Server, s3_server

MODEL = GOLDEN_MODELS / "half_plus_two" / "1"
TRAFFIC = "gates passed, traffic written"
PARTS = ("revision created", "revision ready", TRAFFIC, "first answer")
DOMAIN = os.environ.get("KNATIVE_DOMAIN", "kn.localhost")
POLL_SECONDS = 0.02
SECONDS = 180.0


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True, help="of the target predict")
    parser.add_argument("--versions", type=int, default=6)
    parser.add_argument("--host", default="10.95.0.1", help="of this machine, as pods see it (%(default)s)")
    parser.add_argument("--asleep", action="store_true", help="wait before each upload until no pod is left")
    parser.add_argument("--no-gates", action="store_true", help="signatures are not compared")
    options = parser.parse_args()
    samples: dict[str, list[float]] = {part: [] for part in (*PARTS, "total")}
    first: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, cluster() as place, s3_server(Path(folder), "0.0.0.0") as store:
        port = store.endpoint.rpartition(":")[2]
        environ = store.environ | {"AWS_ENDPOINT_URL": f"http://{options.host}:{port}", "AWS_ALLOW_HTTP": "true"}
        url = f"s3://{BUCKET}/m"
        gates = {"signatures": "ignore"} if options.no_gates else {}
        place.declare("m", url, image=options.image, environment=environ, gates=gates)
        peers = {
            # The function is a process on this machine, where names of the cluster mean nothing.
            "SERVING_PEER_URL": f"http://{{tag}}-{{service}}.{{namespace}}.{DOMAIN}",
            "SERVING_PEER_GATEWAY": os.environ["KNATIVE_INGRESS"],
        }
        with deployer(Path(folder), place.namespace, **store.environ, **peers) as function:
            for version in range(1, options.versions + 1):
                if options.asleep and version > 1:
                    until(lambda version=version: not _pods(place, f"v{version - 1}"))
                found = land(place, function, store, version, wake=version > 1 and not options.asleep)
                print(f"version {version}: " + ", ".join(f"{part} {found[part]:.2f} s" for part in found), flush=True)
                if version == 1:
                    first = found
                    continue
                for part, seconds in found.items():
                    samples[part].append(seconds)
    path = keep("land_and_serve", {"first": first, "samples": samples})
    print(f"\nall samples: {path}\n\n| from the last byte | s, median (all) |\n|---|---|")
    for part, seconds in samples.items():
        print(f"| {part} | {statistics.median(seconds):.2f} ({' '.join(f'{one:.2f}' for one in sorted(seconds))}) |")


def land(place: Cluster, function: Deployer, store: S3Server, version: int, *, wake: bool) -> dict[str, float]:
    """The parts of one upload, in seconds.

    Args:
        wake: the old version first; it serves while the new one comes. Asleep, it is not asked either, until the new
            one is ready: a request that woke it would be held up.
    """
    files = sorted(file for file in MODEL.rglob("*") if file.is_file())
    for file in files[:-1]:
        store.put(f"m/{version}/{file.relative_to(MODEL)}", file.read_bytes())
    answered = threading.Event()
    moments: dict[str, float] = {}
    if wake:
        _first_answer(place.namespace, version - 1, {}, threading.Event())
    watch = (place.namespace, version, moments, answered)
    watcher = threading.Thread(target=_first_answer, args=watch, daemon=True)
    if wake or version == 1:
        watcher.start()
    store.put(f"m/{version}/{files[-1].relative_to(MODEL)}", files[-1].read_bytes())
    begun = time.perf_counter()
    status, text = function.created(f"s3://{BUCKET}/m/{version}/{files[-1].relative_to(MODEL)}")
    moments["revision created"] = time.perf_counter()
    assert status == 202, (status, text)
    until(lambda: any(each.startswith(f"m-v{version}-") for each in place.revisions("m")))
    (name,) = (each for each in place.revisions("m") if each.startswith(f"m-v{version}-"))
    until(lambda: _is_ready(place, name))
    moments["revision ready"] = time.perf_counter()
    until(lambda: place.shares("m") == {version: 100})
    moments[TRAFFIC] = time.perf_counter()
    if not watcher.is_alive() and not answered.is_set():
        watcher.start()
    assert answered.wait(SECONDS)
    watcher.join()
    parts, before = {}, begun
    for part in PARTS:
        # What a poll saw a little late may have ended before it.
        parts[part] = max(0.0, moments[part] - before)
        before = max(before, moments[part])
    return parts | {"total": moments["first answer"] - begun}


def _pods(place: Cluster, tag: str) -> list[str]:
    """Pods of the revision behind a tag that are not on their way out."""
    until(lambda: tag in place.tags("m"))
    found = place.client.pods(place.namespace, place.tags("m")[tag])
    return [one["metadata"]["name"] for one in found if not one["metadata"].get("deletionTimestamp")]


def _is_ready(place: Cluster, name: str) -> bool:
    conditions = (place.client.revision(place.namespace, name) or {}).get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _first_answer(namespace: str, version: int, moments: dict[str, float], answered: threading.Event) -> None:
    """Asks the service which version answers until it is the new one."""
    host, _, port = os.environ["KNATIVE_INGRESS"].partition(":")
    headers = {"Host": f"m.{namespace}.{DOMAIN}"}
    wanted = str(version)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        try:
            connection.request("GET", "/v1/models/m", headers=headers)
            answer = connection.getresponse()
            content = json.loads(answer.read()) if answer.status == 200 else {}
        except (OSError, ValueError, http.client.HTTPException):
            content = {}
        finally:
            connection.close()
        states = {one["version"]: one["state"] for one in content.get("model_version_status", ())}
        if states.get(wanted) == "AVAILABLE":
            moments["first answer"] = time.perf_counter()
            answered.set()
            return
        time.sleep(POLL_SECONDS)


def until(holds: Callable[[], object]) -> None:
    """Returns once it holds."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()

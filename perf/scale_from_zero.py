"""How long does the first caller wait for a service that is scaled to zero?

half_plus_two from S3 beside a trivial function (Python's own HTTP server, one line of code, in the same cluster), in
turns, as the client measures it: one request through the ingress and the activator to no pod at all. Our answer says
in `Server-Timing` where its process spent the time.

    python -m perf.scale_from_zero --rounds 7 --trivial dev.local/demo-python:1

Needs what tests/e2e needs (tests/e2e/place.py). The trivial image: any whose command may be `python3`, such as
python:3.11-slim; by default our own image, whose Python runs the same lines without a line of ours.
"""

import argparse
import json
import os
import statistics
import time

from tests.e2e.ingress import Service, eventually
from tests.e2e.place import Place, place, reachable_store

TRIVIAL = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Hello).serve_forever()
"""

GONE_SECONDS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trivial", default=os.environ["ZEROSERVE_E2E_IMAGE"], help="image of the trivial function")
    asked = parser.parse_args()
    with reachable_store() as store, place(store) as here:
        here.deploy("m", here.upload("m", 1), "--cpu=100m")
        model, trivial = here.service("m"), _trivial(here, asked.trivial)
        assert model.works()
        assert trivial.ask("GET", "/").status == 200
        ours, theirs, timings = [], [], []
        for round_number in range(asked.rounds):
            _wait_for_none(here)
            for service in (model, trivial) if round_number % 2 else (trivial, model):
                started = time.perf_counter()
                answer = service.predict() if service is model else service.ask("GET", "/")
                seconds = time.perf_counter() - started
                assert answer.status == 200, answer
                (ours if service is model else theirs).append(seconds)
                if service is model:
                    timings.append(answer.headers["server-timing"])
            print(f"{ours[-1]:.2f} s, trivial {theirs[-1]:.2f} s; {timings[-1]}", flush=True)
        more = [mine - other for mine, other in zip(ours, theirs, strict=True)]
        middle = {"ours": ours, "trivial": theirs, "more": more}
        print(json.dumps({name: round(statistics.median(values), 3) for name, values in middle.items()}))


def _trivial(here: Place, image: str) -> Service:
    container = {
        "image": image,
        "command": ["python3", "-c", TRIVIAL],
        "resources": {"requests": {"cpu": "100m", "memory": "400Mi"}, "limits": {"memory": "400Mi"}},
    }
    spec = {"template": {"spec": {"containers": [container]}}}
    body = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "trivial"}, "spec": spec}
    here.kubectl("apply", "-f", "-", feed=json.dumps(body))
    here.kubectl("wait", "--for=condition=Ready", "--timeout=120s", "ksvc/trivial")
    return here.service("trivial")


def _wait_for_none(here: Place) -> None:
    """Until every pod of both is gone: those that drain would take part in nothing but the processor's time."""
    eventually(lambda: not here.get("pods")["items"], GONE_SECONDS)


if __name__ == "__main__":
    main()

"""What does the tap add to one request, on the thread that answers? Microseconds of CPU, without a server around it.

    python -m perf.tap [--number 20000] [--rounds 15]

Each figure is the least of the rounds: what else the machine does only adds. The predictions are those of
half_plus_two with 1 and with 10 000 floats. What the tap's own threads do is not in it (`perf.observability` has that):
they are not started, and queues are as long as they have to be.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from functions.config import Settings
from functions.observing.access import REST, new_access
from functions.tap import event_sink, recorder
from functions.tap.tap import Tap
from loader.inference import predict_call
from loader.saved_model import load
from loader.servable import Servable, ServableId
from loader.session import SessionOptions
from perf.server import ROOT

MODEL = ROOT / "tests" / "golden" / "models" / "half_plus_two" / "1"
SINK = {"prediction_log_sink": "http://127.0.0.1:9/"}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    recorder.MAX_WAITING = event_sink.MAX_EVENTS = 10**9
    recorder.MAX_WAITING_BYTES = event_sink.MAX_BYTES = 10**15
    with tempfile.TemporaryDirectory() as kept:
        ways: dict[str, dict[str, Any]] = {
            "record, not chosen": {"record_to": kept, "record_share": 0.0},
            "record, chosen": {"record_to": kept, "record_share": 1.0},
            "sink, not chosen": {**SINK, "prediction_log_share": 1e-9},
            "sink, chosen": {**SINK, "prediction_log_share": 1.0, "prediction_log_max_value_bytes": 1 << 20},
            "feedback": {"feedback": True},
            "feedback, sealed": {"feedback": True, "feedback_secret": "of-the-benchmark"},
        }
        print("| way | 1 float | 10 000 floats |\n|---|---:|---:|")
        for name, flags in ways.items():
            cells = [microseconds(flags, size, options.number, options.rounds) for size in (1, 10_000)]
            print(f"| {name} | {cells[0]:.2f} us | {cells[1]:.2f} us |", flush=True)


def microseconds(flags: dict[str, Any], size: int, number: int, rounds: int) -> float:
    """Of one call of `Tap.answered`."""
    model = load(MODEL, SessionOptions())
    call = predict_call(model, "", {"x": np.zeros(size, np.float32)})
    result = call.finish(model.session.run(call.feeds, call.fetches))
    servable: Any = Servable(ServableId("m", 1), model, None)  # type: ignore[arg-type]  # nothing is scheduled
    access = new_access(REST, "POST", "/", {})
    best = float("inf")
    for _ in range(rounds):
        tap = Tap(Settings(**flags), "", {})
        for thread_owner in (tap._recorder, tap._sink):
            if thread_owner is not None:
                _unstarted(thread_owner)
        best = min(best, _timed(partial(tap.answered, access, servable, call.feeds, result), number))
    model.session.close()
    return best


def _unstarted(owner: Any) -> None:
    if isinstance(owner, recorder.Recorder):
        owner._thread = object()  # type: ignore[assignment]
    else:
        owner._threads.extend([object()] * event_sink.SENDERS)


def _timed(call: Callable[[], None], number: int) -> float:
    began = time.thread_time()
    for _ in range(number):
        call()
    return (time.thread_time() - began) / number * 1e6


if __name__ == "__main__":
    main()

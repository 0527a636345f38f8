"""Runs are ended at their deadline, and only those that still run."""

import threading
import time

from loader.run_watch import RunWatch


def test_only_what_still_runs_at_its_deadline_is_stopped() -> None:
    watch, stopped = RunWatch(), threading.Event()
    early: list[int] = []
    with watch.until(time.monotonic() + 60, lambda: early.append(1)):
        with watch.until(time.monotonic() + 0.02, stopped.set):
            assert stopped.wait(20)
        with watch.until(time.monotonic() + 30, lambda: early.append(2)):
            pass
    assert early == []
    watch.close()


def test_many_threads_are_watched_each_for_itself() -> None:
    watch = RunWatch()

    def once(results: list[bool], n: int) -> None:
        done = threading.Event()
        with watch.until(time.monotonic() + (0.01 if n % 2 else 60), done.set):
            results.append(done.wait(20) if n % 2 else not done.is_set())

    results: list[bool] = []
    threads = [threading.Thread(target=once, args=(results, n)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 40
    watch.close()

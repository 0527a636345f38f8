"""The parent of several worker processes that serve one port together: `zeroserve serve --workers=N`.

It opens the sockets, forks the workers, puts a new one into the place of one that ends, passes signals on, and waits.
It never loads TensorFlow or numpy, so that a fork is cheap and safe at any time. The workers exchange what they need
among themselves (`functions.crew.member`).
"""

import contextlib
import gc
import logging
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from functions.crew.board import Berth, Board

EXIT_FAILED = 1
"""What a worker ends with whose start failed in a way that another try would not mend."""

STEADY_SECONDS = 60.0
"""A worker that has lived for so long is replaced at once, as if it were the first that ended."""

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
"""Pauses before a worker is replaced that did not live long: none, then this one, doubled each time up to that one."""

_log = logging.getLogger("zeroserve.crew")


@dataclass(slots=True)
class _Place:
    """One worker's place: who has it now, since when, and when the next one comes if nobody has."""

    pid: int = 0
    born: float = 0.0
    deaths: int = 0
    due: float = 0.0


class Crew:
    """The parent's work. One thread, the main one.

    Args:
        count: how many workers there are.
        sockets: listen already; each worker gets a copy.
        work: what a worker does until it ends; gives its exit status.
        end_seconds: how long workers may take to end after SIGTERM; then they are killed.
    """

    def __init__(
        self, count: int, sockets: Sequence[socket.socket], work: Callable[[Berth], int], *, end_seconds: float
    ) -> None:
        self._sockets = sockets
        self._work = work
        self._end_seconds = end_seconds
        self._board = Board(count)
        self._places = [_Place() for _ in range(count)]
        self._folder = Path()
        self._lifeline = os.pipe()
        self._signals: list[int] = []

    def run(self) -> tuple[int, str]:
        """Keeps the crew complete until SIGTERM or SIGINT, or until the first start has failed.

        Returns:
            The exit status, and why the start failed; empty when it did not.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="zeroserve-crew-"))
        gc.freeze()  # the workers share these objects' pages for as long as nobody writes to them
        try:
            with self._woken_by_signals() as wakeup:
                failure = self._keep(wakeup)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        if failure:
            return EXIT_FAILED, failure
        return (128 + self._signals[-1] if len(self._signals) > 1 else 0), ""

    def _keep(self, wakeup: socket.socket) -> str:
        while True:
            now = time.monotonic()
            for index, place in enumerate(self._places):
                if not place.pid and place.due <= now:
                    self._fork(index, place)
            dues = [place.due for place in self._places if not place.pid]
            self._sleep(wakeup, max(0.0, min(dues) - now) if dues else None)
            failure = self._bury()
            if failure or self._signals:
                self._end(wakeup)
                return failure

    def _sleep(self, wakeup: socket.socket, seconds: float | None) -> None:
        if select.select([wakeup], [], [], seconds)[0]:
            for number in wakeup.recv(1000):
                if number in {signal.SIGTERM, signal.SIGINT}:
                    self._signals.append(number)

    def _fork(self, index: int, place: _Place) -> None:
        again = place.deaths > 0
        if again:
            self._board.restarted()
        berth = Berth(index, len(self._places), again, self._folder, self._lifeline[0], self._board)
        pid = os.fork()
        if not pid:
            self._be_worker(berth)
        place.pid, place.born = pid, time.monotonic()
        _log.info("worker %d is process %d", index, pid)

    def _be_worker(self, berth: Berth) -> None:
        """The child: never returns, so that nothing of the parent's runs in it a second time."""
        status = EXIT_FAILED
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.close(self._lifeline[1])
            threading.Thread(target=_end_with_parent, args=(berth.lifeline,), name="crew-lifeline", daemon=True).start()
            status = self._work(berth)
        except BaseException:  # noqa: BLE001  the process ends here, whatever it is
            traceback.print_exc()
            status = os.EX_SOFTWARE
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _bury(self) -> str:
        """Notes which workers have ended; gives why the whole start failed, if it has."""
        for index, place in enumerate(self._places):
            if not place.pid:
                continue
            ended, status = os.waitpid(place.pid, os.WNOHANG)
            if not ended:
                continue
            code, now = os.waitstatus_to_exitcode(status), time.monotonic()
            place.pid = 0
            self._board.ended(index)
            if code == EXIT_FAILED and not self._board.ever_loaded:
                return self._board.failure(index) or f"worker {index} ended with status {code}"
            place.deaths = 1 if now - place.born > STEADY_SECONDS else place.deaths + 1
            pause = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (place.deaths - 2)) if place.deaths > 1 else 0.0
            place.due = now + pause
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
            why = self._board.failure(index)
            _log.error(
                "worker %d (process %d) ended %s%s; another one comes in %g s",
                *(index, ended, how, f": {why}" if why else "", pause),
            )
        return ""

    def _end(self, wakeup: socket.socket) -> None:
        """Lets the workers drain and end; a second signal, or the end of their time, kills them."""
        for one in self._sockets:
            one.close()
        self._tell_all(signal.SIGTERM)
        deadline = time.monotonic() + self._end_seconds
        asked = len(self._signals)
        while True:
            # First of all: of workers that ended together, one signal may have told, which is read already.
            for place in self._places:
                if place.pid and os.waitpid(place.pid, os.WNOHANG)[0]:
                    place.pid = 0
            if not any(place.pid for place in self._places):
                return
            remaining = deadline - time.monotonic()
            over = remaining <= 0 or len(self._signals) > max(1, asked)
            if over:
                self._tell_all(signal.SIGKILL)
            self._sleep(wakeup, None if over else remaining)

    def _tell_all(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.pid:  # not waited for yet, so the number is still its own
                os.kill(place.pid, number)

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Iterator[socket.socket]:
        """A socket that reads as the numbers of the signals that came."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(-1)
            reader.close()
            writer.close()


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # nobody writes: it returns when the parent, whatever ended it, is gone
    os.kill(os.getpid(), signal.SIGTERM)

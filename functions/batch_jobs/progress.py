"""Tells people how far a job is: a bar on a terminal, a line now and then elsewhere. On standard error."""

import time
from typing import TextIO

BAR_SECONDS = 0.1
LINE_SECONDS = 10.0
"""Between two lines where nobody watches a terminal."""

WIDTH = 24
"""Characters of the bar."""


class Progress:
    """One job's. One thread at a time.

    Args:
        out: standard error; None says nothing.
        inputs: bytes of each input, which weigh them.
    """

    def __init__(self, out: TextIO | None, inputs: list[int]) -> None:
        self._out = out
        self._is_terminal = out is not None and out.isatty()
        self._sizes = inputs
        self._total = sum(inputs) or 1
        self._began = self._told = time.monotonic()
        self._rows = 0
        self._errors = 0
        self._share = 0.0
        self._before = 0.0
        self._shown = False

    def skip(self, file: int, share: float) -> None:
        """What earlier runs did: it counts as done, and not as speed."""
        if not self._rows:
            self._before = self._share = self._whole(file, share)

    def add(self, file: int, share: float, rows: int, errors: int) -> None:
        """More rows are through: `share` of the input number `file` is."""
        self._rows += rows
        self._errors += errors
        self._share = self._whole(file, share)
        now = time.monotonic()
        if self._out is not None and now - self._told >= (BAR_SECONDS if self._is_terminal else LINE_SECONDS):
            self._told = now
            self._show(now)

    def say(self, text: str) -> None:
        """One line."""
        if self._out is not None:
            self.end()
            print(text, file=self._out, flush=True)

    def end(self) -> None:
        """Ends the bar's line."""
        if self._is_terminal and self._shown:
            self._shown = False
            print(file=self._out, flush=True)

    @property
    def seconds(self) -> float:
        """Since the job began."""
        return time.monotonic() - self._began

    def _whole(self, file: int, share: float) -> float:
        return min(1.0, (sum(self._sizes[:file]) + share * self._sizes[file]) / self._total)

    def _show(self, now: float) -> None:
        seconds = max(now - self._began, 1e-9)
        done = self._share - self._before
        left = seconds / done * (1 - self._share) if done > 0 else None
        bad = f", {self._errors} bad" if self._errors else ""
        text = (
            f"{self._share:4.0%}  {self._rows} rows{bad}  {self._rows / seconds:.0f} rows/s  "
            f"{'' if left is None else f'{_time(left)} left'}"
        )
        if not self._is_terminal:
            print(f"zeroserve batch: {text.strip()}", file=self._out, flush=True)
            return
        full = round(self._share * WIDTH)
        self._shown = True
        print(f"\r\x1b[K[{'#' * full}{'.' * (WIDTH - full)}] {text}", end="", file=self._out, flush=True)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

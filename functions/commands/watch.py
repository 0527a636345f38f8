"""The command `zeroserve watch`: the event source for storage that sends no events of its own."""

import argparse
import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from events.watch import Looked, Watcher
from events.watch_door import Door
from events.watch_event import Landed
from events.watch_folder import FolderWatch, is_remote
from events.watch_models import WatchedPlace
from events.watch_outbox import Outbox
from events.watch_sink import Answer
from events.watch_told import Told
from functions.event_sink import event_sink
from functions.flags import UsageError
from loader.status import ServingError
from loader.storage import DRIVERS, Storage, open_storage

INTERVAL_SECONDS = 5.0
"""Between two looks where nothing tells of changes."""

TOLD_INTERVAL_SECONDS = 30.0
"""Between two looks at a local folder that inotify watches: they find what a lost notice was about."""

MIN_INTERVAL_SECONDS = 0.1

ONCE_TRIES = 5
"""How often `--once` tries to deliver an event."""

END_SECONDS = 10.0
"""What events that are on their way get at the end."""

DONE_SECONDS = 0.05
"""Between two questions of `--once` whether all is done."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

_ENDS = (signal.SIGTERM, signal.SIGINT)
_DIGITS = re.compile(r"[0-9]+")


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command lines that `zeroserve completion` is told of, by their second word; empty for none."""
    return {"": _parser()}


def main(words: Sequence[str]) -> int:
    """Watches until it is told to end, or looks once; gives the exit status.

    Raises:
        UsageError: a command line that makes no sense.
    """
    asked = _parser().parse_args(words)
    if asked.interval is not None and asked.interval < MIN_INTERVAL_SECONDS:
        raise UsageError(f"--interval={asked.interval:g}: wanted {MIN_INTERVAL_SECONDS} seconds or more")
    try:
        send = _print_instead if asked.dry_run else event_sink(asked.sink, asked.token_file).send
        told = Told(Path(asked.state) if asked.state else None)
        storages = [open_storage(_absolute(url), asked.storage_driver) for url in dict.fromkeys(asked.urls)]
    except (ValueError, OSError, ServingError) as error:
        raise UsageError(f"watch: {error}") from None
    return _Run(asked, send, told, storages).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeroserve watch",
        description="Tells a sink, by CloudEvents, of every complete model version that comes or changes in storage. "
        "For storage that sends no events itself: local folders, NFS, HDFS, web servers; any other URL works too.",
    )
    parser.add_argument("urls", nargs="+", metavar="URL", help="folder of a model's versions, or of such folders")
    parser.add_argument("--sink", default="", metavar="URL", help="takes the events; default: $K_SINK")
    parser.add_argument(
        "--interval",
        type=float,
        metavar="SECONDS",
        help=f"between two looks; default: {INTERVAL_SECONDS:g}, and {TOLD_INTERVAL_SECONDS:g} where the system tells "
        "of changes",
    )
    parser.add_argument("--once", action="store_true", help="look once, deliver, and end: for a CronJob")
    parser.add_argument("--state", default="", metavar="FILE", help="remember there what was told; default: tell all")
    parser.add_argument("--token-file", default="", metavar="FILE", help="bearer token for the sink, read each time")
    parser.add_argument("--listen", default="", metavar="[HOST:]PORT", help="look at once when somebody posts there")
    parser.add_argument("--secret-file", default="", metavar="FILE", help="bearer token that they must send")
    parser.add_argument("--storage-driver", default="auto", choices=DRIVERS, help="see zeroserve serve --help")
    parser.add_argument("--dry-run", action="store_true", help="send nothing: print what would be told, once")
    parser.add_argument("--json", action="store_true", help="print one line of JSON for all that happens")
    return parser


def _print_instead(_: Landed) -> Answer:
    return Answer(delivered=True)


class _Run:
    """One run of the command."""

    def __init__(
        self, asked: argparse.Namespace, send: Callable[[Landed], Answer], told: Told, storages: Sequence[Storage]
    ) -> None:
        self._asked = asked
        self._once: bool = asked.once or asked.dry_run
        self._told = told
        self._reporter = _Reporter(as_json=asked.json)
        self._failed = False
        self._outbox = Outbox(send, self._settled, self._retry, ONCE_TRIES if self._once else 0)
        local = {storage.url: storage.local for storage in storages if storage.local and not is_remote(storage.local)}
        self._folders = set() if self._once else set(local.values())
        self._watchers = [
            Watcher(
                WatchedPlace(storage),
                self._outbox,
                told,
                asked.interval or (TOLD_INTERVAL_SECONDS if storage.url in local else INTERVAL_SECONDS),
                looked=self._looked,
                failed=self._blind,
            )
            for storage in storages
        ]

    def run(self) -> int:
        """Until the end; gives the exit status."""
        # Blocked here and in all threads that are made below: they wait until this thread asks for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        try:
            return self._run()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run(self) -> int:
        door = self._door()
        notices = FolderWatch(lambda: self._folders, self._look_now) if self._folders else None
        helpers = [helper for helper in (notices, door) if helper is not None]
        work = [self._look_once(watcher) if self._once else watcher.run for watcher in self._watchers]
        threads = [threading.Thread(target=one, name=f"watch-{number}", daemon=True) for number, one in enumerate(work)]
        for one in (*threads, *helpers):
            one.start()
        ended = self._until_done(threads) if self._once else signal.sigwait(_ENDS)
        for watcher in self._watchers:
            watcher.stop()
        for helper in helpers:
            helper.close()
        left = self._outbox.close(END_SECONDS)
        if left:
            self._reporter.say("left", f"{left} events were not delivered; the next start tells of them", count=left)
        if ended == signal.SIGINT:
            return EXIT_INTERRUPTED
        return EXIT_FAILED if self._once and (self._failed or left) else 0

    def _until_done(self, threads: Sequence[threading.Thread]) -> int:
        """Returns when all looks are over and all events are done with, or with the signal that ends the wait."""
        while any(thread.is_alive() for thread in threads) or self._outbox.waiting:
            ended = signal.sigtimedwait(_ENDS, DONE_SECONDS)
            if ended is not None:
                return ended.si_signo
        return 0

    def _door(self) -> Door | None:
        if not self._asked.listen or self._once:
            return None
        host, _, port = self._asked.listen.rpartition(":")
        secret = Path(self._asked.secret_file).read_text().strip() if self._asked.secret_file else ""
        if not port.isdecimal():
            raise UsageError(f"--listen={self._asked.listen}: wanted PORT or HOST:PORT")
        try:
            door = Door(host or "0.0.0.0", int(port), secret, self._look_now)  # noqa: S104  a pod is reached from outside
        except OSError as error:
            raise UsageError(f"--listen={self._asked.listen}: {error}") from None
        self._reporter.say("listening", f"looks at once when somebody posts to port {door.port}", port=door.port)
        return door

    def _look_once(self, watcher: Watcher) -> Callable[[], None]:
        def look() -> None:
            failure = watcher.look()
            if failure:
                self._blind(failure)

        return look

    def _look_now(self) -> None:
        for watcher in self._watchers:
            watcher.look_now()

    # What happens, for people and programs.

    def _looked(self, looked: Looked) -> None:
        for url, lacks in looked.incomplete.items():
            self._reporter.incomplete(url, lacks)
        for url in looked.gone:
            self._reporter.done(url)
            self._reporter.say("gone", f"{url} is gone", url=url)

    def _blind(self, failure: str) -> None:
        self._failed = True
        self._reporter.say("blind", failure, reason=failure)

    def _settled(self, landed: Landed, delivered: bool) -> None:
        if delivered and not self._asked.dry_run:
            try:
                self._told.note(landed)
            except OSError as error:
                self._reporter.say("state", f"--state={self._asked.state}: {error}", reason=str(error))
        self._failed = self._failed or not delivered
        self._reporter.done(landed.url)
        told = "would tell" if self._asked.dry_run else "told" if delivered else "gave up telling"
        self._reporter.say(
            "delivered" if delivered else "refused",
            f"{told} of {landed.url}: {landed.files} files, {landed.size} bytes",
            url=landed.url,
            fingerprint=landed.fingerprint,
            files=landed.files,
            size=landed.size,
        )

    def _retry(self, landed: Landed, reason: str, after: float | None) -> None:
        then = "it is final" if after is None else f"again in {after:.1f} s"
        self._reporter.say("failed", f"{landed.url}: {reason}; {then}", url=landed.url, reason=reason, after=after)


class _Reporter:
    """Prints: lines for people go to standard error, JSON to standard output. Safe from any thread."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()
        self._lacks: dict[str, str] = {}

    def say(self, event: str, text: str, **details: Any) -> None:
        """One line."""
        with self._lock:
            if self._as_json:
                print(json.dumps({"event": event, **details}), flush=True)
            else:
                print(f"zeroserve watch: {text}", file=sys.stderr, flush=True)

    def incomplete(self, url: str, lacks: str) -> None:
        """Says why a version is not complete, unless it was said before: that a file grows is no news."""
        with self._lock:
            said, self._lacks[url] = self._lacks.get(url), _DIGITS.sub("", lacks)
            new = self._lacks[url] != said
        if new:
            self.say("incomplete", f"{url} is not complete: {lacks}", url=url, reason=lacks)

    def done(self, url: str) -> None:
        """A version is complete or gone: what is said of it next is news."""
        with self._lock:
            self._lacks.pop(url, None)


def _absolute(url: str) -> str:
    """A relative folder stands on the working directory; a URL stays as it is."""
    return url if "://" in url or "::" in url else str(Path(url).absolute())

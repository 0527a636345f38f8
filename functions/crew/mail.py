"""Questions between the workers of one server, over UNIX sockets in a folder that only they may enter.

A question is a subject and a content, pickled: both sides are the same program, forked from one process, and the
folder's mode is 0700. Each answer is made on a thread of its own, so that one that takes long (a reload waits for its
models) holds up no other.
"""

import contextlib
import logging
import pickle
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from loader.status import Code, ServingError

BACKLOG = 128
"""Questions that may wait to be read."""

CONNECT_SECONDS = 1.0
"""How long a question waits to be taken; a worker that is stopped takes none."""

MAX_MESSAGE_BYTES = 256 << 20
"""Length of a question or an answer."""

_LENGTH = struct.Struct("!I")
_log = logging.getLogger("zeroserve.crew")


class NoAnswerError(Exception):
    """The worker is not there, ended meanwhile, or did not answer in time."""


class Mail:
    """One worker's letter box. Safe from any thread.

    Args:
        folder: where all boxes are.
        index: this worker.
        count: how many workers there are.
    """

    def __init__(self, folder: Path, index: int, count: int) -> None:
        self._folder = folder
        self._index = index
        self._others = [other for other in range(count) if other != index]
        self._box: socket.socket | None = None

    @property
    def others(self) -> list[int]:
        """Every other worker."""
        return list(self._others)

    def open(self, answers: Mapping[str, Callable[[Any], Any]]) -> None:
        """Begins to answer, by subject. What an answer raises is raised where the question was asked."""
        path = self._path(self._index)
        path.unlink(missing_ok=True)
        self._box = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._box.bind(str(path))
        self._box.listen(BACKLOG)
        threading.Thread(target=self._run, args=(self._box, answers), name="crew-mail", daemon=True).start()

    def close(self) -> None:
        """Answers no further question."""
        if self._box is not None:
            with contextlib.suppress(OSError):
                self._box.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
            self._box.close()

    def ask(self, other: int, subject: str, content: Any = None, timeout: float | None = None) -> Any:
        """The answer of one worker.

        Args:
            timeout: seconds; None waits for as long as the worker lives.

        Raises:
            NoAnswerError: there is none.
            ServingError: what the answer says.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(CONNECT_SECONDS)
                line.connect(str(self._path(other)))
                _send(line, (subject, content))
                line.settimeout(timeout)
                answer = _receive(line)
        except (OSError, EOFError) as error:
            raise NoAnswerError(f"worker {other} does not answer: {error}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask_others(self, subject: str, content: Any = None, timeout: float | None = None) -> dict[int, Any]:
        """The answers of all other workers, asked at the same time; of one that gives none, the exception."""

        def ask(other: int) -> Any:
            try:
                return self.ask(other, subject, content, timeout)
            except (NoAnswerError, ServingError) as error:
                return error

        if not self._others:
            return {}
        with ThreadPoolExecutor(len(self._others), "crew-ask") as pool:
            return dict(zip(self._others, pool.map(ask, self._others), strict=True))

    def _path(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}"

    def _run(self, box: socket.socket, answers: Mapping[str, Callable[[Any], Any]]) -> None:
        while True:
            try:
                line, _ = box.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._answer, args=(line, answers), name="crew-answer", daemon=True).start()

    def _answer(self, line: socket.socket, answers: Mapping[str, Callable[[Any], Any]]) -> None:
        with line:
            try:
                line.settimeout(CONNECT_SECONDS)
                subject, content = _receive(line)
                line.settimeout(None)
                _send(line, _made(answers[subject], content))
            except (OSError, EOFError) as error:
                _log.debug("a worker did not wait for its answer: %s", error)


def _made(answer: Callable[[Any], Any], content: Any) -> Any:
    try:
        return answer(content)
    except ServingError as error:
        return error
    except Exception:  # noqa: BLE001  whatever fails, who asked gets an answer and the log the reason
        _log.exception("an answer to another worker failed")
        return ServingError(Code.INTERNAL, "a worker failed; the server's log says more")


def _send(line: socket.socket, message: Any) -> None:
    content = pickle.dumps(message)
    line.sendall(_LENGTH.pack(len(content)) + content)


def _receive(line: socket.socket) -> Any:
    (length,) = _LENGTH.unpack(_exactly(line, _LENGTH.size))
    if length > MAX_MESSAGE_BYTES:
        raise EOFError(f"a message of {length} bytes, at most {MAX_MESSAGE_BYTES} are read")
    return pickle.loads(_exactly(line, length))  # noqa: S301  from our own program only, see the module


def _exactly(line: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        chunk = line.recv(min(1 << 20, length - len(content)))
        if not chunk:
            raise EOFError("the connection was closed")
        content += chunk
    return bytes(content)

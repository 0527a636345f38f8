import threading

from functions.observing.line_writer import DROPPED, MAX_LINES, PIPE_BYTES, WRITTEN, LineWriter

SECONDS = 30


class Counts(dict[str, int]):
    def __call__(self, result: str, count: int) -> None:
        self[result] = self.get(result, 0) + count


def test_lines_come_in_order_whole_and_in_pieces_that_a_pipe_takes_at_once() -> None:
    pieces: list[bytes] = []
    counts = Counts()
    writer = LineWriter(pieces.append, counts)
    lines = [b"%d %s\n" % (number, b"x" * (number % 300)) for number in range(1000)]
    lines.insert(500, b"y" * (2 * PIPE_BYTES) + b"\n")
    for line in lines:
        writer.put(line)
    writer.close(SECONDS)
    assert b"".join(pieces) == b"".join(lines)
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [piece for piece in pieces if len(piece) > PIPE_BYTES] == [lines[500]]
    assert counts == {WRITTEN: 1001}


def test_a_reader_that_is_stuck_holds_nobody_up_and_what_is_dropped_is_counted() -> None:
    stuck, goes_on = threading.Event(), threading.Event()
    counts = Counts()

    def write(_: bytes) -> None:
        stuck.set()
        goes_on.wait(SECONDS)

    writer = LineWriter(write, counts)
    writer.put(b"first\n")
    assert stuck.wait(SECONDS)
    for _ in range(MAX_LINES + 7):
        writer.put(b"another\n")
    assert counts == {DROPPED: 7}
    writer.close(0.01)
    writer.put(b"too late\n")
    assert counts == {DROPPED: 8}
    goes_on.set()
    writer.close(SECONDS)
    assert counts == {DROPPED: 8, WRITTEN: MAX_LINES + 1}


def test_a_place_that_takes_nothing_loses_the_lines_and_nothing_else() -> None:
    counts = Counts()

    def write(_: bytes) -> None:
        raise BrokenPipeError

    writer = LineWriter(write, counts)
    writer.put(b"a\n")
    writer.close(SECONDS)
    assert counts == {DROPPED: 1}


def test_a_writer_without_lines_has_no_thread() -> None:
    before = threading.active_count()
    writer = LineWriter(print, Counts())
    assert threading.active_count() == before
    writer.close(SECONDS)

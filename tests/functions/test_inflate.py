"""gzip bodies."""

import gzip
import tracemalloc

import pytest

from functions.web.inflate import inflate
from loader.status import ServingError


def test_a_gzip_body_is_inflated() -> None:
    assert inflate(gzip.compress(b"x" * 1000), 1000) == b"x" * 1000


@pytest.mark.parametrize("body", [b"", b"not gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9]])
def test_what_is_no_complete_gzip_is_an_empty_body_as_in_the_stock_server(body: bytes) -> None:
    assert inflate(body, 1000) == b""


def test_a_bomb_is_refused_before_it_is_in_memory() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ServingError, match="inflates to more than 1000 bytes"):
            inflate(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()

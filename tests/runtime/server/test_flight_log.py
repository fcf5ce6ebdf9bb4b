"""What an engine leaves word of, in a file that outlives it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from furcate.runtime.server.flight_log import FlightLog, flight_log_path, read_flights

if TYPE_CHECKING:
    from pathlib import Path


def test_the_streams_of_forwards_that_have_not_landed_are_read(tmp_path: Path) -> None:
    path = flight_log_path(tmp_path / "serve.sock.engine0")
    log = FlightLog(path, 4)
    assert read_flights(path) == frozenset()
    log.launched(1, [3, 5])
    log.launched(2, [5, 2**40])
    assert read_flights(path) == {3, 5, 2**40}
    log.landed(1)
    assert read_flights(path) == {5, 2**40}
    log.launched(3, [1, 2, 3, 4])
    log.landed(2)
    assert read_flights(path) == {1, 2, 3, 4}
    log.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_process_that_is_killed_has_left_word(tmp_path: Path) -> None:
    path = tmp_path / "flights"
    child = os.fork()
    if child == 0:
        FlightLog(path, 4).launched(7, [42])
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert read_flights(path) == {42}


@pytest.mark.parametrize("content", [b"", b"\x08", b"\xff" * 64])
def test_a_file_that_is_broken_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "flights").write_bytes(content)
    assert read_flights(tmp_path / "flights") is None
    assert read_flights(tmp_path / "missing") is None

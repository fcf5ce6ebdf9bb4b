"""A compile worker as its parent sees it: started, asked with a deadline, killed.

Knows pipes and processes, not what is compiled.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import furcate

from .channel import Frames, frame

if TYPE_CHECKING:
    from furcate.runtime.clock import Clock

__all__ = ["WorkerLost", "WorkerProcess", "WorkerTimeout"]

_CHUNK_BYTES = 1 << 20
_OWN_SIGNALS = (signal.SIGPROF, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)


class WorkerTimeout(Exception):
    """The worker did not answer in time."""


class WorkerLost(Exception):
    """The worker ended. `is_own_doing` says whether it was a limit or a crash of its own."""

    def __init__(self, return_code: int) -> None:
        super().__init__(f"the compile worker ended with {return_code}")
        self.is_own_doing = -return_code in _OWN_SIGNALS


class WorkerProcess:
    """One process. Started by the constructor; owned by one thread, but `kill` may be any's."""

    def __init__(self, setup: bytes, clock: Clock) -> None:
        self._clock = clock
        self._is_started = False
        self._frames = Frames()
        self._unsent = bytearray(frame(setup))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "furcate.runtime.constrain.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        for descriptor in self._descriptors():
            os.set_blocking(descriptor, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _descriptors(self) -> tuple[int, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin.fileno(), self._process.stdout.fileno()

    def wait_for_start(self, timeout_s: float) -> None:
        """Waits for the imports and the vocabulary, once; a compilation's time starts after it."""
        if not self._is_started:
            self._receive(timeout_s)
            self._is_started = True

    def ask(self, payload: bytes, timeout_s: float) -> bytes:
        """Sends a message and waits for the answer; raises WorkerTimeout or WorkerLost."""
        self._unsent += frame(payload)
        return self._receive(timeout_s)

    def _receive(self, timeout_s: float) -> bytes:
        deadline_s = self._clock.now() + timeout_s
        while (reply := self._frames.pop()) is None:
            self._transfer(deadline_s - self._clock.now())
        return reply

    def _transfer(self, timeout_s: float) -> None:
        """Writes and reads what the pipes take and give."""
        into, out_of = self._descriptors()
        waiting = [into] if self._unsent else []
        readable, writable, _ = select.select([out_of], waiting, [], max(timeout_s, 0))
        if not readable and not writable:
            raise WorkerTimeout(f"no answer after {timeout_s:.1f} s")
        try:
            if writable:
                del self._unsent[: os.write(into, self._unsent[:_CHUNK_BYTES])]
            if readable:
                data = os.read(out_of, _CHUNK_BYTES)
                if not data:
                    raise WorkerLost(self._process.wait())
                self._frames.feed(data)
        except BrokenPipeError:
            raise WorkerLost(self._process.wait()) from None
        except BlockingIOError:  # reported ready, and no longer
            return

    def kill(self) -> None:
        """Ends the process and waits until it is gone. Twice is as good as once."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ends the process and closes the pipes; for the owner, who does not ask again."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue


def _environment() -> dict[str, str]:
    """The parent's, with this package importable, one thread, and no accelerator."""
    source = str(Path(furcate.__file__).parent.parent)
    known = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": source + (os.pathsep + known if known else ""),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }

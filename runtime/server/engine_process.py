"""The front's hold on the engine process: starts it, tells when and why it ended, stops it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import msgspec

from furcate.errors import BackendError, EngineLost, FurcateError, from_wire
from furcate.runtime.config import Config, to_json

from .engine import Report

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EngineProcess"]

REPORT_GRACE_S = 0.2  # for the last words of a process that has ended
STOP_GRACE_S = 1.2  # a little more than the engine gives itself


class EngineProcess:
    """One engine. Ends with this process, at the latest."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._report: Report | None = None
        self._given_up: str | None = None
        self._reading = asyncio.ensure_future(self._read_report())

    @classmethod
    async def start(cls, config: Config, link: Path) -> EngineProcess:
        # In a session of its own: Ctrl-C is the front's to handle. -P: no module from the folder
        # that the server happens to be started in.
        command = [sys.executable, "-P", "-m", "furcate.runtime.server.engine"]
        process = await asyncio.create_subprocess_exec(
            *command,
            str(link),
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(to_json(config) + b"\n")
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> FurcateError:
        """Waits for the end of the process; why it ended."""
        status = await self._process.wait()
        await asyncio.wait([self._reading], timeout=REPORT_GRACE_S)
        if self._given_up is not None:
            return EngineLost(self._given_up)
        if self._report is not None:
            return from_wire(self._report.code, self._report.message)
        return BackendError(f"the engine process has ended: {_words_for(status)}")

    def give_up(self, reason: str) -> None:
        """Kills a process that cannot be talked to any more; one that has ended stays as it is."""
        if self._process.returncode is None:
            self._given_up = reason
            self._process.kill()

    async def stop(self) -> None:
        """Ends the process, gently first. Callable twice."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.returncode is not None:
            self._reading.cancel()
            return
        try:
            await asyncio.wait_for(self._process.wait(), STOP_GRACE_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._reading.cancel()

    async def _read_report(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            try:
                self._report = msgspec.json.decode(line, type=Report)
            except msgspec.MsgspecError:
                continue  # an interpreter that fails before it reaches our code


def _words_for(status: int) -> str:
    if status >= 0:
        return f"exit status {status}; what it printed says why"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"

"""A server that kills its own engine: `killing_server.py KILLS EVERY RESTARTS SOCKET MODEL`.

Each engine is killed after EVERY reports of it that a generation goes on or is done, KILLS of them
in all, each by another signal; RESTARTS are allowed. Serves until SIGTERM, and says how many it has
killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import uvloop

from furcate.protocol.stream import NodeDone, Tokens
from furcate.runtime.launch import configure
from furcate.runtime.log import set_up
from furcate.runtime.server.front import Server, socket_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.stream import EngineEvent, EngineReady


SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)


class KillingServer(Server):
    kills_left = 0
    every = 0
    num_reports = 0
    victim: int | None = None

    def engine_ready(self, ready: EngineReady) -> None:
        self.num_reports = 0
        super().engine_ready(ready)

    def engine_events(self, events: Sequence[EngineEvent]) -> None:
        super().engine_events(events)
        self.num_reports += sum(isinstance(event, (NodeDone, Tokens)) for event in events)
        pid = self._supervisor.engine_pid
        may_kill = self.kills_left > 0 and pid is not None and pid != self.victim
        if may_kill and self.num_reports >= self.every:
            assert pid is not None
            self.victim = pid
            self.kills_left -= 1
            os.kill(pid, SIGNALS[self.kills_left % len(SIGNALS)])


async def serve(kills: int, every: int, restarts: int, socket: str, model: str) -> None:
    config = configure({"model": model, "address": socket, "max_restarts": restarts, "threads": 1})
    set_up(config.log, "front")
    server = KillingServer(config, socket_of(config.server), lambda address: say("ready"))
    server.kills_left, server.every = kills, every
    await server.run()
    say(f"killed {kills - server.kills_left}")


def say(what: str) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    *numbers, socket, model = sys.argv[1:]
    kills, every, restarts = map(int, numbers)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(kills, every, restarts, socket, model))

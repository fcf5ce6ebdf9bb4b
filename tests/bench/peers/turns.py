"""What every peer's driver shares: it loads its engine, then does one workload whenever it is told.

A driver is called with the path of a work file. It prints one line of JSON when it has loaded, and
one for each line `{"workload": ..., "draw": ...}` that it reads. Whatever else its engine prints
goes to the standard error. Imports the standard library alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING

from calls import CLIENTS, Call, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Engine", "SteppedEngine", "serve"]

SETTLE = 8  # turns of the event loop in which clients see replies and make their next calls


class Engine:
    """A driver defines `ask`, or `complete` where its engine cannot serve calls one by one."""

    can_constrain = True
    can_run_programs = True

    async def ask(self, call: Call) -> Reply:
        raise NotImplementedError

    async def complete(self, calls: Sequence[Call]) -> list[Reply]:
        return await self.together([self.ask(call) for call in calls])

    async def together(self, coroutines: Sequence[object]) -> list:
        return list(await asyncio.gather(*coroutines))

    def cool(self) -> None:
        """Empties the prefix cache, where the engine can."""

    def close(self) -> None:
        pass


class SteppedEngine(Engine):
    """An engine that takes calls at any time and goes on by steps, in this thread."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._num_calls = 0

    def submit(self, key: int, call: Call) -> None:
        raise NotImplementedError

    def step(self) -> list[tuple[int, Reply]]:
        """The replies that are complete."""
        raise NotImplementedError

    async def ask(self, call: Call) -> Reply:
        self._num_calls += 1
        self._waiting[self._num_calls] = future = asyncio.get_running_loop().create_future()
        self.submit(self._num_calls, call)
        return await future

    async def together(self, coroutines: Sequence[object]) -> list:
        everything = asyncio.gather(*coroutines)
        while True:
            for _ in range(SETTLE):
                await asyncio.sleep(0)
            if everything.done():
                return list(everything.result())
            for key, reply in self.step():
                self._waiting.pop(key).set_result(reply)


def serve(load: Callable[[], Engine]) -> None:
    """The whole life of a driver."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: dict[str, object]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    with open(sys.argv[-1]) as file:
        work = json.load(file)
    began = time.perf_counter()
    engine = load()
    try:
        say({"load_s": round(time.perf_counter() - began, 2)})
        for line in sys.stdin:
            turn = json.loads(line)
            draw = work["workloads"][turn["workload"]]["draws"][turn["draw"]]
            say(turn | asyncio.run(_turn(engine, turn["workload"], draw, turn["draw"])))
    finally:
        engine.close()


async def _turn(engine: Engine, name: str, draw: list[dict], seed: int) -> dict[str, object]:
    if name in CLIENTS:
        return await _programs(engine, name, draw, seed)
    calls = [Call(r["ids"], r["max_tokens"], schema=r["schema"]) for r in draw]
    if calls[0].is_constrained and not engine.can_constrain:
        return {"skipped": "no constrained output"}
    engine.cool()
    began = time.perf_counter()
    replies = await engine.complete(calls)
    seconds = time.perf_counter() - began
    answer: dict[str, object] = {
        "seconds": round(seconds, 4),
        "outputs": [reply.ids for reply in replies],
    }
    if calls[0].schema:
        answer["texts"] = [reply.text for reply in replies]
    return answer


async def _programs(engine: Engine, name: str, draw: list[dict], seed: int) -> dict[str, object]:
    if not engine.can_run_programs:
        return {"skipped": "no prefix cache"}
    num_output = num_calls = 0

    async def ask(call: Call) -> Reply:
        nonlocal num_output, num_calls
        reply = await engine.ask(call)
        num_output += len(reply.ids)
        num_calls += 1
        if not call.is_constrained and len(reply.ids) != call.max_tokens:
            raise RuntimeError(f"{call.max_tokens} tokens asked, {len(reply.ids)} given")
        return reply

    engine.cool()
    client = CLIENTS[name]
    began = time.perf_counter()
    await engine.together(
        [client(script, ask, 1_000 * seed + number) for number, script in enumerate(draw)]
    )
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 4), "num_output": num_output, "num_calls": num_calls}

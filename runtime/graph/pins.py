"""KV that stays in the cache though no program runs on it: what is pinned under which number.

The engine keeps pins by number and lets go of them by itself when their time is over or when it
ends; names and their owners are known here alone. The prompt of a Pin is computed on a stream of
its own, so that the branch's text run goes on behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import CapacityError, UsageError
from furcate.protocol.message import ValueMeta
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Extend, Generate, Unpin
from furcate.protocol.stream import Pin as StreamPin

from .cell import Ready
from .whole import WholeTask

if TYPE_CHECKING:
    from furcate.protocol.graph import Pin
    from furcate.protocol.stream import NodeDone

    from .branch import Branch
    from .cell import Cell, Failure
    from .outbox import Outbox
    from .program import Program

__all__ = ["Pins", "pin_branch"]


class Pins:
    """The numbers of a front's pins. Those with a name are at most `limit`."""

    def __init__(self, outbox: Outbox, limit: int) -> None:
        self._outbox = outbox
        self._limit = limit
        self._named: dict[tuple[str, str], int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._named)

    def number(self) -> int:
        self._next += 1
        return self._next - 1

    def named(self, tenant: str, name: str) -> int:
        """The same for the same name: a pin takes the place of the one before it."""
        found = self._named.get((tenant, name))
        if found is not None:
            return found
        if len(self._named) >= self._limit:
            raise CapacityError(f"there are {self._limit} pins already; unpin one of them")
        number = self._named[tenant, name] = self.number()
        return number

    def unpin(self, tenant: str, name: str) -> None:
        """Idempotent."""
        number = self._named.pop((tenant, name), None)
        if number is not None:
            self.give_up(number)

    def give_up(self, number: int) -> None:
        self._outbox.ask(Unpin(number))

    def clear(self) -> None:
        """The engine has let go of all of them."""
        self._named.clear()


def pin_branch(branch: Branch, cell: Cell, node: Pin) -> None:
    """Has the engine compute and keep all that the branch says so far."""
    program = branch.program
    snapshot, streams = branch.outlet.snapshot(), program.streams_table
    ids = (*snapshot.ids, *program.setting.encode(snapshot.run))
    if not ids and snapshot.origin.stream is None:
        raise UsageError("there is nothing to pin: no text comes before the pin")
    pin = program.sessions.pins.named(program.options.tenant, node.name)
    task = _Pinning(program, cell, node.name)
    stream = streams.open(program, task, snapshot.origin)
    streams.append(stream, Extend(ids), cell.ordinal)
    streams.append(stream, StreamPin(pin, node.ttl_s, strict=True), cell.ordinal)
    streams.append(stream, Generate(Sampling(max_tokens=0), 0), cell.ordinal, task)
    streams.end(stream)


class _Pinning(WholeTask):
    """The prefill of one Pin. Its value is the number of tokens."""

    what = "a prefill"

    def __init__(self, program: Program, cell: Cell, name: str) -> None:
        super().__init__(program, cell)
        self._name = name

    def complete(self, done: NodeDone) -> None:
        count = done.usage.prompt
        self._program.resolve(self._cell, Ready(count, str(count)), ValueMeta(usage=done.usage))

    def fail(self, failure: Failure) -> None:
        self._program.sessions.pins.unpin(self._program.options.tenant, self._name)
        super().fail(failure)

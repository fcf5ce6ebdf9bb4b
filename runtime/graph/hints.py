"""What the scheduler is told of the nodes that it has not got yet.

A branch's queue holds what waits for values; children hold what comes after a fork. From them
follows, for each stream, how much is recorded to come after it and who waits for it. At most one
Hint a stream and turn, and only where it changed. Knows nothing of what a scheduler makes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.protocol.graph import Gen, Select
from furcate.protocol.stream import Hint

from .attempts import Attempts
from .entry import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from furcate.protocol.stream import NextUse

    from .branch import Branch, Child
    from .cell import Cell
    from .outbox import Outbox
    from .program import Program
    from .stream import Stream
    from .streams import Streams

__all__ = ["send_hints"]

# Beyond that many branches in a row a path is long, however long it is.
MAX_DEPTH = 32


def send_hints(streams: Streams, outbox: Outbox) -> None:
    """Of all programs that have changed since the last call."""
    for program in streams.to_hint:
        for stream, hint in _hints(program):
            if hint != (stream.hint or Hint(stream.id)):
                stream.hint = hint
                outbox.ask(hint)


def _hints(program: Program) -> Iterator[tuple[Stream, Hint]]:
    """Of all streams that the engine knows."""
    if not program.streams:
        return
    outlook = _Outlook(program)
    of_branches: set[Stream] = set()
    for branch in program.all_branches():
        stream = branch.outlet.stream
        if stream is None:
            continue
        of_branches.add(stream)
        if stream.launched and not (stream.cancelled or stream.ended):
            path, num_waiting = outlook.path(branch), outlook.num_waiting(branch)
            yield stream, Hint(stream.id, path, num_waiting, *outlook.next_use(branch, stream))
    others = [each for each in program.streams if each not in of_branches]
    attempts = _attempts(program) if others else {}
    for stream in others:
        if not stream.launched or stream.cancelled:
            continue
        owner = attempts.get(stream)
        if owner is None:  # one of several samples, which nothing comes after
            yield stream, Hint(stream.id, next_use="dead")
        else:
            path, num_waiting = outlook.path(owner), outlook.num_waiting(owner)
            yield stream, Hint(stream.id, path, num_waiting, *outlook.next_use(owner, stream))


class _Outlook:
    """How a program goes on from each of its branches, as far as that is recorded."""

    def __init__(self, program: Program) -> None:
        self._awaiting: dict[Cell, list[Branch]] = {}  # branches held up, by the cells they need
        self._waiting: dict[int, set[Branch]] = {}  # the same by the branch whose value it is
        self._next: dict[int, set[Branch]] = {}  # those of them that wait for what its stream has
        self._paths: dict[Branch, int] = {}
        self._paths_of_queues: dict[Branch, int] = {}
        self._asked: dict[Branch, list[float | None]] = {}  # what holds them up is the client's
        awaited = program.calls.awaited()
        held_up = [branch for branch in program.all_branches() if branch.queue]
        queued = {entry.cell for branch in held_up for entry in branch.queue}
        for branch in held_up:
            for cell in _needed_by(branch):
                self._note(branch, cell, cell in queued)
                if cell in awaited:
                    self._asked.setdefault(branch, []).append(awaited[cell])

    def next_use(self, branch: Branch, stream: Stream) -> tuple[NextUse, float | None]:
        """Of the stream's tokens, and in how many seconds: by what comes next on the branch, and by
        those that are to begin from it. Who waits for a value of it needs the text only."""
        if stream.closed:
            return "dead", None
        expected: list[float] = []
        todo = [branch]
        while todo:
            each = todo.pop()
            if each.queue and each not in self._asked:
                return "scheduled", None
            known = [seconds for seconds in self._asked.get(each, ()) if seconds is not None]
            if known:
                expected.append(max(known))
            todo.extend(c.branch for c in each.children if c.branch.outlet.stream is None)
            todo.extend(_elected(each))
        return "idle", min(expected, default=None)

    def _note(self, branch: Branch, cell: Cell, is_queued: bool) -> None:
        """The branch waits for the cell; `is_queued`: no stream has got the node of that yet."""
        self._awaiting.setdefault(cell, []).append(branch)
        if cell.branch is not None and cell.branch != branch.id:
            self._waiting.setdefault(cell.branch, set()).add(branch)
            if not is_queued:
                self._next.setdefault(cell.branch, set()).add(branch)

    def num_waiting(self, branch: Branch) -> int:
        return len(self._waiting.get(branch.id, ()))

    def path(self, branch: Branch, depth: int = 0) -> int:
        """Generations and choices after the nodes that the branch's stream has got, on the longest
        chain of what depends on it."""
        known = self._paths.get(branch)
        if known is not None or depth > MAX_DEPTH:
            return known or 0
        longest = self._path_of_queue(branch, depth + 1)
        for child in branch.children:
            if _depends(child, branch):
                stream = child.branch.outlet.stream
                pending = 0 if stream is None else stream.num_pending
                longest = max(longest, pending + self.path(child.branch, depth + 1))
        for elected in _elected(branch):
            longest = max(longest, self.path(elected, depth + 1))
        for other in self._next.get(branch.id, ()):
            longest = max(longest, self._path_of_queue(other, depth + 1))
        self._paths[branch] = longest
        return longest

    def _path_of_queue(self, branch: Branch, depth: int) -> int:
        known = self._paths_of_queues.get(branch)
        if known is not None or depth > MAX_DEPTH:
            return known or 0
        longest = count = 0
        for entry in branch.queue:
            count += _num_generations(entry.node)
            longest = max(longest, count)
            for child in entry.children:
                longest = max(longest, count + self.path(child, depth + 1))
            for other in self._awaiting.get(entry.cell, ()) if entry.cell is not None else ():
                longest = max(longest, count + self._path_of_queue(other, depth + 1))
        self._paths_of_queues[branch] = longest
        return longest


def _attempts(program: Program) -> dict[Stream, Branch]:
    """The branches that are to go on from what these streams have."""
    found: dict[Stream, Branch] = {}
    for branch in program.all_branches():
        for errand in branch.errands:
            if isinstance(errand, Attempts) and errand.stream is not None:
                found[errand.stream] = branch
    return found


def _elected(branch: Branch) -> Iterator[Branch]:
    """Those that may begin from the branch, if it is chosen."""
    return (child for election in branch.elections for child in election.children)


def _num_generations(node: object) -> int:
    return node.num_generations if isinstance(node, Step) else int(isinstance(node, (Gen, Select)))


def _needed_by(branch: Branch) -> Iterator[Cell]:
    """The cells without an outcome that the head of its queue waits for."""
    todo = list(branch.queue[0].needs)
    seen: set[Cell] = set()
    while todo:
        cell = todo.pop()
        if cell.outcome is None and cell not in seen:
            seen.add(cell)
            yield cell
            todo.extend(cell.sources)


def _depends(child: Child, parent: Branch) -> bool:
    """Whether the child begins behind something that is still to be computed."""
    stream, nodes = parent.outlet.stream, child.point.nodes
    return nodes is None or (stream is not None and nodes > stream.num_known)

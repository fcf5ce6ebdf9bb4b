"""Where a branch meets the engine: what it has still to send, and its stream once it has one.

A stream is opened only when something must be computed. A fork closes the text run before it, so
children name the parent's stream at that place and the engine computes what they share once; a
parent that never needs a stream of its own gets one for their sake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import CapacityError, UsageError
from furcate.protocol.stream import Extend

from .content import Exact
from .stream import NOWHERE, Origin
from .tail import ForkPoint, Tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.runtime.tokenize.base import Place

    from .program import Program
    from .stream import Stream, StreamOwner

__all__ = ["Base", "Outlet", "Snapshot"]


@dataclass(frozen=True, slots=True)
class Base:
    """Where a branch forks off."""

    outlet: Outlet
    point: ForkPoint


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a branch says: the tokens up to `origin`, `ids` behind them, and at the end `run`, a
    text that more text would be tokenised together with. `behind`: what comes before more text."""

    origin: Origin
    ids: tuple[int, ...]
    run: str
    behind: Place


class Outlet:
    def __init__(self, program: Program, owner: StreamOwner) -> None:
        self.stream: Stream | None = None
        self.base: Base | None = None  # set when the branch is born, if it is a child
        self._program = program
        self._owner = owner
        self._tail = Tail()
        self._is_blank = True  # nothing was ever appended here
        self._behind: Place = "start"  # what more text would stand behind

    def begin_at(self, base: Base) -> None:
        """The branch is born as a child."""
        self.base = base
        self._behind = base.point.behind

    def add_text(self, text: str) -> None:
        if text:
            self._begin_plainly()
            self._add_placed(text)

    def add_written(self, piece: str | Exact) -> None:
        """Exact ids, or text that the chat template wrote."""
        self._is_blank = False
        if isinstance(piece, str):
            self._add_placed(piece)
        elif piece.ids:
            self._tail.add(piece)
            self._behind = self._program.setting.place_behind(piece.ids)

    def add_point(self) -> ForkPoint:
        point = ForkPoint(self._behind)
        self._tail.add(point)
        return point

    def _add_placed(self, text: str) -> None:
        if text:
            self._tail.add(self._program.setting.codec.placed(text, self._behind))
            self._behind = "text"

    @property
    def is_empty(self) -> bool:
        """No token has come or will come before what is appended next."""
        outlet: Outlet | None = self
        while outlet is not None:
            if not outlet._is_blank or outlet.stream is not None:
                return False
            outlet = outlet.base.outlet if outlet.base else None
        return True

    @property
    def open_run(self) -> str:
        """The text that more text would be tokenised together with."""
        return self._joined(self._tail.open_run)

    @property
    def behind(self) -> Place:
        return self._behind

    def close_run(self, ids: tuple[int, ...]) -> None:
        self._tail.close_run(ids)

    def begin_with(self, ids: tuple[int, ...], run: str) -> None:
        """What was said before; nothing was appended here so far."""
        self._is_blank = not (ids or run)
        self._behind = "text" if run else self._program.setting.place_behind(ids)
        self._tail.add(Exact(ids, ""))
        self._tail.add(run)

    def snapshot(self) -> Snapshot:
        """Sends nothing and ends no run. Raises CapacityError as `settle` does."""
        lineage = self._lineage()
        eldest = lineage[-1][0]
        stream = eldest.stream
        origin = Origin(stream, stream.num_nodes) if stream else eldest._origin()
        ids: list[int] = []
        for outlet, point in reversed(lineage):
            if point is None or point.nodes is None:
                tail = outlet._tail if point is not None else outlet._tail.closed
                for stretch in tail.stretches(self._encode, point):
                    ids += stretch.ids
        return Snapshot(origin, tuple(ids), self.open_run, self._behind)

    def settle(self, ordinal: int) -> Stream:
        """The branch's stream, with everything sent, for a node that says something; it has at
        least one token.

        `ordinal` is the node that needs it. Raises CapacityError for a prompt that is known to be
        longer than the context, UsageError for one without a token.
        """
        self._reach(ordinal)
        self._behind = "text"
        if self.stream is None:
            origin = self._origin()
            if origin.stream is None:
                self._begin_with_bos(ordinal)
            else:
                self._open(origin)
        assert self.stream is not None
        return self.stream

    def _begin_plainly(self) -> None:
        """The first text of a prompt without a template: some models want BOS before it."""
        codec = self._program.setting.codec
        if self._is_blank and codec.adds_bos and codec.bos_id is not None and self.is_empty:
            self._tail.add(Exact((codec.bos_id,), ""))
        self._is_blank = False

    def _begin_with_bos(self, ordinal: int) -> None:
        bos_id = self._program.setting.codec.bos_id
        if bos_id is None:
            raise UsageError("the prompt is empty; append some text before the generation")
        self._program.streams_table.append(self._open(NOWHERE), Extend((bos_id,)), ordinal)

    def _reach(self, ordinal: int) -> None:
        """Sends this tail, and before it what the ancestors still owe.

        Iterates from the eldest that owes something: a chain of forks may be long.
        """
        for outlet, point in reversed(self._lineage()):
            if point is None or point.nodes is None:
                outlet._send(point, ordinal)

    def _lineage(self) -> list[tuple[Outlet, ForkPoint | None]]:
        """This one and the ancestors whose tails may come before it, each with the point up to
        which: the youngest first."""
        lineage: list[tuple[Outlet, ForkPoint | None]] = [(self, None)]
        while (base := lineage[-1][0].base) is not None and lineage[-1][0].stream is None:
            if base.point.nodes is not None and base.outlet.stream is not None:
                break
            lineage.append((base.outlet, base.point))
        return lineage

    def _send(self, until: ForkPoint | None, ordinal: int) -> None:
        stretches = list(self._tail.stretches(self._encode, until))
        self._check_length(sum(len(stretch.ids) for stretch in stretches))
        self._tail.discard(until)
        for ids, point in stretches:
            if ids:
                stream = self.stream or self._open(self._origin())
                self._program.streams_table.append(stream, Extend(tuple(ids)), ordinal)
            if point is not None:
                point.nodes = self.stream.num_nodes if self.stream else 0

    def _open(self, origin: Origin) -> Stream:
        self.stream = self._program.streams_table.open(self._program, self._owner, origin)
        self._program.streams_changed = True
        return self.stream

    def _origin(self) -> Origin:
        """Where this branch's stream begins, now that the ancestors owe nothing."""
        outlet = self
        while outlet.base is not None:
            parent, point = outlet.base.outlet, outlet.base.point
            assert point.nodes is not None
            if parent.stream is not None:
                return Origin(parent.stream, point.nodes) if point.nodes else parent.stream.origin
            outlet = parent
        return NOWHERE

    def _encode(self, run: Sequence[str]) -> Sequence[int]:
        return self._program.setting.encode(self._joined(run))

    def _joined(self, run: Sequence[str]) -> str:
        setting = self._program.setting
        num_chars, limit = sum(map(len, run)), setting.ready.max_context
        if num_chars > setting.longest_token * limit:  # too long however it is tokenised
            raise CapacityError(
                f"a text of {num_chars} characters cannot fit in the model's context of {limit} "
                "tokens; shorten it"
            )
        return "".join(run)

    def _check_length(self, num_added: int) -> None:
        if self.stream is not None:
            length = self.stream.length + num_added
        else:
            length = self._origin().length + num_added
        limit = self._program.setting.ready.max_context
        if length > limit:
            raise CapacityError(
                f"the prompt has {length} tokens, the model's context holds {limit}; shorten it by "
                f"{length - limit}"
            )

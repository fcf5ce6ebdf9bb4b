"""One Save while values of it are still to come, and how a branch begins from what was saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from furcate.errors import FurcateError
from furcate.protocol.message import Failed
from furcate.protocol.stream import Pin

from .cell import Cell, Failure
from .content import Exact, holes, text_of
from .sessions import Saved, saved_outcome

if TYPE_CHECKING:
    from furcate.protocol.graph import Save

    from .branch import Branch
    from .content import Piece
    from .outlet import Snapshot

__all__ = ["Saving", "begin_from", "save_branch"]


@dataclass(frozen=True, slots=True, eq=False)
class Saving:
    """A Save with its values looked up."""

    node: Save
    values: tuple[tuple[str, Cell], ...]


def begin_from(branch: Branch, saved: Saved) -> None:
    """The root branch says from its beginning what was saved."""
    branch.open_as_root()
    rewrites = branch.roles.rewrites or saved.roles.rewrites
    branch.roles = branch.start_roles = replace(saved.roles, rewrites=rewrites)
    branch.pieces.extend(saved.pieces)
    branch.outlet.begin_with(saved.ids, saved.run)
    branch.num_draws, branch.num_forked = saved.num_draws, saved.num_forked
    branch.session = saved


def save_branch(branch: Branch, ordinal: int, saving: Saving) -> None:
    """As the branch is here; kept as soon as all values in it are there."""
    branch.program.derive(_Pending(branch, ordinal, saving))


class _Pending:
    """Waits for the branch's text, and for the named values whatever becomes of them. Keeps nothing
    where the text has failed."""

    def __init__(self, branch: Branch, ordinal: int, saving: Saving) -> None:
        self._program = branch.program
        self._branch = branch.id
        self._ordinal = ordinal
        self._saving = saving
        root = branch
        while root.parent is not None:
            root = root.parent
        self._values_before = {} if root.session is None else root.session.values
        self._roles = branch.roles
        self._num_draws, self._num_forked = branch.num_draws, branch.num_forked
        self._pieces = branch.history()
        self._snapshot = branch.outlet.snapshot()
        self._pin = _pin_here(branch, ordinal)
        self._parts = holes(self._pieces)
        self._awaited = [*self._parts, *(cell for _, cell in saving.values)]
        self._num_there = 0

    def advance(self) -> None:
        while self._num_there < len(self._awaited):
            cell = self._awaited[self._num_there]
            if cell.outcome is None:
                cell.waiters.append(self)
                return
            self._num_there += 1
        failures = [cell.outcome for cell in self._parts if isinstance(cell.outcome, Failure)]
        try:
            if failures:
                self._fail(failures[0].upstream())
            else:
                self._keep()
        except FurcateError as error:
            self._fail(Failure.of(error, self._ordinal))

    def _keep(self) -> None:
        program, node = self._program, self._saving.node
        ids = _ids_of(self._snapshot)
        values = {**self._values_before} | {
            name: saved_outcome(cell.outcome)
            for name, cell in self._saving.values
            if cell.outcome is not None
        }
        pieces = _settled(self._pieces)
        program.charge(sum(len(p) if isinstance(p, str) else len(p.spelling) for p in pieces))
        saved = Saved(
            node.name,
            ids,
            self._snapshot.run,
            pieces,
            self._roles,
            values,
            self._num_draws,
            self._num_forked,
            self._pin,
        )
        now = program.streams_table.now
        program.sessions.put(program.options.tenant, saved, node.ttl_s, now)

    def _fail(self, failure: Failure) -> None:
        if self._pin is not None:
            self._program.sessions.pins.give_up(self._pin)
        self._program.emit(
            Failed(
                self._program.id,
                self._ordinal,
                self._branch,
                None,
                failure.code,
                failure.message,
            )
        )


def _pin_here(branch: Branch, ordinal: int) -> int | None:
    """Keeps the KV of what the branch's stream has so far; one without a stream has none."""
    program, stream = branch.program, branch.outlet.stream
    if stream is None or stream.closed or stream.cancelled or stream.ended:
        return None
    pin = program.sessions.pins.number()
    program.streams_table.append(stream, Pin(pin), ordinal)
    return pin


def _ids_of(snapshot: Snapshot) -> tuple[int, ...]:
    before: list[int] | None = []
    if snapshot.origin.stream is not None:
        before = snapshot.origin.stream.ids_at(snapshot.origin.nodes)
    assert before is not None, "all values of the text are there"
    return (*before, *snapshot.ids)


def _settled(pieces: list[Piece]) -> tuple[str | Exact, ...]:
    """With the texts of the values in it, neighbouring texts together."""
    settled: list[str | Exact] = []
    for piece in pieces:
        each = text_of(piece) if isinstance(piece, Cell) else piece
        last = settled[-1] if settled else None
        if isinstance(each, str) and isinstance(last, str):
            settled[-1] = last + each
        else:
            settled.append(each)
    return tuple(settled)

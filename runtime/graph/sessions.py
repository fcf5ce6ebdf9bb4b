"""What programs have saved under a name, for others to begin from.

Kept for each tenant, bounded in number and in size: what was used least recently goes first, and
what was not used for its time goes by itself. A session is ids, text and values; whether its KV is
still in the cache changes how long a program that begins from it takes, and nothing else. Knows no
branch that still grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import CapacityError, UsageError

from .cell import Failure, Ready
from .content import Exact, turns_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from furcate.protocol.graph import Recall

    from .cell import Outcome
    from .limits import Limits
    from .pins import Pins
    from .roles import Roles

__all__ = ["Saved", "Sessions", "saved_outcome"]

BYTES_EACH = 512  # of the objects around a session, about
BYTES_A_TOKEN = 8
SHOWN_NAMES = 20


@dataclass(frozen=True, slots=True)
class Saved:
    """`ids` and behind them `run`, a text that more text would be tokenised together with. `pieces`
    are the same as text. So many generations, selects and forks came before: seeds go on from
    there. `pin` is the one that keeps its KV, if any does."""

    name: str
    ids: tuple[int, ...]
    run: str
    pieces: tuple[str | Exact, ...]
    roles: Roles
    values: Mapping[str, Outcome]
    num_draws: int = 0
    num_forked: int = 0
    pin: int | None = None

    @property
    def num_bytes(self) -> int:
        texts = [piece if isinstance(piece, str) else piece.spelling for piece in self.pieces]
        values = [repr(value) for value in self.values.values()]
        chars = sum(map(len, (*texts, *values, *self.values)))
        return BYTES_EACH + BYTES_A_TOKEN * len(self.ids) + chars

    def recall(self, node: Recall) -> Outcome:
        """What the node asks for. Raises UsageError for a name that is none."""
        if node.what == "names":
            return Ready(list(self.values), None)
        if node.what == "turns":
            return Ready([[role, text] for role, text in turns_of(self.pieces)], None)
        found = self.values.get(node.name)
        if found is None:
            raise UsageError(
                f"session {self.name!r} has no value {node.name!r}; it has {_listed(self.values)}"
            )
        return found


@dataclass(slots=True)
class _Shelved:
    saved: Saved
    num_bytes: int
    ttl_s: float
    end: float


Key = tuple[str, str]


class Sessions:
    """Gives up the pins of sessions that are no more."""

    def __init__(self, limits: Limits, pins: Pins) -> None:
        self.pins = pins
        self._limits = limits
        self._shelf: dict[Key, _Shelved] = {}  # the least recently used first
        self._num_bytes = 0
        self._next_end: float | None = None  # asked for far more often than it changes

    def __len__(self) -> int:
        return len(self._shelf)

    @property
    def num_bytes(self) -> int:
        return self._num_bytes

    def put(self, tenant: str, saved: Saved, ttl_s: float | None, now: float) -> None:
        """In place of one of the same name. CapacityError for one that is too large to be kept."""
        limits, name, num_bytes = self._limits, saved.name, saved.num_bytes
        if num_bytes > limits.session_bytes:
            raise CapacityError(
                f"session {name!r} has about {num_bytes} bytes, all sessions together may have "
                f"{limits.session_bytes}; raise --session-bytes"
            )
        self._drop((tenant, name))
        ttl_s = limits.session_ttl_s if ttl_s is None else ttl_s
        self._shelf[tenant, name] = _Shelved(saved, num_bytes, ttl_s, now + ttl_s)
        self._num_bytes += num_bytes
        while len(self._shelf) > limits.sessions or self._num_bytes > limits.session_bytes:
            self._drop(next(iter(self._shelf)))
        self._find_next_end()

    def get(self, tenant: str, name: str, now: float) -> Saved:
        """A use: its time begins anew. UsageError where there is none of that name."""
        self.expire(now)
        shelved = self._shelf.pop((tenant, name), None)
        if shelved is None:
            known = [known for owner, known in self._shelf if owner == tenant]
            raise UsageError(
                f"there is no session {name!r}; there is {_listed(known)}. A session ends "
                "some time after its last use, see --session-ttl-s, and with its server"
            )
        shelved.end = now + shelved.ttl_s
        self._shelf[tenant, name] = shelved
        self._find_next_end()
        return shelved.saved

    def expire(self, now: float) -> None:
        if self._next_end is None or self._next_end > now:
            return
        for key in [key for key, shelved in self._shelf.items() if shelved.end <= now]:
            self._drop(key)
        self._find_next_end()

    def next_end(self) -> float | None:
        return self._next_end

    def _find_next_end(self) -> None:
        ends = (shelved.end for shelved in self._shelf.values())
        self._next_end = min(ends, default=None)

    def _drop(self, key: Key) -> None:
        shelved = self._shelf.pop(key, None)
        if shelved is None:
            return
        self._num_bytes -= shelved.num_bytes
        if shelved.saved.pin is not None:
            self.pins.give_up(shelved.saved.pin)

    def check(self) -> None:
        assert self._num_bytes == sum(shelved.num_bytes for shelved in self._shelf.values())
        assert len(self._shelf) <= self._limits.sessions
        soonest = min((shelved.end for shelved in self._shelf.values()), default=None)
        assert self._next_end == soonest, "another session ends first"


def saved_outcome(outcome: Outcome) -> Outcome:
    """A value as a session keeps it: the node that has failed is of another program by then."""
    if isinstance(outcome, Failure):
        why = f"the value failed before it was saved: {outcome.code}: {outcome.message}"
        return Failure("generation", why, 0)
    # Its source is a number of that program, and a choice's index means nothing without it.
    return Ready(outcome.plain, outcome.text)


def _listed(names: Mapping[str, object] | list[str]) -> str:
    shown = ", ".join(map(repr, list(names)[:SHOWN_NAMES]))
    more = len(names) - SHOWN_NAMES
    return (shown or "none") + (f" and {more} more" if more > 0 else "")

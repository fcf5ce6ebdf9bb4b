"""What a branch has appended and the engine has not been given yet.

Neighbouring texts are one run and are tokenised as a whole, whoever appended them and however the
recording was cut; exact ids and fork points end a run. Nothing is tokenised before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .content import Exact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from furcate.runtime.tokenize.base import Place

__all__ = ["ForkPoint", "Stretch", "Tail"]


class ForkPoint:
    """A place in a branch where children begin. `nodes` is how many nodes of the branch's stream
    come before it: None until what comes before it was sent. `behind` is what it stands behind."""

    __slots__ = ("behind", "nodes")

    def __init__(self, behind: Place = "start") -> None:
        self.nodes: int | None = None
        self.behind: Place = behind


class Stretch(NamedTuple):
    """Ids up to a fork point, or up to the end."""

    ids: list[int]
    point: ForkPoint | None


class Tail:
    def __init__(self) -> None:
        self._items: list[str | Exact | ForkPoint] = []

    def add(self, item: str | Exact | ForkPoint) -> None:
        if item != "" and not (isinstance(item, Exact) and not item.ids):
            self._items.append(item)

    @property
    def open_run(self) -> list[str]:
        """The texts that more text would be tokenised together with."""
        texts: list[str] = []
        for item in reversed(self._items):
            if not isinstance(item, str):
                break
            texts.append(item)
        return texts[::-1]

    @property
    def closed(self) -> Tail:
        """All but the open run."""
        tail = Tail()
        tail._items = self._items[: len(self._items) - len(self.open_run)]
        return tail

    def close_run(self, ids: tuple[int, ...]) -> None:
        """Puts these ids in place of the open run."""
        while self._items and isinstance(self._items[-1], str):
            self._items.pop()
        if ids:
            self._items.append(Exact(ids, ""))

    def stretches(
        self, encode: Callable[[list[str]], Sequence[int]], until: ForkPoint | None
    ) -> Iterator[Stretch]:
        """The ids of what is here, up to `until` or all, with `encode` for each run. Removes
        nothing: see discard."""
        ids: list[int] = []
        run: list[str] = []
        for item in self._items:
            if isinstance(item, str):
                run.append(item)
                continue
            ids += encode(run) if run else ()
            run.clear()
            if isinstance(item, Exact):
                ids += item.ids
                continue
            yield Stretch(ids, item)
            ids = []
            if item is until:
                return
        ids += encode(run) if run else ()
        yield Stretch(ids, None)

    def discard(self, until: ForkPoint | None) -> None:
        """Drops what has been sent."""
        end = len(self._items) if until is None else self._items.index(until) + 1
        del self._items[:end]

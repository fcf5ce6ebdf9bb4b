"""Which body of in-graph control flow something belongs to: a name for it, without its contents."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Enclosure"]


@dataclass(frozen=True, slots=True, eq=False)
class Enclosure:
    """`what` the body was given to, such as "s.loop", and where."""

    what: str
    location: str
    parent: Enclosure | None = None

    def __str__(self) -> str:
        return f"the body of {self.what} at {self.location}"

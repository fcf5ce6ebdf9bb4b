"""What the one who writes a mock's answers is told of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint
    from furcate.protocol.sampling import Sampling

__all__ = ["Answer", "Asked"]


class Asked(NamedTuple):
    """One generation, or one select where there are `choices`. `text` is all that comes before it,
    `sampling` what the program asked for, `seed` the program's."""

    text: str
    sampling: Sampling
    constraint: Constraint | None
    choices: tuple[str, ...] | None
    sample: int
    seed: int


Answer = Callable[[Asked], str | int]

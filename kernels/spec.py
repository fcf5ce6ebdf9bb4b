"""How an operation picks one of its implementations: by name, or the first that this machine has.

Knows nothing of any operation. Candidates are listed fastest first and end with the reference,
which every machine has, so a choice always exists; it is made once by the caller and kept, because
two implementations may differ in the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Candidate", "choose"]

Kernel = TypeVar("Kernel")


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Kernel]):
    """One implementation of an operation. `is_available` asks about this machine and this build."""

    name: str
    kernel: Kernel
    is_available: Callable[[], bool]


def choose(
    operation: str, candidates: Sequence[Candidate[Kernel]], name: str = "auto"
) -> Candidate[Kernel]:
    """The first available candidate, or the one called `name`.

    ValueError where `name` is unknown or not available here: a named choice is never replaced.
    """
    for candidate in candidates:
        if name == candidate.name or name == "auto":
            if candidate.is_available():
                return candidate
            if name != "auto":
                raise ValueError(
                    f"{operation}: implementation {name!r} is not available on this machine; "
                    f"use 'auto' or 'reference'"
                )
    known = ", ".join(repr(candidate.name) for candidate in candidates)
    raise ValueError(f"{operation} has no implementation {name!r}; it has {known} and 'auto'")

"""Scheduling policies by the names that --policy takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Policy, Surroundings, Waiting, WaitingStream
from .fcfs import first_come_first_served
from .longest_prefix import longest_prefix
from .program import program_aware

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["POLICIES", "Policy", "Surroundings", "Waiting", "WaitingStream"]

POLICIES: Mapping[str, Callable[[Surroundings], Policy[Waiting]]] = {
    "program": program_aware,
    "fcfs": first_come_first_served,
    "longest-prefix": longest_prefix,
}

"""Scheduling policies by the names that --policy takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import MakePolicy, Policy, Surroundings, Waiting, WaitingStream
from .fcfs import first_come_first_served
from .longest_prefix import longest_prefix
from .program import program_aware

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["POLICIES", "MakePolicy", "Policy", "Surroundings", "Waiting", "WaitingStream"]

POLICIES: Mapping[str, MakePolicy] = {
    "program": program_aware,
    "fcfs": first_come_first_served,
    "longest-prefix": longest_prefix,
}

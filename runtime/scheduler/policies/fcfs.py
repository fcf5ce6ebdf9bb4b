"""First come, first served: by the opening of the stream, whoever it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .keyed import Keyed

if TYPE_CHECKING:
    from .base import Policy, Surroundings, WaitingStream

__all__ = ["first_come_first_served"]


def first_come_first_served(surroundings: Surroundings[WaitingStream]) -> Policy[WaitingStream]:
    return Keyed(lambda stream: (stream.arrival,))

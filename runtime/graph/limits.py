"""How much one program or connection may ask for. Checked before any work is done for it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """`derived_chars` bounds the text that Let, TextOf and Join make within one program: a few
    short nodes could otherwise double a text until the memory is gone."""

    forks: int = 256  # branches that one program opens by Fork
    nodes: int = 10_000
    choices: int = 256
    derived_chars: int = 64 * 2**20
    segment_chars: int = 256 * 2**20  # of one connection's table
    constraints: int = 4096  # of one connection's table

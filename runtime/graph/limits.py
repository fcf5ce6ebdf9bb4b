"""How much one program or connection may ask for. Checked before any work is done for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furcate.runtime.config import SessionConfig

__all__ = ["Limits", "limits_of"]


@dataclass(frozen=True, slots=True)
class Limits:
    """`derived_chars` bounds the text that Let, TextOf and Join make within one program: a few
    short nodes could otherwise double a text until the memory is gone."""

    forks: int = 256  # branches that one program opens by Fork
    nodes: int = 10_000
    region_nodes: int = 20_000  # of all runs of a program's regions together
    region_depth: int = 16
    choices: int = 256
    open_programs: int = 4096  # of one connection, at a time
    open_bytes: int = 256 * 2**20  # of those programs together
    finished_programs: int = 65_536  # of one connection, that it has not released
    derived_chars: int = 64 * 2**20
    segment_chars: int = 256 * 2**20  # of one connection's table
    constraints: int = 4096  # of one connection's table
    sessions: int = 1024
    session_bytes: int = 256 * 2**20  # of all sessions together
    session_ttl_s: float = 3600.0  # after the last use, where a Save says nothing else
    pins: int = 4096  # with a name


def limits_of(config: SessionConfig, limits: Limits | None = None) -> Limits:
    """With those of sessions that are options."""
    return replace(
        limits or Limits(),
        sessions=config.max_sessions,
        session_bytes=config.session_bytes,
        session_ttl_s=config.session_ttl_s,
    )

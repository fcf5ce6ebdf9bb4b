"""Policies on one trace, as shares of the offline bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .bound import belady_hits, prompt_tokens, working_set
from .generate import generate
from .replay import replay

if TYPE_CHECKING:
    from furcate.runtime.cache import Eviction

__all__ = ["Contest", "contest", "report"]

PAGE_SIZE = 16


class Contest(NamedTuple):
    """Prompt tokens that were found, of how many, and of how many at best."""

    name: str
    num_turns: int
    num_pages: int
    prompt_tokens: int
    bound: int
    next_use: int
    lru: int
    unhinted: int  # next-use with nothing said about next uses


def contest(seed: int, num_programs: int = 400, part: int = 4) -> Contest:
    """A cache of a part of the working set, a quarter by default, to whole pages."""
    trace = generate(seed, num_programs)
    num_pages = working_set(trace) // (part * PAGE_SIZE)

    def hits(eviction: Eviction, use_hints: bool = True) -> int:
        stats = replay(trace, num_pages, PAGE_SIZE, eviction, use_hints=use_hints)
        return stats.hit_tokens

    return Contest(
        trace.name,
        len(trace.turns),
        num_pages,
        prompt_tokens(trace),
        belady_hits(trace, num_pages * PAGE_SIZE),
        hits("next-use"),
        hits("lru"),
        hits("next-use", use_hints=False),
    )


def report(result: Contest) -> str:
    ours, lru, unhinted = (
        hits / result.bound for hits in (result.next_use, result.lru, result.unhinted)
    )
    return (
        f"{result.name}: {result.num_turns} turns, {result.num_pages} pages, "
        f"bound {result.bound / result.prompt_tokens:.1%} of {result.prompt_tokens} prompt tokens; "
        f"of it next-use {ours:.3f}, lru {lru:.3f} (ratio {ours / lru:.3f}), "
        f"next-use without hints {unhinted:.3f}"
    )

"""How long the outputs of each call site of a program have been, and how long one may get.

A site is one `gen` in the source of one function, so its outputs resemble each other far more than
those of a server as a whole. Does not know programs or streams.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field

__all__ = ["Sites"]

SAMPLES = 64  # latest lengths that are kept of a site
ENOUGH = 16  # fewer say little about the next one
SHARE = 0.95  # of outputs that are to be within a bound, unless it is told
SITE_BYTES = 1024  # of memory that a site takes at most: both arrays, and its place in the table
UNKNOWN = 0  # the site of nodes that have none
FIRST_GUESS = 64  # tokens, before anything is known


@dataclass(slots=True)
class _Lengths:
    latest: array[int] = field(default_factory=lambda: array("i"))
    oldest: int = 0  # index of it, once there are SAMPLES
    ordered: array[int] | None = None  # the same, shortest first; made when asked for

    def add(self, length: int) -> None:
        if len(self.latest) < SAMPLES:
            self.latest.append(length)
        else:
            self.latest[self.oldest] = length
            self.oldest = (self.oldest + 1) % SAMPLES
        self.ordered = None

    def quantile(self, drawn: int, share: float) -> int | None:
        """Of those that are longer than `drawn`; None where there are none, or too few in all."""
        if len(self.latest) < ENOUGH:
            return None
        if self.ordered is None:
            self.ordered = array("i", sorted(self.latest))
        first = bisect_right(self.ordered, drawn)
        count = len(self.ordered) - first
        return self.ordered[first + max(1, math.ceil(share * count)) - 1] if count else None


class Sites:
    """History of at most `max_bytes`; the site that was not used for longest goes first. What a
    site does not say is taken from all outputs together."""

    def __init__(self, max_bytes: int = 2**20) -> None:
        self._max_sites = max(1, max_bytes // SITE_BYTES)
        self._sites: OrderedDict[int, _Lengths] = OrderedDict()
        self._all = _Lengths()

    def __len__(self) -> int:
        return len(self._sites)

    def note(self, site: int, length: int) -> None:
        """An output of the site is complete."""
        self._all.add(length)
        if site == UNKNOWN:
            return
        lengths = self._sites.setdefault(site, _Lengths())
        self._sites.move_to_end(site)
        lengths.add(length)
        if len(self._sites) > self._max_sites:
            self._sites.popitem(last=False)

    def bound(
        self,
        site: int,
        max_tokens: int,
        longest: int | None = None,
        drawn: int = 0,
        share: float = SHARE,
    ) -> int:
        """How many tokens an output has at the end, `drawn` of which are there; in that share of
        cases no more.

        `max_tokens` and `longest`, what a grammar or choices allow, are certain. What outputs were
        like is not: one that has got longer than some is measured by the longer ones alone. Where
        nothing is known, one that has got so far is expected to get as far again.
        """
        certain = max_tokens if longest is None else min(max_tokens, longest)
        lengths = self._sites.get(site)
        likely = None
        if lengths is not None:
            self._sites.move_to_end(site)
            likely = lengths.quantile(drawn, share)
        if likely is None:
            likely = self._all.quantile(drawn, share)
        if likely is None:
            likely = max(FIRST_GUESS, 2 * drawn)
        return min(certain, likely)

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
ENOUGH = 16  # fewer say nothing about the longest ones
QUANTILE = 0.95  # of the lengths; what is longer costs a retraction at worst
SITE_BYTES = 1024  # of memory that a site takes at most: both arrays, and its place in the table
UNKNOWN = 0  # the site of nodes that have none


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

    def quantile(self, drawn: int) -> int | None:
        """Of those that are longer than `drawn`; None where they are too few."""
        if self.ordered is None:
            self.ordered = array("i", sorted(self.latest))
        first = bisect_right(self.ordered, drawn)
        count = len(self.ordered) - first
        if count < ENOUGH:
            return None
        return self.ordered[first + math.ceil(QUANTILE * count) - 1]


class Sites:
    """History of at most `max_bytes`; the site that was not used for longest goes first."""

    def __init__(self, max_bytes: int = 2**20) -> None:
        self._max_sites = max(1, max_bytes // SITE_BYTES)
        self._sites: OrderedDict[int, _Lengths] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sites)

    def note(self, site: int, length: int) -> None:
        """An output of the site is complete."""
        if site == UNKNOWN:
            return
        lengths = self._sites.setdefault(site, _Lengths())
        self._sites.move_to_end(site)
        lengths.add(length)
        if len(self._sites) > self._max_sites:
            self._sites.popitem(last=False)

    def bound(self, site: int, max_tokens: int, longest: int | None = None, drawn: int = 0) -> int:
        """How many tokens an output has at the end, `drawn` of which are there.

        `max_tokens` and `longest`, what a grammar or choices allow, are certain. What outputs of
        the site say is not: one that has got longer than most is measured by the longer ones alone.
        """
        certain = max_tokens if longest is None else min(max_tokens, longest)
        lengths = self._sites.get(site)
        if lengths is None:
            return certain
        self._sites.move_to_end(site)
        likely = lengths.quantile(drawn)
        return certain if likely is None else min(certain, likely)

"""Whether one stream more would ever take the KV pages past what there is.

The future peak of LightLLM's scheduler (Gong et al., "Past-Future Scheduler for LLM Serving under
SLA Guarantees", arXiv 2507.10150), counted in pages: all running streams grow by one token a step,
and each gives its pages back at its bound; so the most pages are in use when one of them gets
there. Does not know where bounds come from, nor who waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["Demand", "FuturePeak", "refusal"]


@dataclass(frozen=True, slots=True)
class Demand:
    """What a stream holds and will hold: `length` positions as soon as all it knows is computed,
    and `remaining` more at most. The first `num_shared` pages of these do not become free with it,
    or are counted with another stream."""

    length: int
    remaining: int
    num_shared: int


class FuturePeak:
    """The demands of streams that run, and the most pages that these will hold between them,
    shared ones not counted."""

    def __init__(self, page_size: int, demands: Iterable[Demand] = ()) -> None:
        self._page_size = page_size
        rows = [(d.length, d.remaining, d.num_shared) for d in demands]
        self._rows = _by_remaining(np.array(rows, np.int64).reshape(-1, 3))

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, demand: Demand) -> None:
        self._rows = self._with(demand)

    def pages(self) -> int:
        return _peak(self._rows, self._page_size)

    def pages_with(self, demand: Demand) -> int:
        """The same if that one ran too."""
        return _peak(self._with(demand), self._page_size)

    def _with(self, demand: Demand) -> NDArray[np.int64]:
        at = int(np.searchsorted(-self._rows[:, 1], -demand.remaining, side="right"))
        row = (demand.length, demand.remaining, demand.num_shared)
        return np.insert(self._rows, at, row, axis=0)


def refusal(num_tokens: int, num_pages: int, page_size: int) -> str | None:
    """Why so many tokens of a stream can never be in the cache at once; None if they can."""
    needed = -(-num_tokens // page_size)
    if needed <= num_pages:
        return None
    return (
        f"the KV cache holds {num_pages * page_size}: it has {num_pages} pages of {page_size}, and "
        f"{needed} are needed; give it more with --kv-bytes"
    )


def _by_remaining(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those who stay longest first."""
    return rows[np.argsort(-rows[:, 1], kind="stable")]


def _peak(rows: NDArray[np.int64], page_size: int) -> int:
    """`rows` by remaining, most first: when row i gets to its bound, rows 0 to i are there.

    ceil((length + t) / size) of each such row is split into whole pages of both, and what the
    remainders make together: another page if either is not 0, and one more beyond a page. How many
    rows make that is looked up in counts of rows by remainder.
    """
    if not len(rows):
        return 0
    length, remaining, num_shared = rows.T
    whole, rest = np.divmod(length, page_size)
    steps, more = np.divmod(remaining, page_size)
    index = np.arange(len(rows))
    # at_least[i, x]: rows up to i whose rest is x or more
    at_least = np.cumsum(rest[:, None] >= np.arange(page_size + 2), axis=0)
    partial = at_least[index, np.where(more > 0, 0, 1)] + at_least[index, page_size + 1 - more]
    pages = np.cumsum(whole - num_shared) + (index + 1) * steps + partial
    return int(pages.max())

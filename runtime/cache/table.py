"""A page table: the page of each page index of one stream, as a growing int32 array.

It does not know who owns the pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PageTable"]

MIN_CAPACITY = 8


class PageTable:
    """Page ids by page index; growing is amortised, reading costs nothing."""

    def __init__(self, pages: Sequence[int] | NDArray[np.int32] = ()) -> None:
        self._num_pages = len(pages)
        self._pages = np.empty(max(MIN_CAPACITY, self._num_pages), dtype=np.int32)
        self._pages[: self._num_pages] = pages

    def __len__(self) -> int:
        return self._num_pages

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self._num_pages:
            raise IndexError(f"page index {index!r} outside a table of {self._num_pages} pages")
        return int(self._pages[index])

    def __setitem__(self, index: int, page: int) -> None:
        if not 0 <= index < self._num_pages:
            raise IndexError(f"page index {index!r} outside a table of {self._num_pages} pages")
        self._pages[index] = page

    def view(self) -> NDArray[np.int32]:
        """The pages, without a copy; read at once, for the next change may move them."""
        return self._pages[: self._num_pages]

    def ids(self, first: int, stop: int) -> list[int]:
        """The pages of indices `first` to `stop` as plain integers."""
        pages: list[int] = self._pages[first : min(stop, self._num_pages)].tolist()
        return pages

    def extend(self, pages: Sequence[int]) -> None:
        needed = self._num_pages + len(pages)
        if needed > len(self._pages):
            grown = np.empty(max(needed, 2 * len(self._pages)), dtype=np.int32)
            grown[: self._num_pages] = self.view()
            self._pages = grown
        self._pages[self._num_pages : needed] = pages
        self._num_pages = needed

    def truncate(self, num_pages: int) -> None:
        self._num_pages = min(self._num_pages, num_pages)

    def copy(self) -> PageTable:
        return PageTable(self.view())

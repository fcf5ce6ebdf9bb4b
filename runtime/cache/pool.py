"""The pool of KV pages: who refers to each page, and when a page may be used again.

A page is an integer. It is referred to by tree nodes and by leases, and it is freed when the last
reference goes. A freed page may still be read or written by a forward pass in flight, so it waits
behind a fence: it becomes allocatable once the step named by its fence is complete. Steps count
from 1; fence 0 means at once.

The pool does not know what a page holds, nor how nodes and leases are related.
"""

from __future__ import annotations

import heapq

from .invariant import InvariantError

__all__ = ["PagePool"]


class PagePool:
    """Reference counts and free pages.

    Each page is in exactly one class: free, fenced, private (leases only), or in the tree; a page
    in the tree is evictable while no locked node and no lease refers to it.
    """

    def __init__(self, num_pages: int) -> None:
        if num_pages < 1:
            raise InvariantError(f"a pool needs at least one page, got {num_pages!r}")
        self.total = num_pages
        self.completed_step = 0
        self.num_tree = 0
        self.num_evictable = 0
        # Popped from the end: page 0 goes first, and a page just freed is the next to be used.
        self._free = list(range(num_pages - 1, -1, -1))
        self._fenced: list[tuple[int, int]] = []  # heap of (fence, page)
        self._tree_refs = [0] * num_pages
        self._pins = [0] * num_pages  # tree references by locked nodes
        self._lease_refs = [0] * num_pages
        self._fence = [0] * num_pages  # latest step known to use the page

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_fenced(self) -> int:
        return len(self._fenced)

    @property
    def num_idle(self) -> int:
        """Pages without references: allocatable now or once their fence has passed."""
        return len(self._free) + len(self._fenced)

    @property
    def num_private(self) -> int:
        return self.total - self.num_idle - self.num_tree

    def allocate(self, num_pages: int) -> list[int] | None:
        """Take free pages, each held by one lease; None, and nothing taken, if there are fewer."""
        if num_pages > len(self._free):
            return None
        pages = [self._free.pop() for _ in range(num_pages)]
        for page in pages:
            self._lease_refs[page] = 1
        return pages

    def hold(self, page: int) -> None:
        """Add a lease's reference to a page that is in use."""
        self._require_used(page, "hold")
        if self.is_evictable(page):
            self.num_evictable -= 1
        self._lease_refs[page] += 1

    def drop(self, page: int, fence: int) -> None:
        """Remove a lease's reference; that lease used the page in steps up to `fence`."""
        if self._lease_refs[page] < 1:
            raise InvariantError(f"page {page!r} is dropped but no lease holds it")
        self._lease_refs[page] -= 1
        self._raise_fence(page, fence)
        if self.is_evictable(page):
            self.num_evictable += 1
        elif self._tree_refs[page] == 0 and self._lease_refs[page] == 0:
            self._free_page(page)

    def attach(self, page: int) -> None:
        """Add an unlocked node's reference to a page that is in use."""
        self._require_used(page, "attach")
        if self._tree_refs[page] == 0:
            self.num_tree += 1
        self._tree_refs[page] += 1

    def detach(self, page: int, fence: int) -> None:
        """Remove an unlocked node's reference; the node was used in steps up to `fence`."""
        if self._tree_refs[page] <= self._pins[page]:
            raise InvariantError(f"page {page!r} is detached but no unlocked node refers to it")
        was_evictable = self.is_evictable(page)
        self._tree_refs[page] -= 1
        self._raise_fence(page, fence)
        if self._tree_refs[page] == 0:
            self.num_tree -= 1
            self.num_evictable -= was_evictable
            if self._lease_refs[page] == 0:
                self._free_page(page)

    def pin(self, page: int) -> None:
        """A node that refers to this page has become locked."""
        if self._pins[page] >= self._tree_refs[page]:
            raise InvariantError(f"page {page!r} is pinned more often than nodes refer to it")
        if self.is_evictable(page):
            self.num_evictable -= 1
        self._pins[page] += 1

    def unpin(self, page: int) -> None:
        """A node that refers to this page is no longer locked."""
        if self._pins[page] < 1:
            raise InvariantError(f"page {page!r} is unpinned but no locked node refers to it")
        self._pins[page] -= 1
        if self.is_evictable(page):
            self.num_evictable += 1

    def is_evictable(self, page: int) -> bool:
        """Do only unlocked nodes refer to the page?"""
        return self._tree_refs[page] > 0 and self._pins[page] == 0 and self._lease_refs[page] == 0

    def is_writable(self, page: int, tree_refs: int, lease_refs: int) -> bool:
        """Do only these references exist, and has every earlier user's last step completed?"""
        return (
            self._tree_refs[page] == tree_refs
            and self._lease_refs[page] == lease_refs
            and self._fence[page] <= self.completed_step
        )

    def is_reclaimable(self, page: int, pins: int, lease_refs: int) -> bool:
        """Are all references beyond these ones by unlocked nodes?"""
        return self._pins[page] == pins and self._lease_refs[page] == lease_refs

    def retire(self, completed_step: int) -> None:
        """Steps up to `completed_step` are complete: release the pages they fenced."""
        self.completed_step = max(self.completed_step, completed_step)
        while self._fenced and self._fenced[0][0] <= self.completed_step:
            self._free.append(heapq.heappop(self._fenced)[1])

    def check(
        self, tree_refs: dict[int, int], pins: dict[int, int], lease_refs: dict[int, int]
    ) -> None:
        """Compare the counts with those taken from all nodes and leases; raise if they differ."""
        idle = self._free + [page for _, page in self._fenced]
        if len(set(idle)) != len(idle):
            raise InvariantError(f"a page is free twice: {sorted(idle)!r}")
        unused = set(idle)
        num_evictable = 0
        for page in range(self.total):
            kept = (self._tree_refs[page], self._pins[page], self._lease_refs[page])
            real = (tree_refs.get(page, 0), pins.get(page, 0), lease_refs.get(page, 0))
            if kept != real:
                raise InvariantError(
                    f"page {page!r} counts (tree, pins, leases) {kept!r}, but nodes and leases "
                    f"make {real!r}"
                )
            if (page in unused) != (real[0] + real[2] == 0):
                where = "free or fenced" if page in unused else "neither free nor fenced"
                raise InvariantError(f"page {page!r} with references {real!r} is {where}")
            num_evictable += real[0] > 0 and real[1] == real[2] == 0
        if (self.num_tree, self.num_evictable) != (len(tree_refs), num_evictable):
            raise InvariantError(
                f"tree pages and evictable pages are counted as "
                f"{(self.num_tree, self.num_evictable)!r}, are {(len(tree_refs), num_evictable)!r}"
            )
        early = [entry for entry in self._fenced if entry[0] <= self.completed_step]
        if early:
            raise InvariantError(f"fences passed at {self.completed_step!r} are kept: {early!r}")

    def _require_used(self, page: int, verb: str) -> None:
        if self._tree_refs[page] == 0 and self._lease_refs[page] == 0:
            raise InvariantError(f"cannot {verb} page {page!r}: it is free")

    def _raise_fence(self, page: int, fence: int) -> None:
        if fence > self._fence[page]:
            self._fence[page] = fence

    def _free_page(self, page: int) -> None:
        fence = self._fence[page]
        self._fence[page] = 0
        if fence <= self.completed_step:
            self._free.append(page)
        else:
            heapq.heappush(self._fenced, (fence, page))

"""The KV cache as the scheduler sees it: leases on a radix tree over a pool of pages.

This is the one owner of page tables. It does bookkeeping only: KV tensors live elsewhere and are
addressed by page id and offset; position i of a stream is at offset i % page_size of the page at
index i // page_size of its table.

Forwards are numbered from 1 and run in order; `retire` says how far they have got. Everything that
takes pages away takes a fence, the last forward launched or being planned that may touch them. It
defaults to the last step that `extend` was told for the lease.

What is not known here: what tokens mean, who waits for what, when to give up.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from .census import Census
from .check import check_cache
from .eviction import order_named
from .expectation import Expectation, NextUse
from .invariant import InvariantError
from .lease import Lease, LeaseState, Pending
from .node import common_prefix, path_pages
from .pool import PagePool
from .radix import RadixTree
from .stats import CacheStats, Counters
from .table import PageTable
from .tail import NO_COPIES, TailPages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .eviction import Eviction
    from .lease import Copy

__all__ = ["KVCache"]


class KVCache:
    """Owner of pool, tree and leases. Not safe for several threads.

    A path that was cut inside a page keeps a partial page at each such point, so that a stream may
    need one page more for each than its length says. Where that is one too many for the whole
    pool: release the stream, evict everything, open it again.
    """

    def __init__(
        self, num_pages: int, page_size: int = 16, eviction: Eviction = "next-use"
    ) -> None:
        if page_size < 1:
            raise InvariantError(f"a page holds at least one token, got page_size={page_size!r}")
        self.page_size = page_size
        self.pool = PagePool(num_pages)
        self.tree = RadixTree(self.pool, page_size, order_named(eviction))
        self.leases: dict[int, Lease] = {}  # all that are not released, oldest first
        self._tails = TailPages(self.pool, self.tree, page_size)
        self._counters = Counters()
        self._next_id = 0

    @property
    def completed_step(self) -> int:
        return self.pool.completed_step

    @property
    def num_available(self) -> int:
        """Pages that `extend` can get, some of them only after fenced steps are complete."""
        return self.pool.num_idle + self.pool.num_evictable

    def pages_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)

    def cached_prefix(
        self, tokens: Sequence[int], namespace: str = "", limit: int | None = None
    ) -> int:
        """How many tokens `open` would find, pending ones included; changes nothing."""
        ids = as_ids(tokens)
        match = self.tree.match(ids, clamp(limit, len(ids)), namespace, self.completed_step)
        return 0 if match is None else match.length

    def open(
        self,
        tokens: Sequence[int],
        namespace: str = "",
        limit: int | None = None,
        ready_by: int | None = None,
        owner: int | None = None,
    ) -> Lease | Pending:
        """Lock the longest cached prefix of `tokens[:limit]`, or say which step to wait for.

        `limit` defaults to all but the last token, so that one is left to compute. Nodes whose step
        is at most `ready_by` count as computed (default: the completed step; a scheduler that only
        launches in order may name the last forward launched). What an owner, say a program, has
        inserted and another one found does not die with it; None is an owner of this lease alone.
        """
        ids = as_ids(tokens)
        limit = clamp(limit, len(ids))
        ready_by = self.completed_step if ready_by is None else ready_by
        match = self.tree.match(ids, limit, namespace, ready_by)
        if match is not None and match.pending_step:
            self._counters.waits += 1
            return Pending(match.pending_step, match.length)
        node = self.tree.root(namespace) if match is None else self.tree.locate(match)
        lease_id = self._take_id()
        owner = -lease_id if owner is None else owner
        self._counters.foreign_hit_tokens += self.tree.lock(node, owner)
        self._counters.opens += 1
        self._counters.opened_tokens += len(ids)
        self._counters.hit_tokens += node.end
        num_pages = self.pages_for(node.end)
        table = PageTable(path_pages(node, 0, num_pages, self.page_size))
        return self._register(Lease(lease_id, node, table, node.end, node.end, num_pages, owner))

    def extend(self, lease: Lease, new_length: int, step: int) -> Sequence[Copy] | None:
        """Provide pages for all positions below `new_length`, to be written from `step` on.

        Returns the copies that the forward `step` must execute, in the order of the calls; None,
        with the lease unchanged, if there are not enough pages. Evicts unlocked nodes if needed.
        """
        self._require_live(lease, "extend")
        if new_length <= lease.length:
            lease.last_step = max(lease.last_step, step)
            return NO_COPIES
        num_new = self.pages_for(new_length) - len(lease.table)
        if num_new == 0 and lease.writes_tail:
            copies: Sequence[Copy] = NO_COPIES
        else:
            copies_tail = self._tails.must_copy(lease)
            pages = self._allocate(num_new + copies_tail)
            if pages is None and copies_tail and self.num_available == num_new:
                copies_tail = not self._tails.reclaim(lease)
                pages = None if copies_tail else self._allocate(num_new)
            if pages is None:
                return None
            copies = self._tails.claim(lease, pages.pop() if copies_tail else None, step)
            self._counters.copies += len(copies)
            lease.table.extend(pages)
            lease.writes_tail = True
        lease.length = new_length
        lease.last_step = max(lease.last_step, step)
        return copies

    def insert(
        self,
        lease: Lease,
        tokens: Sequence[int],
        upto: int,
        ready_step: int,
        fence_step: int | None = None,
    ) -> int:
        """Put `tokens[lease.inserted:upto]`, which `ready_step` computes, into the tree.

        Whole pages become the tree's; the lease goes on writing its tail page in place. Where
        another stream has inserted the same tokens, its whole pages replace this lease's own, which
        are freed: rows of steps up to the fence must have been built from the table as it was
        before. Stops early at tokens that another stream computes only after `ready_step`. Returns
        the number of positions now in the tree.
        """
        self._require_live(lease, "insert into")
        if not lease.inserted <= upto <= lease.length or upto > len(tokens):
            raise InvariantError(
                f"insert up to {upto!r} of {len(tokens)} tokens, but {lease!r} has pages for "
                f"{lease.length} and {lease.inserted} inserted"
            )
        if upto == lease.inserted:
            return upto
        fresh = as_ids(tokens[lease.inserted : upto])
        has_room = self._descend(lease, fresh, ready_step)
        first = lease.inserted
        if has_room:
            added = fresh[len(fresh) - (upto - first) :]
            pages = lease.table.ids(first // self.page_size, self.pages_for(upto))
            lease.node = self.tree.append(lease.node, added, pages, ready_step, lease.owner)
            self._counters.inserted_tokens += len(added)
        self._settle_pages(lease, max(ready_step, self._fence(lease, fence_step)))
        return lease.inserted

    def truncate(self, lease: Lease, new_length: int, fence_step: int | None = None) -> None:
        """Drop the positions from `new_length` on; they must not be in the tree."""
        self._require_live(lease, "truncate")
        if new_length < lease.inserted:
            raise InvariantError(
                f"cannot truncate {lease!r} to {new_length!r}: {lease.inserted} positions are in "
                f"the tree and stay there"
            )
        if new_length >= lease.length:
            return
        fence = self._fence(lease, fence_step)
        keep = self.pages_for(new_length)
        for page in lease.table.ids(keep, len(lease.table)):
            self.pool.drop(page, fence)
        lease.table.truncate(keep)
        lease.length = new_length
        # The new tail page may be one that a branch reads: `extend` finds out.
        lease.writes_tail = False

    def branch(self, lease: Lease) -> Lease:
        """A second lease on the same positions, for a continuation that may be thrown away.

        Shares every page; a partial tail page is copied when the branch is first extended. A branch
        is a lease like any other: it may be branched, inserted, adopted, and is to be released.
        """
        self._require_live(lease, "branch from")
        self.tree.relock(lease.node)
        for page in lease.table.ids(lease.held_from, len(lease.table)):
            self.pool.hold(page)
        return self._register(
            Lease(
                self._take_id(),
                lease.node,
                lease.table.copy(),
                lease.length,
                lease.length,
                lease.held_from,
                lease.owner,
                last_step=lease.last_step,
                copy_step=lease.copy_step,
            )
        )

    def adopt(self, lease: Lease, branch: Lease, fence_step: int | None = None) -> None:
        """Give the branch's positions and pages to the lease, whose own are dropped.

        The branch is released; losing branches are released by the caller.
        """
        self._require_live(lease, "adopt into")
        self._require_live(branch, "adopt")
        if lease is branch:
            raise InvariantError(f"{lease!r} cannot adopt itself")
        fence = max(self._fence(lease, fence_step), self._fence(branch, fence_step))
        lease.node, branch.node = branch.node, lease.node
        lease.table, branch.table = branch.table, lease.table
        lease.length, branch.length = branch.length, lease.length
        lease.held_from, branch.held_from = branch.held_from, lease.held_from
        lease.owner, branch.owner = branch.owner, lease.owner
        lease.copy_step, branch.copy_step = branch.copy_step, lease.copy_step
        lease.writes_tail, branch.writes_tail = branch.writes_tail, lease.writes_tail
        lease.last_step = max(lease.last_step, branch.last_step)
        self.release(branch, fence)

    def release(self, lease: Lease, fence_step: int | None = None, dead: bool = False) -> None:
        """Give everything back; what is in the tree stays there, unlocked. Idempotent.

        `dead`: nobody comes back to what no other owner has found; it is the first to go.
        """
        if lease.state is LeaseState.RELEASED:
            return
        fence = self._fence(lease, fence_step)
        lease.state = LeaseState.RELEASED
        del self.leases[lease.id]
        for page in lease.table.ids(lease.held_from, len(lease.table)):
            self.pool.drop(page, fence)
        self.tree.unlock(lease.node, fence, dead)

    def expect(self, lease: Lease, use: NextUse, at: float | None = None) -> Expectation:
        """Say when the lease's positions in the tree are used next, before it is released.

        `at` is a time or a distance, smaller is sooner; it is compared with others of the same
        `use`. Until it is revised or forgotten, an expectation holds: also when its time is over.
        """
        self._require_live(lease, "expect a use of")
        expectation = Expectation(_a_use(use), at)
        self.tree.expect(lease.node, expectation)
        return expectation

    def revise(self, expectation: Expectation, use: NextUse, at: float | None = None) -> None:
        """Replace what an expectation says. It stays where it is, in the tree as it is now."""
        self.tree.revise(expectation, _a_use(use), at)

    def forget(self, expectation: Expectation, dead: bool = False) -> None:
        """Withdraw an expectation, as when its stream opens a lease again. Idempotent.

        `dead`: as for `release`, where the stream ends without another lease.
        """
        self.tree.forget(expectation, dead)

    def evict(self, num_pages: int) -> int:
        """Evict unlocked leaves, the least useful first; returns the number of pages gained."""
        return self.tree.evict(num_pages)

    def retire(self, completed_step: int) -> None:
        """All forwards up to `completed_step` are complete."""
        self.pool.retire(completed_step)
        self.tree.retire(self.completed_step)

    def drop_pending(self, step: int, fence_step: int | None = None) -> list[Lease]:
        """The forward `step` has failed: forget what it should have computed.

        Returns the leases that relied on it, in the order of their opening, also those whose tail
        page it should have copied; they are lost and can only be released. `fence_step` is the last
        forward launched (default: `step`). Forwards that were launched after a failed one read what
        it did not write: drop each of them too.
        """
        fence = step if fence_step is None else max(step, fence_step)
        cut = self.tree.drop_pending(step, fence)
        lost = [
            lease
            for lease in self.leases.values()
            if lease.node.removed
            or lease.copy_step == step
            or any(lease.node is node for node in cut)
        ]
        for lease in lost:
            while lease.node.removed:
                # The locks of a removed node are still counted by the nodes above it.
                assert lease.node.parent is not None, "a root is never removed"
                lease.node = lease.node.parent
            lease.state = LeaseState.LOST
        return lost

    def stats(self) -> CacheStats:
        """Where the pages are, and what the cache has done so far."""
        return CacheStats.collect(self.pool, self.tree, len(self.leases), self._counters)

    def census(self) -> Census:
        """The unlocked pages and tokens by class. Takes time in proportion to the tree."""
        return Census.take(self.pool, self.tree)

    def check(self) -> None:
        """Verify every invariant by recounting everything; raise `InvariantError` if one fails."""
        check_cache(self)

    def _descend(self, lease: Lease, fresh: array[int], ready_step: int) -> bool:
        """Move the lease down along tokens that the tree has already.

        Returns whether tokens are left that can be put below; false also where the tree has them,
        but computes them after `ready_step`.
        """
        first = lease.inserted
        while lease.inserted < first + len(fresh):
            offset = lease.inserted - first
            child = lease.node.children.get(fresh[offset])
            if child is None:
                return True
            shared = common_prefix(child.tokens, fresh, offset, child.ready_len(ready_step))
            if shared == 0:
                return False
            if shared < len(child.tokens):
                child = self.tree.split(child, shared)
            self.tree.lock_only(child, lease.owner)
            lease.node = child
            self._counters.duplicate_tokens += shared
        return False

    def _settle_pages(self, lease: Lease, fence: int) -> None:
        """Leave to the tree the whole pages that it has; free the lease's duplicates of them."""
        first, whole = lease.held_from, lease.inserted // self.page_size
        pages = path_pages(lease.node, first, whole, self.page_size)
        for index, page in enumerate(pages, first):
            own = lease.table[index]
            lease.table[index] = page
            self.pool.drop(own, fence if own != page else 0)
        lease.held_from = max(first, whole)

    def _allocate(self, num_pages: int) -> list[int] | None:
        """Take pages, evicting as few as give that many free ones now; None, and nothing evicted,
        if all that may be evicted are too few. Fenced pages do not count: a caller that tries
        again and again, and frees pages each time, would wait for them for ever."""
        pool = self.pool
        if num_pages > pool.num_free + pool.num_evictable:
            return None
        while num_pages > pool.num_free:
            if not self.tree.evict(num_pages - pool.num_free):
                return None
        return pool.allocate(num_pages)

    def _fence(self, lease: Lease, fence_step: int | None) -> int:
        return lease.last_step if fence_step is None else max(lease.last_step, fence_step)

    def _register(self, lease: Lease) -> Lease:
        self.leases[lease.id] = lease
        return lease

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _require_live(self, lease: Lease, verb: str) -> None:
        if lease.state is not LeaseState.LIVE:
            raise InvariantError(f"cannot {verb} {lease!r}: it is {lease.state.value}")


def _a_use(use: NextUse) -> NextUse:
    if use is NextUse.DEAD:
        raise InvariantError("what is dead is expected by nobody: say so to release or forget")
    return use


def as_ids(tokens: Sequence[int]) -> array[int]:
    """Tokens in the form in which they are compared; no copy if they have it already."""
    if isinstance(tokens, array) and tokens.typecode == "i":
        return tokens
    return array("i", tokens)


def clamp(limit: int | None, num_tokens: int) -> int:
    """The number of tokens to match: all but the last, or the given limit."""
    return max(0, num_tokens - 1 if limit is None else min(limit, num_tokens))

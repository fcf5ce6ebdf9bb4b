"""The radix tree: which token prefixes have KV, and in which pages.

Keys are token-granular, storage is paged. A node split inside a page copies nothing: both halves
refer to the page. Nodes are inserted when their forward is scheduled and are *pending* until it is
complete. Tokens are compared exactly; there is no hashing of content.

Which unlocked node goes first is up to an eviction order; eviction takes what it names and searches
nothing.

The tree counts pages through the pool. It does not know leases; it only counts their locks.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from .expectation import Expectation, Expectations, NextUse, hand_up
from .invariant import InvariantError
from .node import Node, Root, common_prefix, path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .eviction import EvictionOrder
    from .pool import PagePool

__all__ = ["Match", "RadixTree"]


class Match(NamedTuple):
    """The longest cached prefix: it ends after the first `taken` tokens of `node`.

    `pending_step` is the step that computes its last pending token, 0 if all are computed.
    """

    node: Node
    taken: int
    pending_step: int

    @property
    def length(self) -> int:
        return self.node.start + self.taken


class RadixTree:
    """Nodes by namespace; the only writer of `Node`."""

    def __init__(self, pool: PagePool, page_size: int, order: EvictionOrder) -> None:
        self.order = order
        self._pool = pool
        self._page_size = page_size
        self._roots: dict[str, Root] = {}
        self._pending: dict[int, list[Node]] = {}  # by the step that computes them
        self.num_nodes = 0
        self.num_tokens = 0
        self.evicted_tokens = 0

    def root(self, namespace: str) -> Root:
        """The root of a namespace, made if it does not exist yet."""
        root = self._roots.get(namespace)
        if root is None:
            root = Root(array("i"), 0, [], None, namespace=namespace)
            self._roots[namespace] = root
        return root

    def match(self, tokens: array[int], limit: int, namespace: str, ready_by: int) -> Match | None:
        """The longest cached prefix of `tokens[:limit]`; None in an unknown namespace.

        Changes nothing. A node counts as computed if its step is at most `ready_by`.
        """
        node: Node | None = self._roots.get(namespace)
        if node is None:
            return None
        taken, pending_step = 0, 0
        while node.end < limit and taken == len(node.tokens):
            child = node.children.get(tokens[node.end])
            if child is None:
                break
            taken = common_prefix(child.tokens, tokens, child.start, limit - child.start)
            if taken > child.ready_len(ready_by):
                pending_step = max(pending_step, child.ready_step)
            node = child
        return Match(node, taken, pending_step)

    def locate(self, match: Match) -> Node:
        """The node that ends where the match ends; splits if there is none."""
        if match.taken == len(match.node.tokens):
            return match.node
        return self.split(match.node, match.taken)

    def split(self, node: Node, num_tokens: int) -> Node:
        """Cut off the first tokens into a new node above; `node` itself stays the lower part."""
        if not 0 < num_tokens < len(node.tokens) or node.parent is None:
            raise InvariantError(f"cannot split {node!r} after {num_tokens!r} tokens")
        size = self._page_size
        cut = node.start + num_tokens
        first_index = node.start // size
        upper = Node(
            node.tokens[:num_tokens],
            node.start,
            node.pages[: -(-cut // size) - first_index],
            node.parent,
            0 if num_tokens <= node.settled else node.ready_step,  # 0: no step has work left in it
            min(num_tokens, node.settled),
            node.busy_until,
            node.locks,
            owner=node.owner,
            is_shared=node.is_shared,
            is_dead=node.is_dead,
        )
        upper.children[node.tokens[num_tokens]] = node
        node.parent.children[upper.tokens[0]] = upper
        node.parent = upper
        node.tokens = node.tokens[num_tokens:]
        node.pages = node.pages[cut // size - first_index :]
        node.start = cut
        node.settled = max(0, node.settled - num_tokens)
        self.num_nodes += 1
        if cut % size:
            self._pool.attach(node.pages[0])
            if node.locks:
                self._pool.pin(node.pages[0])
        if upper.locks == 0:
            # Rightly placed only because whoever splits locks the upper part next.
            self.order.add(upper)
            self.order.refresh(node)
        if upper.ready_len(self._pool.completed_step) < num_tokens:
            self._pending[upper.ready_step].append(upper)
        return upper

    def append(
        self,
        node: Node,
        tokens: array[int],
        pages: list[int],
        ready_step: int,
        owner: int = 0,
    ) -> Node:
        """Put tokens below `node`, on which the caller holds a lock, and lock them for it.

        `pages` begins with the page of position `node.end`. Grows `node` itself where nobody else
        can tell the difference, else adds a child.
        """
        if self._can_grow(node, pages[0], ready_step, owner):
            return self._grow(node, tokens, pages, ready_step)
        if ready_step < node.ready_step and node.ready_step > self._pool.completed_step:
            raise InvariantError(
                f"step {ready_step!r} cannot compute what follows {node!r}, which is later"
            )
        child = Node(tokens, node.end, pages, node, ready_step, 0, ready_step, 1, owner=owner)
        if node.children.setdefault(tokens[0], child) is not child:
            raise InvariantError(f"{node!r} already has a child that begins with {tokens[0]!r}")
        for page in pages:
            self._pool.attach(page)
            self._pool.pin(page)
        self.num_nodes += 1
        self.num_tokens += len(tokens)
        self._note_pending(child)
        return child

    def lock(self, node: Node, owner: int = 0) -> int:
        """Add a lock to the node and to every node above it.

        Returns how many of their tokens were inserted by somebody else.
        """
        foreign = 0
        for each in path(node):
            self.lock_only(each, owner)
            if each.owner != owner:
                foreign += len(each.tokens)
        return foreign

    def lock_only(self, node: Node, owner: int = 0) -> None:
        """Add a lock to a node whose ancestors the caller has locked already."""
        node.locks += 1
        node.is_dead = False
        node.is_shared |= node.owner != owner
        if node.locks == 1 and node.parent is not None:
            self.order.discard(node)
            for page in node.pages:
                self._pool.pin(page)

    def relock(self, node: Node) -> None:
        """Add a lock for one who has a lock on the node already."""
        for each in path(node):
            each.locks += 1

    def unlock(self, node: Node, fence: int, is_dead: bool = False) -> None:
        """Remove a lock from the path; its owner used these pages in steps up to `fence`.

        `is_dead`: it will not come back.
        """
        each = node  # left at the root by the loop
        for each in path(node):
            if each.locks < 1:
                raise InvariantError(f"{each!r} is unlocked but has no lock")
            each.locks -= 1
            each.busy_until = max(each.busy_until, fence)
            each.is_dead = is_dead and not each.is_shared
            if each.locks == 0 and each.parent is not None:
                for page in each.pages:
                    self._pool.unpin(page)
                self.order.add(each)
        self._forget_if_empty(each)

    def expect(self, node: Node, expectation: Expectation) -> None:
        """Put an expectation at the end of a node; at a root there is nothing to expect."""
        if node.parent is None:
            return
        if node.expected is None:
            node.expected = Expectations(node)
        node.expected.put(expectation)
        self.order.refresh(node)

    def revise(self, expectation: Expectation, use: NextUse, at: float | None) -> None:
        """Something else is expected now."""
        expectation.use, expectation.at = use, at
        place = expectation.place
        if place is not None:
            place.put(expectation)
            self.order.refresh(place.node)

    def forget(self, expectation: Expectation, is_dead: bool = False) -> None:
        """Remove an expectation. Idempotent. `is_dead`: whoever had it was the last user."""
        place = expectation.place
        if place is None:
            return
        node = place.node
        place.remove(expectation)
        if not len(place):
            node.expected = None
        if is_dead:
            for each in path(node):
                each.is_dead = not each.is_shared
                self.order.refresh(each)
        self.order.refresh(node)

    def evict(self, num_pages: int) -> int:
        """Give up unlocked leaves, in the order of eviction, until pages are gained.

        Returns the number of pages gained, which may be less; each is free once the steps that
        used it are complete. Of the last leaf only the tail is given up.
        """
        gained = 0
        while gained < num_pages and (node := self.order.victim()) is not None:
            excess = num_pages - gained
            before = self._pool.num_idle
            if len(node.pages) <= excess:
                self.evicted_tokens += len(node.tokens)
                self._remove(node, node.busy_until)
            else:
                stop = node.start // self._page_size + len(node.pages) - excess
                self.evicted_tokens += node.end - stop * self._page_size
                self._shorten(node, stop * self._page_size - node.start, node.busy_until)
            gained += self._pool.num_idle - before
        return gained

    def evict_references(self, node: Node, page_index: int, page: int) -> None:
        """Remove everything below `node` that has `page` at this index; it must be unlocked."""
        limit = (page_index + 1) * self._page_size
        below = list(node.children.values())
        while below:
            each = below.pop()
            if each.start >= limit:
                continue
            covers = each.end > page_index * self._page_size
            if covers and each.page_at(page_index, self._page_size) == page:
                self.evicted_tokens += self._remove_subtree(each, each.busy_until)
            else:
                below.extend(each.children.values())

    def drop_pending(self, step: int, fence: int) -> list[Node]:
        """Remove what the failed forward `step` would have computed, and everything below it.

        Locks of removed nodes are kept by the nodes that remain above. Nodes that had grown are cut
        back to what was computed before; these are returned.
        """
        cut = []
        for node in self._pending.pop(step, []):
            if node.removed or node.ready_step != step:
                continue
            if node.settled == 0:
                self._remove_subtree(node, fence)
                continue
            for child in list(node.children.values()):
                self._remove_subtree(child, fence)
            self._shorten(node, node.settled, fence)
            cut.append(node)
        return cut

    def retire(self, completed_step: int) -> None:
        """Forget which nodes the completed steps have computed."""
        for step in [step for step in self._pending if step <= completed_step]:
            del self._pending[step]

    def namespaces(self) -> list[str]:
        """Those that have nodes or are used, the oldest first."""
        return list(self._roots)

    def nodes(self) -> Iterator[Node]:
        """Every node with its ancestors before it, roots included."""
        stack: list[Node] = list(self._roots.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    def _can_grow(self, node: Node, first_page: int, ready_step: int, owner: int) -> bool:
        if node.parent is None or node.children or node.locks != 1:
            return False
        if node.is_shared or node.owner != owner or node.expected is not None:
            return False
        if node.ready_step != ready_step and node.ready_step > self._pool.completed_step:
            return False
        return node.end % self._page_size == 0 or node.pages[-1] == first_page

    def _grow(self, node: Node, tokens: array[int], pages: list[int], ready_step: int) -> Node:
        if node.ready_step <= self._pool.completed_step:
            node.settled = len(node.tokens)
            node.ready_step = ready_step
            self._note_pending(node)
        node.busy_until = max(node.busy_until, ready_step)
        added = pages[1:] if node.end % self._page_size else pages
        for page in added:
            self._pool.attach(page)
            self._pool.pin(page)
        node.pages.extend(added)
        node.tokens.extend(tokens)
        self.num_tokens += len(tokens)
        return node

    def _note_pending(self, node: Node) -> None:
        if node.ready_step > self._pool.completed_step:
            self._pending.setdefault(node.ready_step, []).append(node)

    def _shorten(self, node: Node, num_tokens: int, fence: int) -> None:
        num_pages = -(-(node.start + num_tokens) // self._page_size)
        num_pages -= node.start // self._page_size
        for page in node.pages[num_pages:]:
            if node.locks:
                self._pool.unpin(page)
            self._pool.detach(page, max(fence, node.busy_until))
        del node.pages[num_pages:]
        self.num_tokens -= len(node.tokens) - num_tokens
        del node.tokens[num_tokens:]
        node.settled = min(node.settled, num_tokens)
        if node.ready_step > self._pool.completed_step and node.settled == num_tokens:
            node.ready_step = 0  # nothing is left for the pending step to compute
        self.order.refresh(node)

    def _remove_subtree(self, node: Node, fence: int) -> int:
        """Remove a node and everything below it; returns the number of tokens."""
        order = [node]
        for each in order:  # grows while it is read: parents before children
            order.extend(each.children.values())
        num_tokens = sum(len(each.tokens) for each in order)
        for each in reversed(order):
            self._remove(each, max(fence, each.busy_until))
        return num_tokens

    def _remove(self, node: Node, fence: int) -> None:
        if node.parent is None or node.children:
            raise InvariantError(f"{node!r} is not a leaf and cannot be removed")
        for page in node.pages:
            if node.locks:
                self._pool.unpin(page)
            self._pool.detach(page, fence)
        del node.parent.children[node.tokens[0]]
        node.removed = True
        self.order.discard(node)
        hand_up(node)
        self.order.refresh(node.parent)
        self.num_nodes -= 1
        self.num_tokens -= len(node.tokens)
        self._forget_if_empty(node.parent)

    def _forget_if_empty(self, node: Node) -> None:
        """Drop the root of a namespace that nobody uses any more."""
        if isinstance(node, Root) and not node.children and node.locks == 0:
            self._roots.pop(node.namespace, None)

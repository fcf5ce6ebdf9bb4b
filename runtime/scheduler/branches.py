"""The choices of a Choose in the cache and in a step: a lease and a row for each part of the trie.

Pages for everything are reserved before the first row is added, so that a step computes nothing
that cannot be used. Does not know which choice wins, nor why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.runtime.cache import KVCache, Lease, Pending

from .selection import Trie, build_trie

if TYPE_CHECKING:
    from furcate.protocol.stream import Choose

    from .plan import StepPlan

__all__ = ["Branches", "ChoiceBranches"]


@dataclass(slots=True)
class Branches:
    """The trie behind one context: for each segment a lease, where it ends and where its logits
    begin. `root` is the index of the logits that predict the first tokens."""

    trie: Trie
    leases: list[Lease] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    logits: list[int] = field(default_factory=list)
    root: int = -1

    @classmethod
    def reserve(
        cls, cache: KVCache, plan: StepPlan, trie: Trie, trunk: Lease, length: int
    ) -> Branches | None:
        """Pages for the trie behind the first `length` positions of `trunk`; None, and nothing
        held, where they are short."""
        branches = cls(trie)
        for segment in trie.segments:
            parent = trunk if segment.parent < 0 else branches.leases[segment.parent]
            begin = length if segment.parent < 0 else branches.ends[segment.parent]
            lease = cache.branch(parent)
            branches.leases.append(lease)
            branches.ends.append(begin + len(segment.ids))
            copies = cache.extend(lease, branches.ends[-1], plan.step)
            if copies is None:
                branches.free(cache, plan.step)
                return None
            plan.add_copies(copies)
        return branches

    def add_rows(self, plan: StepPlan, root: int) -> None:
        self.root = root
        for segment, lease, end in zip(self.trie.segments, self.leases, self.ends, strict=True):
            begin, count = end - len(segment.ids), len(segment.ids)
            self.logits.append(plan.add_row(segment.ids, begin, lease.page_table(), count))

    def adopt(self, cache: KVCache, lease: Lease, winner: int, step: int) -> int | None:
        """Gives the winner's computed positions to `lease`; how many it has then, None where the
        winner needed none. The other branches are still to be freed."""
        segment, count = self.trie.reached[winner]
        if segment < 0:
            return None
        length = self.ends[segment] - len(self.trie.segments[segment].ids) + count
        cache.adopt(lease, self.leases.pop(segment), step)
        cache.truncate(lease, length, step)
        return length

    def free(self, cache: KVCache, step: int) -> None:
        for lease in self.leases:
            cache.release(lease, step)
        self.leases.clear()


@dataclass(slots=True)
class ChoiceBranches:
    """All that a Choose has in a step: the trie behind the stream, and for the method that needs it
    behind `context`, a sequence of its own."""

    conditional: Branches
    unconditional: Branches | None = None
    context: Lease | None = None

    @classmethod
    def reserve(
        cls, cache: KVCache, plan: StepPlan, choose: Choose, trunk: Lease, length: int
    ) -> ChoiceBranches | None:
        trie = build_trie(choose.choices)
        conditional = Branches.reserve(cache, plan, trie, trunk, length)
        if conditional is None or choose.method != "unconditional_likelihood_normalized":
            return None if conditional is None else cls(conditional)
        context = cache.open((), limit=0)
        assert not isinstance(context, Pending)
        both, num_ids = cls(conditional, None, context), len(choose.unconditional)
        if cache.extend(context, num_ids, plan.step) is not None:
            both.unconditional = Branches.reserve(cache, plan, trie, context, num_ids)
        if both.unconditional is None:
            both.free(cache, plan.step)
            return None
        return both

    @property
    def num_tokens(self) -> int:
        """Tokens that a forward computes for all of it."""
        count = self.conditional.trie.num_tokens
        if self.unconditional is not None and self.context is not None:
            count += self.unconditional.trie.num_tokens + self.context.length
        return count

    def add_rows(self, plan: StepPlan, choose: Choose, root: int) -> None:
        self.conditional.add_rows(plan, root)
        if self.unconditional is not None:
            assert self.context is not None
            table = self.context.page_table()
            self.unconditional.add_rows(plan, plan.add_row(choose.unconditional, 0, table, 1))

    def free(self, cache: KVCache, step: int) -> None:
        for branches in (self.conditional, self.unconditional):
            if branches is not None:
                branches.free(cache, step)
        if self.context is not None:
            cache.release(self.context, step)

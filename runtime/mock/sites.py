"""The nodes that a mock has to answer, by numbers that travel through the front as their `site`.

So the engine, which sees streams of tokens, can say of which node of a program an answer is made.
The numbers grow in the order of recording. Constraints stay here: a mock does not enforce them, but
refuses those that no engine could.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from furcate.errors import ConstraintError
from furcate.protocol.graph import ForkOver, Gen, Loop, Select, Switch
from furcate.protocol.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from furcate.protocol.constraint import Constraint
    from furcate.protocol.graph import Node
    from furcate.protocol.message import Graph

__all__ = ["Site", "Sites"]


@dataclass(frozen=True, slots=True)
class Site:
    """`choices` is None for a Gen."""

    sampling: Sampling
    choices: tuple[str, ...] | None = None
    constraint: Constraint | None = None
    seed: int = 0


class Sites:
    """Of one connection; `constraints` is its table."""

    def __init__(self) -> None:
        self.constraints: list[Constraint] = []
        self._refusals: dict[Constraint, ConstraintError | None] = {}
        self._sites: dict[int, Site] = {}
        self._of_programs: dict[int, list[int]] = {}
        self._seeds: dict[int, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._sites)

    def get(self, site: int) -> Site | None:
        return self._sites.get(site)

    def check(self, constraint: Constraint) -> None:
        """Raises ConstraintError for one that no engine takes."""
        if constraint not in self._refusals:
            # The engines load with the first constraint: most programs on a mock have none.
            from furcate.runtime.constrain.check import check_constraint

            self._refusals[constraint] = None
            try:
                check_constraint(constraint)
            except ConstraintError as error:
                self._refusals[constraint] = error.with_traceback(None)
        refusal = self._refusals[constraint]
        if refusal is not None:
            raise refusal

    def mark(self, graph: Graph) -> Graph:
        """The same with the numbers in it."""
        if graph.options is not None:
            self._seeds[graph.program] = graph.options.seed
        marked = tuple(self._mark_all(graph.program, graph.nodes))
        return replace(graph, nodes=marked)

    def forget(self, programs: Iterable[int]) -> None:
        """Nothing of these programs will be answered any more."""
        for program in programs:
            self._seeds.pop(program, None)
            for site in self._of_programs.pop(program, ()):
                del self._sites[site]

    def _mark_all(self, program: int, nodes: Iterable[Node]) -> Iterator[Node]:
        for node in nodes:
            match node:
                case Gen() | Select():
                    yield self._mark_one(program, node)
                case Loop() | ForkOver():
                    yield replace(node, nodes=tuple(self._mark_all(program, node.nodes)))
                case Switch(cases=cases):
                    marked = [replace(c, nodes=(*self._mark_all(program, c.nodes),)) for c in cases]
                    yield replace(node, cases=tuple(marked))
                case _:
                    yield node

    def _mark_one(self, program: int, node: Gen | Select) -> Node:
        number, self._next = self._next, self._next + 1
        self._of_programs.setdefault(program, []).append(number)
        seed = self._seeds.get(program, 0)
        if isinstance(node, Select):
            sampling = Sampling(temperature=node.temperature)
            self._sites[number] = Site(sampling, node.choices, None, seed)
            return replace(node, site=number)
        index = node.constraint
        if index is None or index >= len(self.constraints):  # which the front refuses
            self._sites[number] = Site(node.sampling, None, None, seed)
            return replace(node, site=number)
        self._sites[number] = Site(node.sampling, None, self.constraints[index], seed)
        return replace(node, site=number, constraint=None)

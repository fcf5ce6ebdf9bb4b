"""Properties over random programs: however a recording is cut and whenever it is aborted.

Values that differ would show a wrong id anywhere: the fake engine's output is a hash of all tokens
before it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.front_driver import Driver

from furcate.protocol.constraint import Constraint
from furcate.protocol.graph import (
    Drop,
    Fill,
    Fork,
    Gen,
    Join,
    Let,
    Node,
    Role,
    Root,
    Select,
    Special,
    Text,
    TextOf,
    ValueRef,
)
from furcate.protocol.message import Cancel, Constraints, Finished, Release
from furcate.protocol.sampling import Sampling

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

BAD = Constraint(kind="regex", body="bad")


@dataclass
class Draft:
    """A program that grows by valid nodes."""

    nodes: list[Node] = field(default_factory=lambda: [Root(0), Text(0, "x")])
    parents: dict[int, int | None] = field(default_factory=lambda: {0: None})
    dropped: set[int] = field(default_factory=set)
    open_roles: dict[int, str | None] = field(default_factory=lambda: {0: None})
    num_values: int = 0

    def value(self) -> int:
        self.num_values += 1
        return self.num_values - 1


KINDS = ("text", "gen", "gen", "fill", "fork", "join", "select", "let", "textof", "role", "drop",
         "special", "bad")  # fmt: skip


# Mostly branches, some of which fail while others are on their way.
RISKY = ("gen", "gen", "fork", "fork", "bad", "text", "textof", "join")


def grow(draw: DrawFn, draft: Draft, kinds: tuple[str, ...]) -> None:
    kind = draw(st.sampled_from(kinds))
    branch = draw(st.sampled_from([b for b in draft.parents if b not in draft.dropped]))
    known = st.integers(0, max(draft.num_values - 1, 0))
    match kind:
        case "text":
            draft.nodes.append(Text(branch, draw(st.sampled_from(["", "a", "é", "long text "]))))
        case "gen" | "bad":
            wanted = Sampling(
                max_tokens=draw(st.integers(0, 3)),
                n=draw(st.sampled_from([1, 1, 2])),
                stop=draw(st.sampled_from([(), ("c",)])),
            )
            constraint = 0 if kind == "bad" else None
            draft.nodes.append(Gen(branch, draft.value(), 1, wanted, constraint))
        case "select":
            choices = draw(st.sampled_from([("yes", "no"), ("a", "ab", "b")]))
            draft.nodes.append(Select(branch, draft.value(), 1, choices))
        case "fill" if draft.num_values:
            draft.nodes.append(Fill(branch, draw(known)))
        case "let" if draft.num_values:
            args = ("-", ValueRef(draw(known)), ValueRef(draw(known)))
            draft.nodes.append(Let(draft.value(), "concat", args))
        case "textof":
            draft.nodes.append(TextOf(branch, draft.value()))
        case "special":
            draft.nodes.append(Special(branch, "<|im_end|>"))
        case "role":
            fork_role(draw, draft, branch)
        case "fork" if len(draft.parents) < 12:
            children = tuple(len(draft.parents) + i for i in range(draw(st.integers(1, 3))))
            draft.nodes.append(Fork(branch, children))
            draft.parents.update(dict.fromkeys(children, branch))
            draft.open_roles.update(dict.fromkeys(children, draft.open_roles[branch]))
        case "join":
            children = tuple(c for c, parent in draft.parents.items() if parent == branch)
            draft.nodes.append(Join(branch, children[: draw(st.integers(0, 2))]))
        case "drop" if branch != 0:
            draft.dropped.add(branch)
            draft.nodes.append(Drop(branch))


def fork_role(draw: DrawFn, draft: Draft, branch: int) -> None:
    """Begins or ends a role; a join may have changed which is open, so some of these nodes fail."""
    role = draft.open_roles[branch]
    if role is None:
        role = draw(st.sampled_from(["user", "assistant"]))
        draft.nodes.append(Role(branch, role, "begin"))
        draft.open_roles[branch] = role
    else:
        draft.nodes.append(Role(branch, role, "end"))
        draft.open_roles[branch] = None


@st.composite
def programs(draw: DrawFn, kinds: tuple[str, ...] = KINDS, least: int = 1) -> list[Node]:
    draft = Draft()
    for _ in range(draw(st.integers(least, 25))):
        grow(draw, draft, kinds)
    return draft.nodes


@st.composite
def cuts(draw: DrawFn) -> list[int]:
    """After how many nodes to send, and then how many engine steps to let pass."""
    return draw(st.lists(st.integers(0, 6), min_size=1, max_size=12))


def start() -> Driver:
    driver = Driver()
    driver.send(Constraints(0, (BAD,)))
    return driver


def send_cut(driver: Driver, nodes: list[Node], plan: list[int]) -> None:
    """Sends the program in pieces; after each the engine runs for as many steps as the plan says,
    whose reports reach the front only with the next piece if the number is odd."""
    rest, epoch, late = list(nodes), 0, []
    while rest:
        size = plan[epoch % len(plan)] + 1
        driver.program(*rest[:size], epoch=epoch, done=len(rest) <= size, stream=True)
        rest = rest[size:]
        driver.front.handle_engine(late, driver.now)
        late = []
        for _ in range(size):
            late += driver.engine.step()
        if size % 2 == 0:
            driver.front.handle_engine(late, driver.now)
            late = []
        driver.front.check()
        driver.pump()
        epoch += 1
    driver.front.handle_engine(late, driver.now)
    driver.pump()
    driver.run()


def outcome(driver: Driver) -> tuple[object, ...]:
    """Values, which of them failed, and the first failure. Behind that one, a node that is wrong in
    itself fails as such or as a dependent, whichever is known first."""
    failures = sorted(driver.failures(), key=lambda failed: failed.node)
    failed_values = sorted(f.value for f in failures if f.value is not None)
    first = [(f.node, f.code, f.branch) for f in failures[:1]]
    return driver.values(), failed_values, first, driver.finished().code


@pytest.mark.slow
@settings(max_examples=75, deadline=None)
@given(st.one_of(programs(), programs(RISKY, 10)), cuts())
def test_the_outcome_does_not_depend_on_how_the_recording_is_cut(
    nodes: list[Node], plan: list[int]
) -> None:
    whole, cut = start(), start()
    whole.program(*nodes, stream=True)
    whole.run()
    send_cut(cut, nodes, plan)
    assert outcome(whole) == outcome(cut)
    assert whole.finished().code is None
    # Each stream that the uncut program runs to its end, the cut one does as well.
    assert not Counter(whole.engine.finals) - Counter(cut.engine.finals)
    for driver in (whole, cut):
        check_values(driver, nodes)
        driver.disconnect_all()
        check_empty(driver)


def check_values(driver: Driver, nodes: list[Node]) -> None:
    """Each value is told exactly once, and deltas add up to it."""
    values = [n.value for n in nodes if isinstance(n, (Gen, Select, Let, TextOf))]
    told = [*driver.values(), *(f.value for f in driver.failures() if f.value is not None)]
    assert sorted(told) == sorted(values)
    gens = {n.value for n in nodes if isinstance(n, Gen)}
    for value, data in driver.values().items():
        if value in gens:
            for sample, text in enumerate(data if isinstance(data, list) else [data]):
                assert driver.deltas(value, sample) == text


def check_empty(driver: Driver) -> None:
    assert driver.front.num_programs == 0
    assert driver.front.num_streams == 0
    assert driver.engine.num_opened == driver.engine.num_ended
    assert driver.engine.constraints == {}
    driver.front.check()


ABORTS = ("cancel", "cancel branch", "release", "disconnect", "deadline", "lost")


@pytest.mark.slow
@settings(max_examples=75, deadline=None)
@given(programs(), cuts(), st.integers(0, 8), st.sampled_from(ABORTS))
def test_an_abort_at_any_time_ends_the_program_once_and_leaves_nothing(
    nodes: list[Node], plan: list[int], steps: int, abort: str
) -> None:
    driver = start()
    size = 1 + sum(plan) % len(nodes)
    driver.program(*nodes[:size], done=False, timeout_s=5.0, stream=True)
    for _ in range(steps):
        driver.step()
    match abort:
        case "cancel":
            driver.send(Cancel(0))
        case "cancel branch":
            driver.send(Cancel(0, 0))
        case "release":
            driver.send(Release((0,)))
        case "disconnect":
            driver.front.disconnect("a")
        case "deadline":
            driver.front.tick(5.0)
        case "lost":
            driver.front.engine_lost("gone")
            driver.engine.streams.clear()
            driver.engine.num_ended = driver.engine.num_opened
    driver.front.check()
    driver.pump()
    driver.run()
    if abort not in ("disconnect", "release"):
        driver.program(*nodes[size:], epoch=1)
        driver.run()
        driver.finished()
        check_values(driver, nodes)
    else:
        assert not driver.of(Finished)
    driver.disconnect_all()
    check_empty(driver)

"""Each way to misuse a group is an error with its line and a remedy."""

from __future__ import annotations

import traceback

import pytest
from tests.fakes.groups import in_brackets, numbered, run

import furcate as fc


def empty(s):
    return s.fork(over=[])


MISUSES = {
    "best of none": (lambda s: empty(s).best("x"), "empty group"),
    "first of none": (lambda s: empty(s).first("x"), "empty group"),
    "vote of none": (lambda s: empty(s).vote("x"), "empty group"),
    "best keeps none": (lambda s: numbered(s, "ab").best("x", keep=0), "keeps 1 to 2"),
    "best keeps too many": (lambda s: numbered(s, "ab").best("x", keep=3), "keeps 1 to 2"),
    "best keeps a flag": (lambda s: numbered(s, "ab").best("x", keep=True), "keeps 1 to 2"),
    "vote on an unknown name": (lambda s: numbered(s, "ab").vote("nope"), "no variable 'nope'"),
    "best by an unknown name": (lambda s: numbered(s, "ab").best("nope"), "no variable 'nope'"),
    "a key that is none": (lambda s: numbered(s, "ab").best(3), "takes the name"),
    "a key function without a key": (lambda s: numbered(s, "ab").best(lambda c: None), "None"),
    "a condition that is none": (lambda s: numbered(s, "ab").first(lambda c: 3), "a condition"),
    "groups of groups": (
        lambda s: s.fork(2).map(lambda c: c.fork(2)).best("x"),
        r"flatten\(\) it first",
    ),
    "map with nothing to call": (lambda s: s.fork(2).map(3), "takes a function"),
    "map to no state": (lambda s: s.fork(2).map(lambda c: 3), "returns a state"),
    "twice the same": (
        lambda s: (lambda g: g.map(lambda c: g[0]).best(lambda c: 1))(s.fork(2)),
        "twice",
    ),
    "a parent and its child": (
        lambda s: (lambda g: g.map(lambda c, i: g[0].fork(1)[0] if i else c))(s.fork(2)).best(
            lambda c: 1
        ),
        "forked off another",
    ),
    "join twice": (lambda s: (lambda g: (g.join(), g.join()))(s.fork(2)), "joined already"),
    "best after join": (
        lambda s: (lambda g: (g.join(), g.best(lambda c: 1)))(s.fork(2)),
        "has been joined",
    ),
    "join after best": (
        lambda s: (lambda g: (g.best(lambda c: 1), g.join()))(s.fork(2)),
        "joined already",
    ),
    "best appended by join": (
        lambda s: s.fork(2).best(lambda c: 1).join("append"),
        "has forked",
    ),
    "different roles": (
        lambda s: (lambda g: (g[0].__iadd__(fc.user_begin()), g.best(lambda c: 1)))(s.fork(2)),
        "same role",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("misuse", "why"), MISUSES.values(), ids=MISUSES)
def test_a_misuse_raises_where_it_is_written(misuse, why):
    def body(s):
        misuse(s)

    with pytest.raises(fc.UsageError, match=why) as caught:
        run(body, in_brackets)
    frames = traceback.extract_tb(caught.value.__traceback__)
    own = [frame for frame in frames if frame.filename == __file__]
    assert own[-1].line


def test_a_finished_state_cannot_be_forked_nor_chosen_from():
    kept = []

    def body(s):
        kept.append(s.fork(2))

    state = run(body)
    with pytest.raises(fc.UsageError, match="program has ended"):
        state.fork(2)
    with pytest.raises(fc.UsageError, match="program has ended"):
        kept[0].best(lambda child: 1)


@pytest.mark.parametrize("winner", [0, 1])
def test_a_failure_below_a_loser_is_none_of_the_program_and_below_a_winner_is(winner):
    def reply(call):
        if "[bad]" in call.text:
            raise RuntimeError("no")
        return "R"

    def body(s):
        group = s.fork(2)
        numbered(group[0], ["bad"])
        group.best(lambda child: int(child is group[winner]))

    if winner == 1:
        assert run(body, reply).ok
    else:
        with pytest.raises(fc.ProgramError, match="gen 'x'"):
            run(body, reply)


def test_an_election_below_a_loser_fails_with_nobody():
    def body(s):
        group = s.fork(2)
        numbered(group[0], ["x", "y"]).best("x")
        group.best(lambda child: int(child is group[1]))

    assert run(body, in_brackets).ok

"""Random programs in the language, as data, and how to play one.

What a program does depends on its statements alone. Between two of them the player may be told to
send what is recorded, or to wait for everything so far: the outcome may not depend on that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import strategies as st

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypothesis.strategies import DrawFn

__all__ = ["Player", "bodies", "outcome"]

# Pieces that a tokenizer may or may not put together.
TEXTS = ("hel", "lo", " hello", "he", "llo ", "é", "\n", "<|im_end|>", "", "long words " * 8)
METHODS = ("strip", "upper", "lower", "lstrip")
RATINGS = ("1", "2", "3")

Between = "Callable[[Player, fc.ProgramState], None]"


@dataclass(frozen=True)
class Statement:
    """`parts` are statements inside; `numbers` choose among what the kind could mean."""

    kind: str
    numbers: tuple[int, ...]
    parts: tuple[tuple[Statement, ...], ...] = ()


SIMPLE = (
    "text",
    "text",
    "gen",
    "gen",
    "gen",
    "gen",
    "select",
    "fill",
    "method",
    "join",
    "score",
    "leaf",
)
NESTED = ("fork", "fork", "append", "gather", "best", "first", "vote", "role", "scope", "inline",
          "spawn")  # fmt: skip


@st.composite
def statements(draw: DrawFn, depth: int, kinds: tuple[str, ...]) -> Statement:
    kind = draw(st.sampled_from(kinds))
    numbers = tuple(draw(st.lists(st.integers(0, 5), min_size=4, max_size=4)))
    if kind in SIMPLE:
        return Statement(kind, numbers)
    inner = SIMPLE if kind in ("role", "scope") or depth == 1 else SIMPLE + NESTED
    if kind == "scope":
        inner = tuple(each for each in SIMPLE if each != "score")
    count = draw(st.integers(1, 3)) if kind not in ("role", "scope", "inline", "spawn") else 1
    body = st.lists(statements(depth - 1, inner), max_size=3)
    return Statement(kind, numbers, tuple(tuple(draw(body)) for _ in range(count)))


def bodies(depth: int = 3) -> st.SearchStrategy[list[Statement]]:
    return st.lists(statements(depth, SIMPLE + NESTED), min_size=2, max_size=7)


@dataclass
class Player:
    """Plays statements on states. `found` are the states whose outcome counts, with the names of
    their variables; `scores` what was scored."""

    between: Callable[[Player, fc.ProgramState], None]
    found: list[tuple[fc.ProgramState, list[str]]] = field(default_factory=list)
    scores: list[object] = field(default_factory=list)
    refs: list[fc.Ref] = field(default_factory=list)
    num_names: int = 0
    num_steps: int = 0

    def begin(self, s: fc.ProgramState, body: list[Statement]) -> None:
        s += "begin "
        self.play(s, tuple(body), [])

    def play(self, s: fc.ProgramState, body: tuple[Statement, ...], names: list[str]) -> None:
        """`names` are the variables that the state has already."""
        names = list(names)
        for statement in body:
            getattr(self, statement.kind)(s, statement, names)
            self.num_steps += 1
            self.between(self, s)
        self.found.append((s, names))

    def named(self, names: list[str]) -> str:
        self.num_names += 1
        names.append(f"v{self.num_names}")
        return names[-1]

    # Simple statements ---------------------------------------------------------------------------

    def text(self, s, statement, names) -> None:
        s += TEXTS[(statement.numbers[0] * 6 + statement.numbers[1]) % len(TEXTS)]

    def gen(self, s, statement, names) -> None:
        a, b, c, d = statement.numbers
        sampling = [
            {"temperature": 0.0},
            {"temperature": 1.3, "top_k": 20},
            {"top_p": 0.8, "min_p": 0.01},
            {"frequency_penalty": 0.5, "repetition_penalty": 1.2},
            {"n": 2},
            {"seed": 11},
        ][a]
        ends = [{}, {"stop": ["e", "l"]}, {"regex": "[a-z]{1,4}"}, {"ignore_eos": True},
                {"min_tokens": 2, "ignore_eos": True}, {}][b]  # fmt: skip
        s += TEXTS[d] + fc.gen(
            self.named(names), max_tokens=max(c, 2), return_logprob=True, **sampling, **ends
        )

    def select(self, s, statement, names) -> None:
        methods = (
            fc.token_length_normalized,
            fc.greedy_token_selection,
            fc.unconditional_likelihood_normalized,
        )
        s += fc.select(
            self.named(names),
            ["hello", "hell", "no way"],
            temperature=float(statement.numbers[0] % 2),
            choices_method=methods[statement.numbers[1] % 3],
        )

    def fill(self, s, statement, names) -> None:
        for ref in self._one(s, statement, names):
            s += ref

    def method(self, s, statement, names) -> None:
        for ref in self._one(s, statement, names):
            changed = getattr(ref, METHODS[statement.numbers[1] % len(METHODS)])()
            self.refs.append(changed)
            s += "[" + changed + "]"

    def join(self, s, statement, names) -> None:
        refs = list(self._one(s, statement, names))
        s += fc.join("hel", [*refs, "lo", *refs])

    def leaf(self, s, statement, names) -> None:
        """Through a function that is rewritten, and waits without that."""
        for name in self._names(s, statement, names):
            s += appends_leaf(name)

    def score(self, s, statement, names) -> None:
        self.scores.append(s.score(TEXTS[statement.numbers[0] % 5] + "x"))

    def _names(self, s, statement, names) -> Iterator[str]:
        if names:
            yield names[statement.numbers[0] % len(names)]

    def _one(self, s, statement, names) -> Iterator[fc.Ref]:
        for name in self._names(s, statement, names):
            ref = s.ref(name)
            yield ref[statement.numbers[1] % 2] if ref.slot.samples > 1 else ref

    # Statements with others inside ---------------------------------------------------------------

    def _forked(self, s, statement, names) -> fc.StateGroup:
        group = s.fork(len(statement.parts))
        for child, part in zip(group, statement.parts, strict=True):
            self.play(child, part, names)
        return group

    def fork(self, s, statement, names) -> None:
        self._forked(s, statement, names)

    def append(self, s, statement, names) -> None:
        self._forked(s, statement, names).join("append")

    def gather(self, s, statement, names) -> None:
        name = f"g{self.num_names}"
        group = self._forked(s, statement, names)
        group += "h" + fc.gen(name, max_tokens=2, return_logprob=True)
        group.join()
        refs = group.refs(name)
        s += "e" + fc.join("l", refs)

    def _rated(self, s, statement, names) -> fc.StateGroup:
        """Candidates, which do not count: most of them lose."""
        kept = [len(each) for each in (self.found, self.scores, self.refs)]
        group = self._forked(s, statement, names)
        for each, count in zip((self.found, self.scores, self.refs), kept, strict=True):
            del each[count:]
        group += "rate" + fc.select("rating", RATINGS, temperature=1.0)
        group += fc.gen("after", max_tokens=2, return_logprob=True)
        return group

    def best(self, s, statement, names) -> None:
        group = self._rated(s, statement, names)
        for state in group.best("rating", keep=1 + statement.numbers[0] % len(group)):
            state += " then " + fc.gen("last", max_tokens=3, return_logprob=True)
            self.found.append((state, [*names, "rating", "after", "last"]))
            s += state.ref("after") + "," + state.ref("last")

    def first(self, s, statement, names) -> None:
        group = self._rated(s, statement, names)
        limit = str(statement.numbers[0] % 2 + 1)
        holds = [child.ref("rating").ne(limit) for child in group]
        last = len(group) - 1
        state = group.map(lambda child: None).first(
            lambda child: next(
                each if index < last else each.eq(True) | each.eq(False)
                for index, each in enumerate(holds)
                if group[index] is child
            )
        )
        state += fc.gen("last", max_tokens=3, return_logprob=True)
        self.found.append((state, [*names, "rating", "last"]))
        s += state.ref("last")

    def vote(self, s, statement, names) -> None:
        group = self._forked(s, statement, names)
        group += "say" + fc.select("answer", ["he", "no"], temperature=1.0)
        s += group.vote("answer").upper()

    def role(self, s, statement, names) -> None:
        with s.message(("user", "assistant", "system")[statement.numbers[0] % 3]):
            self._inside(s, statement.parts[0], names)

    def scope(self, s, statement, names) -> None:
        name = self.named([])
        with s.var_scope(name):
            s += "in "
            self._inside(s, statement.parts[0], names)
        s += s.ref(name)
        names.append(name)

    def _inside(self, s, part, names) -> None:
        for statement in part:
            getattr(self, statement.kind)(s, statement, names)
            self.between(self, s)

    def inline(self, s, statement, names) -> None:
        @fc.function
        def part(s):
            self.play(s, statement.parts[0], names)
            s += fc.gen("inner", max_tokens=2, return_logprob=True)
            return s.ref("inner")

        call = part()
        s += call
        self.refs.append(call.ret_value)

    def spawn(self, s, statement, names) -> None:
        @fc.function
        def part(s):
            s += "spawned "
            self.play(s, statement.parts[0], [])
            s += fc.gen("inner", max_tokens=2, return_logprob=True)

        state = part.spawn()
        self.found.append((state, ["inner"]))
        s += state.ref("inner")


@fc.function
def appends_leaf(s, name):
    s += f"<{s[name]}>" if isinstance(name, str) else ""


def outcome(player: Player) -> list[object]:
    """The texts and the ids of everything."""
    result: list[object] = [float(score) for score in player.scores]
    result += [ref.get() for ref in player.refs]
    for state, names in player.found:
        result.append(state.text())
        for name in names:
            info = state.get_meta_info(name) if name in state else {}
            ids = [token[1] for token in _flat(info.get("output_token_logprobs", ()))]
            result.append((name, state[name], ids))
    return result


def _flat(tokens) -> Iterator[list[object]]:
    """Of one sample or of several."""
    for token in tokens:
        if not token or isinstance(token[0], list):  # a sample, perhaps an empty one
            yield from token
        else:
            yield token

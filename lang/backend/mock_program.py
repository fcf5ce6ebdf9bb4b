"""One program on the mock: interprets its nodes in the order of arrival."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.errors import FurcateError, UpstreamFailed, UsageError
from furcate.protocol.graph import (
    Fill,
    Fork,
    Gen,
    Ids,
    Join,
    Let,
    Node,
    Operand,
    Role,
    Root,
    Select,
    Special,
    Text,
    TextOf,
    ValueRef,
)
from furcate.protocol.message import (
    Alternative,
    ChoiceScores,
    Data,
    Delta,
    Event,
    Failed,
    Finished,
    Graph,
    TokenLogprob,
    Usage,
    Value,
    ValueMeta,
)
from furcate.protocol.sampling import Sampling

if TYPE_CHECKING:
    from furcate.protocol.constraint import Constraint

__all__ = ["MockCall", "MockProgram", "Reply"]

_TOKEN = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, slots=True)
class MockCall:
    """What a generation or a select would be made from. `choices` is None for a generation;
    `sample` counts the texts of an `n` above 1; `seed` is the program's."""

    text: str
    sampling: Sampling
    constraint: Constraint | None = None
    choices: tuple[str, ...] | None = None
    sample: int = 0
    seed: int = 0


Reply = Callable[[MockCall], str | int]


class _NodeFailed(Exception):
    """A node has no value; `code` and the message go to the client."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Branch:
    text: str = ""
    fork_point: int = 0
    failed: bool = False


@dataclass
class MockProgram:
    """Owned by the channel; `append` gives the events that the new nodes cause."""

    first: Graph
    reply: Reply
    segments: Sequence[str]
    constraints: Sequence[Constraint]
    finished: bool = False
    usage: Usage = field(default_factory=Usage)
    _num_nodes: int = 0
    _events: list[Event] = field(default_factory=list)
    _branches: dict[int, _Branch] = field(default_factory=lambda: {0: _Branch()})
    _values: dict[int, tuple[Data, str]] = field(default_factory=dict)  # data, and how it reads

    @property
    def _seed(self) -> int:
        return self.first.options.seed if self.first.options is not None else 0

    def append(self, graph: Graph) -> list[Event]:
        self._events = []
        for node in graph.nodes:
            self._interpret(node)
            self._num_nodes += 1
        if graph.done and not self.finished:
            self.finished = True
            self._events.append(Finished(self.first.program, self.usage))
        return self._events

    def _interpret(self, node: Node) -> None:
        number = getattr(node, "branch", None)
        branch = self._branches.setdefault(number, _Branch()) if number is not None else _Branch()
        value = getattr(node, "value", None) if not isinstance(node, Fill) else None
        try:
            if branch.failed:
                if value is None:
                    return
                raise _NodeFailed(UpstreamFailed.code, "an earlier node of the branch has failed")
            self._run(node, branch)
        except _NodeFailed as error:
            if isinstance(node, Gen | Select | Fill | Join):
                branch.failed = True
            self._fail(number, value, error.code, str(error))

    def _fail(self, branch: int | None, value: int | None, code: str, message: str) -> None:
        self._events.append(
            Failed(self.first.program, self._num_nodes, branch, value, code, message)
        )

    def _run(self, node: Node, branch: _Branch) -> None:
        match node:
            case Root():
                branch.text = ""
            case Text(_, text):
                branch.text += text if isinstance(text, str) else self.segments[text]
            case Ids(_, ids):
                branch.text += "".join(f"<{token_id}>" for token_id in ids)
            case Special(_, name):
                branch.text += name
            case Role(_, role, edge):
                branch.text += f"<|im_start|>{role}\n" if edge == "begin" else "<|im_end|>\n"
            case Fill(_, value):
                branch.text += self._text(value)
            case Gen():
                self._generate(node, branch)
            case Select():
                self._select(node, branch)
            case Fork(_, children):
                for child in children:
                    self._branches[child] = _Branch(branch.text, len(branch.text), branch.failed)
            case Join(_, children):
                self._join(children, branch)
            case Let(value, op, args):
                data = _OPERATIONS[op](*(self._operand(arg) for arg in args))
                self._store(value, data, str(data))
            case TextOf(_, value):
                self._store(value, branch.text, branch.text)
            case _:
                pass

    def _join(self, children: Sequence[int], branch: _Branch) -> None:
        joined = [self._branches[child] for child in children]
        if any(child.failed for child in joined):
            raise _NodeFailed(UpstreamFailed.code, "a branch that is joined has failed")
        branch.text += "".join(child.text[child.fork_point :] for child in joined)

    # Values --------------------------------------------------------------------------------------

    def _text(self, value: int) -> str:
        if value not in self._values:
            raise _NodeFailed(UpstreamFailed.code, f"value {value} has failed")
        return self._values[value][1]

    def _operand(self, arg: Operand) -> Data:
        if not isinstance(arg, ValueRef):
            return arg
        text = self._text(arg.value)
        data = self._values[arg.value][0]
        return data if isinstance(data, list) else text

    def _store(self, value: int, data: Data, text: str, meta: ValueMeta | None = None) -> None:
        self._values[value] = data, text
        self._events.append(Value(self.first.program, value, data, meta))

    def _answer(self, call: MockCall) -> str | int:
        try:
            return self.reply(call)
        except FurcateError as error:
            raise _NodeFailed(error.code, str(error)) from error
        except Exception as error:  # whatever the caller's function raises is the node's failure
            raise _NodeFailed("backend", f"{type(error).__name__}: {error}") from error

    def _generate(self, node: Gen, branch: _Branch) -> None:
        texts, finishes, matched = [], [], None
        constraint = self.constraints[node.constraint] if node.constraint is not None else None
        for sample in range(node.sampling.n):
            call = MockCall(branch.text, node.sampling, constraint, sample=sample, seed=self._seed)
            text, finish, stop = _cut(str(self._answer(call)), node.sampling)
            if sample == 0:
                matched = stop
            texts.append(text)
            finishes.append(finish)
            self._report(node, sample, text)
        usage = _usage(branch.text, "".join(texts))
        self.usage += usage
        meta = ValueMeta(
            finish=finishes[0],
            matched=matched,
            usage=usage,
            logprobs=_logprobs(texts, node.sampling.logprobs),
            prompt_logprobs=_prompt_logprobs(branch.text, node.sampling.prompt_logprobs),
            finishes=tuple(finishes) if len(finishes) > 1 else (),
        )
        branch.text += texts[0]
        self._store(node.value, [*texts] if node.sampling.n > 1 else texts[0], texts[0], meta)

    def _report(self, node: Gen, sample: int, text: str) -> None:
        options = self.first.options
        if options is not None and options.stream:
            for token in _TOKEN.findall(text):
                self._events.append(
                    Delta(self.first.program, node.branch, node.value, sample, token)
                )

    def _select(self, node: Select, branch: _Branch) -> None:
        sampling = Sampling(temperature=node.temperature)
        answer = self._answer(
            MockCall(branch.text, sampling, choices=node.choices, seed=self._seed)
        )
        if isinstance(answer, str):
            if answer not in node.choices:
                raise _NodeFailed(UsageError.code, f"the reply {answer!r} is none of the choices")
            answer = node.choices.index(answer)
        if not 0 <= answer < len(node.choices):
            raise _NodeFailed(UsageError.code, f"the reply {answer!r} is no index of a choice")
        choice = node.choices[answer]
        usage = _usage(branch.text, choice)
        self.usage += usage
        meta = ValueMeta(usage=usage, scores=_scores(node.choices, answer))
        branch.text += choice
        self._store(node.value, answer, choice, meta)


def _cut(text: str, sampling: Sampling) -> tuple[str, str, str | None]:
    """Text, finish and the stop string that matched."""
    found = [(text.find(stop), stop) for stop in sampling.stop if stop in text]
    finish, matched = "eos", None
    if found:
        position, matched = min(found)
        text, finish = text[:position], "stop"
    tokens = _TOKEN.findall(text)
    if len(tokens) > sampling.max_tokens:
        return "".join(tokens[: sampling.max_tokens]), "length", None
    return text, finish, matched


def _usage(prompt: str, completion: str) -> Usage:
    num_prompt, num_completion = len(_TOKEN.findall(prompt)), len(_TOKEN.findall(completion))
    return Usage(
        prompt=num_prompt,
        completion=num_completion,
        computed=num_prompt + num_completion,
        decoded=num_completion,
    )


def _logprob(index: int, token: str, num_top: int) -> TokenLogprob:
    top = tuple(Alternative(-0.5 - rank, index + rank, token) for rank in range(num_top))
    return TokenLogprob(-0.5, index, token, top)


def _logprobs(texts: Sequence[str], top: int | None) -> tuple[tuple[TokenLogprob, ...], ...] | None:
    if top is None:
        return None
    return tuple(
        tuple(_logprob(i, token, top) for i, token in enumerate(_TOKEN.findall(text)))
        for text in texts
    )


def _prompt_logprobs(text: str, top: int | None) -> tuple[TokenLogprob, ...] | None:
    if top is None:
        return None
    tokens = [_logprob(i, token, top) for i, token in enumerate(_TOKEN.findall(text))]
    return (TokenLogprob(None, tokens[0].token_id, tokens[0].text), *tokens[1:]) if tokens else ()


def _scores(choices: Sequence[str], chosen: int) -> ChoiceScores:
    normalized = tuple(-0.5 if i == chosen else -2.0 for i in range(len(choices)))
    others = len(choices) - 1
    best = 0.8 if others else 1.0
    probabilities = tuple(best if i == chosen else 0.2 / others for i in range(len(choices)))
    tokens = tuple((TokenLogprob(n, i, choices[i]),) for i, n in enumerate(normalized))
    return ChoiceScores(tokens, normalized, probabilities, 0.75)


def _item(value: Data, key: Data) -> Data:
    try:
        if isinstance(value, list):
            return value[key]  # type: ignore[index, return-value]
        found = json.loads(str(value))[key]
    except (LookupError, TypeError, ValueError) as error:
        raise _NodeFailed(UsageError.code, f"{value!r} has no item {key!r}: {error}") from error
    if isinstance(found, str | int | float | bool | None):
        return found
    return json.dumps(found, ensure_ascii=False)


_OPERATIONS: dict[str, Callable[..., Data]] = {
    "concat": lambda separator, *texts: str(separator).join(str(text) for text in texts),
    "strip": lambda text, *chars: str(text).strip(*chars),
    "lstrip": lambda text, *chars: str(text).lstrip(*chars),
    "rstrip": lambda text, *chars: str(text).rstrip(*chars),
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "replace": lambda text, old, new: str(text).replace(old, new),
    "removeprefix": lambda text, prefix: str(text).removeprefix(prefix),
    "removesuffix": lambda text, suffix: str(text).removesuffix(suffix),
    "len": lambda value: len(value),
    "item": _item,
}

"""`state.score`: how likely the model finds a text as what comes next."""

from __future__ import annotations

from functools import total_ordering
from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol import graph
from furcate.protocol.graph import ValueRef

from ._location import caller_location
from ._output import Output
from ._record import check_open, check_text
from ._ref import Ref, foreign
from ._select import check_name

if TYPE_CHECKING:
    from furcate.protocol.message import TokenLogprob

    from ._branch import Branch

__all__ = ["Score", "record_score"]

_NUMBER = Output(parse=float)


@total_ordering
class Score(Ref):
    """The log-likelihood of a text as the continuation of a state, by reference: `float(score)`
    waits for it, and so do the attributes and comparisons. It may stand wherever a Ref may."""

    __slots__ = ()

    def __lt__(self, other: Score | float) -> bool:
        return float(self) < float(other)

    @property
    def logprob(self) -> float:
        """Of the whole text, in nats: the sum over its tokens."""
        return float(self)

    @property
    def mean(self) -> float:
        """Of a token: what texts of different lengths are compared by."""
        return self.logprob / max(1, len(self._tokens()))

    @property
    def token_logprobs(self) -> list[list[object]]:
        """`[log-probability, token id, text]` for each token, as in `get_meta_info`. The first may
        begin with the end of what the state said, where both are one token."""
        return [[token.logprob, token.token_id, token.text] for token in self._tokens()]

    def _tokens(self) -> tuple[TokenLogprob, ...]:
        self.get()
        meta = self.slot.meta
        return () if meta is None or meta.logprobs is None else meta.logprobs[0]


def record_score(branch: Branch, text: object, name: str | None) -> Score:
    """Records the question; nothing is appended to the branch."""
    check_open(branch)
    check_name(name)
    branch.check_free(name)
    program, location = branch.program, caller_location()
    operand = _operand(branch, text)
    label = "score" if name is None else f"score {name!r}"
    slot = program.new_slot(label, location, None, _NUMBER)
    slot.name = name
    program.record(graph.Score(branch.number, slot.value_id, operand), label, location)
    if name is not None:
        branch.set(name, slot)
    return Score(program, slot)


def _operand(branch: Branch, text: object) -> str | ValueRef:
    if isinstance(text, Ref):
        if text.program is not branch.program:
            raise foreign(text, branch.program, "score its value, ref.get()")
        if text.slot.samples > 1 or text.slot.is_list:
            raise UsageError(f"{text!r} is a list: score one of its elements, such as ref[0]")
        return ValueRef(text.slot.value_id)
    if not isinstance(text, str) or not text:
        raise UsageError(f"score() takes a text of at least one character or a Ref, got {text!r}")
    check_text(text)
    return str(text)

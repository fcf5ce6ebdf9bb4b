"""A model whose numbers break costs the streams that read them, by name, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.fakes.streams import engine, generate, idle_pages, run, text

from furcate.protocol.constraint import Constraint
from furcate.protocol.stream import (
    Append,
    Choose,
    DefineConstraint,
    End,
    Extend,
    OpenStream,
    StreamNode,
)
from furcate.runtime.testing import ContextModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHOICES = Choose((tuple(b"yes"), tuple(b"yesterday"), tuple(b"no")), 1)


class BreaksAfter(ContextModel):
    """Has no numbers to say once a text contains the token `poison`."""

    def __init__(self, poison: int, value: float) -> None:
        super().__init__(end_ids=())
        self._poison = poison
        self._value = value

    def logits(self, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        row = super().logits(ids, positions)
        return np.full_like(row, self._value) if self._poison in ids else row


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "node",
    [
        generate(3),
        generate(3, temperature=1.0),
        generate(3, constraint=1),
        generate(0, prompt_logprobs=1),
        CHOICES,
    ],
    ids=["greedy", "random", "constrained", "prompt", "choices"],
)
def test_logits_that_are_no_numbers_fail_the_stream_that_reads_them(
    node: StreamNode, value: float
) -> None:
    eng = engine(BreaksAfter(ord("!"), value))
    eng.send(DefineConstraint(1, Constraint(kind="regex", body="[ab]*")))
    eng.send(OpenStream(1, 0), Append(1, (text("all is well! so far"), node, End())))
    (well,) = run(eng, text("all is well"), generate(5), stream=2)
    assert eng.done(1) == []
    assert eng.ended[1].code == "backend"
    assert "not numbers" in (eng.ended[1].message or "")
    assert eng.ended[2].code is None
    expected = run(engine(ContextModel(end_ids=())), text("all is well"), generate(5))
    assert well.ids == expected[0].ids
    assert idle_pages(eng) == 256


def test_a_forward_that_fails_at_a_choice_leaves_no_page_behind() -> None:
    class Fails(ContextModel):
        def forward(self, batch):  # type: ignore[no-untyped-def]
            if self.num_forwards == 1:
                self.num_forwards += 1
                raise MemoryError("no more")
            return super().forward(batch)

    method = "unconditional_likelihood_normalized"
    node = Choose(CHOICES.choices, 1, method, unconditional=(256,))
    eng = engine(Fails(), page_size=4)
    eng.send(OpenStream(1, 0), Append(1, (text("first"), generate(1))))
    eng.run()
    eng.send(Append(1, (text("is it? "), node, End())))
    eng.send(OpenStream(2, 0), Append(2, (Extend(tuple(b"is it? ")), CHOICES, End())))
    eng.run()
    assert [eng.ended[k].code for k in (1, 2)] == ["backend", "backend"]
    assert idle_pages(eng) == 256
    (after,) = run(eng, text("is it? "), node, stream=3)
    (expected,) = run(engine(), text("is it? "), node)
    assert after.choice == expected.choice

"""A matcher that gives up ends its stream with its own reason, even where the output may end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fakes.streams import SlowCompiler, engine, generate, idle_pages, run, text

from furcate.protocol.constraint import Constraint
from furcate.protocol.stream import Append, DefineConstraint, End, OpenStream
from furcate.runtime.testing import ContextModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


class GivesUp:
    """Allows anything for some tokens and then nothing, as a matcher over its own limit does."""

    num_bytes = 0

    def __init__(self, patience: int, *, is_accepting: bool) -> None:
        self._patience = patience
        self.is_accepting = is_accepting
        self.is_finished = False

    def matcher(self, stop_ids: Sequence[int]) -> GivesUp:
        return self

    @property
    def failure(self) -> str | None:
        return None if self._patience > 0 else "the engine's limit of items is reached"

    def fill_mask(self, mask: np.ndarray) -> bool:
        mask[:] = -1 if self._patience > 0 else 0
        return self._patience > 0

    def accept(self, token_id: int) -> bool:
        self._patience -= 1
        return self._patience >= 0

    def forced_tokens(self, last_ids: Sequence[int]) -> list[int]:
        return []


@pytest.mark.parametrize("is_accepting", [True, False])
@pytest.mark.parametrize("patience", [0, 3])
def test_a_matcher_that_gives_up_is_no_end_of_the_output(patience: int, is_accepting: bool) -> None:
    compiler = SlowCompiler()
    eng = engine(ContextModel(end_ids=()), constraints=compiler)
    eng.send(DefineConstraint(1, Constraint(kind="regex", body="a*")))
    ((ticket, compiled),) = compiler.held
    compiled.grammar = GivesUp(patience, is_accepting=is_accepting)  # type: ignore[assignment]
    eng.send(OpenStream(1, 0), Append(1, (text("x"), generate(9, constraint=1), End())))
    compiler.finish()
    assert ticket.ready
    assert len(run(eng, text("y"), generate(9), stream=2)) == 1
    assert eng.done(1) == []
    assert eng.ended[1].code == "grammar_dead_end"
    assert "limit of items" in (eng.ended[1].message or "")
    assert idle_pages(eng) == 256

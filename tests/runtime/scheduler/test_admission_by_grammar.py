"""What a constraint allows at most is all the memory that is kept for its output."""

from __future__ import annotations

import pytest
from tests.fakes.streams import engine, generate, idle_pages, text

from furcate.protocol.constraint import Constraint
from furcate.protocol.stream import Append, DefineConstraint, End, OpenStream
from furcate.runtime.testing import ContextModel


@pytest.mark.parametrize(("regex", "num_together"), [("[ab]{1,4}", 6), ("[ab]{1,400}", 2)])
def test_streams_whose_grammar_is_short_run_together_where_others_take_turns(
    regex: str, num_together: int
) -> None:
    eng = engine(ContextModel(end_ids=()), num_pages=13, page_size=16, jump_forward=False)
    eng.send(DefineConstraint(1, Constraint(kind="regex", body=regex)))
    for stream in range(6):
        eng.send(OpenStream(stream, stream))
        eng.send(Append(stream, (text(f"{stream} begins"), generate(400, constraint=1), End())))
    eng.step()
    assert len(eng.scheduler.batcher.running) == num_together
    eng.run()
    assert all(end.code is None for end in eng.ended.values())
    assert idle_pages(eng) == 13

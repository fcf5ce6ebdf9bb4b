"""One Score node: how likely a text is as what comes next, on a stream of its own.

The branch stays as it is, but for the text run that ends there. The text is tokenised together with
the run, as a select's choices are, and an open turn begins as it would for a generation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from furcate.errors import UsageError, WireError
from furcate.protocol.message import ValueMeta
from furcate.protocol.stream import Choose, Extend

from .content import fill_text
from .let import literal
from .rewind import rewind
from .tokens import choice_scores
from .whole import WholeTask

if TYPE_CHECKING:
    from furcate.protocol.stream import NodeDone

    from .branch import Branch
    from .cell import Cell
    from .entry import Entry
    from .program import Program
    from .rewind import Rewound

__all__ = ["score_text"]


def score_text(branch: Branch, entry: Entry) -> None:
    """Raises UsageError for a text that adds no token or that nothing comes before."""
    assert entry.cell is not None
    text = fill_text(entry.needs[0]) if entry.needs else entry.text
    if not text:
        raise UsageError("score() got an empty text; give it at least one character")
    program, codec = branch.program, branch.program.setting.codec
    before = branch.outlet.snapshot()
    ids, run, behind = list(before.ids), before.run, before.behind
    _, opening = branch.roles.say_exactly(is_generated=True)
    for piece in opening:
        if isinstance(piece, str):
            run += codec.placed(piece, behind)
            behind = "text"
        else:
            ids += [*program.setting.encode(run), *piece.ids]
            run, behind = "", program.setting.place_behind(piece.ids)
    rewound = rewind(codec.encode_batch, program.setting.opening(run, behind), (text,))
    ids += rewound.prompt
    if not ids and before.origin.stream is None:
        if codec.bos_id is None:
            raise UsageError("nothing comes before the text of score(); append some text first")
        ids.append(codec.bos_id)
    scoring = _Scoring(program, entry.cell, rewound)
    stream = program.streams_table.open(program, scoring, before.origin)
    if ids:
        program.streams_table.append(stream, Extend(tuple(ids)), entry.ordinal)
    program.streams_table.append(stream, Choose(rewound.choices, 0), entry.ordinal, scoring)
    program.streams_table.end(stream)
    branch.outlet.close_run(program.setting.encode(before.run) if before.run else ())


class _Scoring(WholeTask):
    """Both what waits for the Choose and the owner of its stream: nobody else knows of it."""

    what = "a Choose"

    def __init__(self, program: Program, cell: Cell, rewound: Rewound) -> None:
        super().__init__(program, cell)
        self._rewound = rewound

    def complete(self, done: NodeDone) -> None:
        if done.choice is None or len(done.choice.token_logprobs) != 1:
            raise WireError(f"the engine reports a score without numbers: {done!r:.200}")
        codec = self._program.setting.codec
        choices, num_rewound = self._rewound.choices, self._rewound.num_rewound
        scores = choice_scores(codec, choices, done.choice, num_rewound)
        self._program.resolve(
            self._cell,
            literal(math.fsum(done.choice.token_logprobs[0])),
            ValueMeta(finish=done.finish, usage=done.usage, logprobs=scores.token_logprobs),
        )

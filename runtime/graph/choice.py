"""One Select node while the engine scores its choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import WireError
from furcate.protocol.message import ValueMeta

from .cell import Ready
from .tokens import choice_scores
from .whole import WholeTask

if TYPE_CHECKING:
    from furcate.protocol.graph import Select
    from furcate.protocol.stream import NodeDone

    from .cell import Cell
    from .program import Program
    from .rewind import Rewound

__all__ = ["Choice"]


class Choice(WholeTask):
    """Resolves to the winner's index; its text is the choice, as the branch goes on from it."""

    what = "a Choose"

    def __init__(self, program: Program, cell: Cell, node: Select, rewound: Rewound) -> None:
        super().__init__(program, cell)
        self._node = node
        self._rewound = rewound

    def complete(self, done: NodeDone) -> None:
        result = done.choice
        if result is None or not 0 <= result.winner < len(self._node.choices):
            raise WireError(f"the engine reports a Choose without a winner: {done!r:.200}")
        codec = self._program.setting.codec
        scores = choice_scores(codec, self._rewound.choices, result, self._rewound.num_rewound)
        self._program.resolve(
            self._cell,
            Ready(result.winner, self._node.choices[result.winner], is_choice=True),
            ValueMeta(finish=done.finish, usage=done.usage, scores=scores),
        )

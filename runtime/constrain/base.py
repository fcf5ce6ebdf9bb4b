"""The seam of constrained decoding: a Grammar is compiled once, a Matcher walks it for one stream.

Knows nothing of streams or schedules. Engines are one file each beside this one. A matcher never
raises because of what a model produced: a refused token or a dead end is a return value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

__all__ = ["Grammar", "Matcher"]


class Matcher(Protocol):
    """Where one generation stands in its grammar.

    Ids are those of the model. Control tokens are never allowed, except the stop ids given at
    `Grammar.matcher`, and those only where the output may end.
    """

    def fill_mask(self, mask: np.ndarray) -> bool:
        """Writes the ids allowed next into `mask`, int32 [ceil(vocab_size / 32)], bit i of word
        i // 32 for id i. False, with an all-zero mask, where nothing is allowed: a dead end, or
        a finished output that was given no stop id."""
        ...

    def accept(self, token_id: int) -> bool:
        """Advances by a token. False if the grammar refuses it; the matcher is then as before."""
        ...

    def rollback(self, num_tokens: int) -> None:
        """Takes back the last accepted tokens, an accepted stop id included."""
        ...

    def fork(self) -> Matcher:
        """An independent matcher at the same place."""
        ...

    @property
    def is_accepting(self) -> bool:
        """Whether the output may end here."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether the output must end here: it is complete and nothing but a stop id may follow."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the engine gave up (a limit of its own, a defect), None while it works.

        Once set it stays: every mask is empty and every token refused.
        """
        ...

    def forced_tokens(self, last_ids: Sequence[int]) -> list[int]:
        """The canonical tokens of the text that must follow, empty where there is a choice.

        The last token that a continuation could still merge with is left out. `last_ids` are the
        ids already decided, the left context of the tokenizer. Does not advance the matcher.
        """
        ...


class Grammar(Protocol):
    """A compiled constraint, shared by all its streams."""

    @property
    def num_bytes(self) -> int:
        """Memory it holds, for the cache's bookkeeping; an estimate."""
        ...

    def matcher(self, stop_ids: Sequence[int]) -> Matcher:
        """A new matcher at the start. `stop_ids` may follow once the output is complete."""
        ...

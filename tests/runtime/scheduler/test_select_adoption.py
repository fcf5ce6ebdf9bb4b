"""A choice that is the beginning of a longer one wins: its KV stays, and nothing of the longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fakes.streams import engine, generate, idle_pages, run, text

from furcate.protocol.stream import Append, Choose, End, Extend, OpenStream
from furcate.runtime.testing import ContextModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROMPT = "is it? "
CHOICES = ("yesterday and the day before it", "yes", "no")


class Prefers(ContextModel):
    """Says `reply` after `prompt` more likely than anything else, and otherwise reads its pages."""

    def __init__(self, prompt: str, reply: str) -> None:
        super().__init__(end_ids=())
        self._prompt = prompt.encode()
        self._reply = reply.encode()

    def logits(self, ids: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        row = super().logits(ids, positions)
        said = ids[len(self._prompt) :].tolist()
        if said == list(self._reply[: len(said)]) and len(said) < len(self._reply):
            row[self._reply[len(said)]] += 50.0
        return row


@pytest.mark.parametrize("prompt", [PROMPT, PROMPT + "really, is it? "])
@pytest.mark.parametrize("page_size", [1, 4, 16])
def test_a_winner_that_begins_a_longer_choice_leaves_its_own_kv_and_no_more(
    page_size: int, prompt: str
) -> None:
    eng = engine(Prefers(prompt, "yes"), page_size=page_size, num_pages=1024)
    node = Choose(tuple(tuple(each.encode()) for each in CHOICES), 1)
    eng.send(OpenStream(1, 0), Append(1, (text(prompt), node, text("!"), generate(30), End())))
    eng.step()
    (chosen,) = eng.done(1)
    assert bytes(chosen.ids) == b"yes"
    batcher = eng.scheduler.batcher
    (stream,) = batcher.running
    assert stream.lease is not None
    assert stream.computed == stream.lease.length == len(prompt) + len("yes")
    used = batcher.cache.stats()
    kept_by_tree = bool(len(prompt) % page_size)  # the page in which the choices begin, uncopied
    assert used.private_pages + used.tree_locked_pages == (
        batcher.cache.pages_for(stream.computed) + kept_by_tree
    )
    eng.run()
    after = eng.done(1)[1]
    (expected,) = run(
        engine(Prefers(prompt, "yes")), Extend((*prompt.encode(), *b"yes!")), generate(30)
    )
    assert after.ids == expected.ids
    assert after.usage.computed == 1 + 29
    assert idle_pages(eng) == 1024

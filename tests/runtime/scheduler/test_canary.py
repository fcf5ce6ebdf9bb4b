"""The canary finds a page that holds something else than its tokens give."""

from __future__ import annotations

import pytest
from tests.fakes.streams import engine, generate, run, text

from furcate.runtime.scheduler.canary import check_kv
from furcate.runtime.testing import ContextModel


def test_pages_that_were_computed_in_pieces_and_shared_are_as_computed_at_once() -> None:
    model = ContextModel(end_ids=())
    eng = engine(model, page_size=4, budget_tokens=5, overlap=True)
    for stream, words in enumerate(("some words here", "some words there", "some"), 1):
        run(eng, text(words), generate(9), text(" and more"), generate(5), stream=stream)
    cache = eng.scheduler.batcher.cache
    assert check_kv(cache, eng.scheduler._executor) == 3
    cache.check()


def test_a_changed_slot_is_found() -> None:
    model = ContextModel(end_ids=())
    eng = engine(model, page_size=4)
    run(eng, text("some words here"), generate(9))
    model._kv.ids[model._kv.ids == ord("w") + 1] = ord("v") + 1
    with pytest.raises(AssertionError, match="page index 1 "):
        check_kv(eng.scheduler.batcher.cache, eng.scheduler._executor)

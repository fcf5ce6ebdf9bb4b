"""What the cache keeps, by what is known of the streams that will use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fakes.streams import engine, generate, idle_pages, run, text

from furcate.protocol.stream import (
    Append,
    AskEngine,
    End,
    EngineFacts,
    Generate,
    Hint,
    OpenStream,
    Pin,
    Unpin,
)
from furcate.runtime.testing import ContextModel, ManualClock, StepEngine

if TYPE_CHECKING:
    from furcate.protocol.stream import NextUse

PREFIX = "a prefix of thirty-two tokens... "[:32]
NUM_PAGES = 8  # of 16 tokens


def small(clock: ManualClock | None = None, overlap: bool = False) -> StepEngine:
    return engine(ContextModel(end_ids=()), num_pages=NUM_PAGES, clock=clock, overlap=overlap)


def reused(eng: StepEngine, stream: int) -> int:
    """Tokens of the prefix that another stream finds in the cache."""
    (done,) = run(eng, text(PREFIX + "?"), generate(1), stream=stream)
    return done.usage.reused


def fill(eng: StepEngine, stream: int) -> None:
    """Somebody else uses all memory that is not kept from them."""
    run(eng, text(chr(96 + stream) * 16 * (NUM_PAGES - 3)), generate(1), stream=stream)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_pin_computes_the_tokens_before_it_and_nothing_else(overlap: bool) -> None:
    eng = small(overlap=overlap)
    assert run(eng, text(PREFIX), Pin(1), text("more")) == []
    assert eng.ended[1].usage.computed == len(PREFIX)
    assert reused(eng, 2) == len(PREFIX)


def test_pinned_tokens_outlive_others_that_were_used_later() -> None:
    eng = small()
    run(eng, text(PREFIX), Pin(1))
    for stream in range(2, 6):
        fill(eng, stream)
    assert reused(eng, 6) == len(PREFIX)


def test_tokens_whose_pin_is_over_go_as_any_other() -> None:
    clock = ManualClock()
    for ends in ("unpin", "time"):
        eng = small(clock)
        run(eng, text(PREFIX), Pin(1, ttl_s=60.0))
        if ends == "unpin":
            eng.send(Unpin(1), Unpin(1))
        else:
            clock.advance(60.0)
        for stream in range(2, 6):
            fill(eng, stream)
        assert reused(eng, 6) == 0
        assert eng.scheduler.batcher.prospects.num_pins == 0


def test_a_pin_of_the_same_name_takes_the_place_of_the_first() -> None:
    eng = small()
    run(eng, text("y" * 32), Pin(1))
    run(eng, text(PREFIX), Pin(1), stream=2)
    assert eng.scheduler.batcher.prospects.num_pins == 1
    for stream in range(3, 7):
        fill(eng, stream)
    assert reused(eng, 7) == len(PREFIX)


def test_what_is_pinned_goes_before_a_stream_is_refused() -> None:
    eng = small()
    run(eng, text(PREFIX), Pin(1))
    (done,) = run(eng, text("z" * 16 * (NUM_PAGES - 1)), generate(1), stream=2)
    assert len(done.ids) == 1
    assert idle_pages(eng) == NUM_PAGES


def test_a_pin_behind_a_generation_waits_for_its_last_token() -> None:
    for overlap in (False, True):
        eng = small(overlap=overlap)
        first, second = run(eng, text("once"), generate(3), Pin(1), text("then"), generate(2))
        assert (len(first.ids), len(second.ids)) == (3, 2)
        assert eng.scheduler.batcher.prospects.num_pins == 1


@pytest.mark.parametrize(("use", "kept"), [("dead", 0), ("idle", 32), ("scheduled", 32)])
def test_what_nobody_comes_back_to_goes_before_what_somebody_waits_with(
    use: NextUse, kept: int
) -> None:
    eng = small()
    eng.send(OpenStream(1, 0), Append(1, (text(PREFIX), generate(1))))
    eng.run()
    eng.send(Hint(1, next_use=use))
    if use == "dead":
        eng.send(Append(1, (End(),)))
    eng.run()
    run(eng, text("x" * 56), generate(1), stream=2)  # used later
    run(eng, text("y" * 56), generate(1), stream=3)
    assert reused(eng, 4) == kept


def test_a_hint_of_a_stream_that_has_ended_is_nothing() -> None:
    eng = small()
    run(eng, text("once"), generate(1))
    eng.send(Hint(1, next_use="dead"))
    eng.run()


def test_streams_share_nothing_across_namespaces() -> None:
    eng = engine(ContextModel(end_ids=()))
    asked: tuple[Generate, ...] = (generate(1),)
    for stream, namespace in enumerate(("mine", "mine", "yours"), 1):
        eng.send(OpenStream(stream, stream, namespace=namespace))
        eng.send(Append(stream, (text(PREFIX), *asked, End())))
        eng.run()
    assert [eng.ended[stream].usage.reused for stream in (1, 2, 3)] == [0, len(PREFIX) - 1, 0]


def test_others_wait_rather_than_take_what_is_strictly_pinned() -> None:
    eng = small()
    run(eng, text(PREFIX), Pin(1, strict=True))
    for stream in range(2, 8):  # together they need more than the rest of the cache
        eng.send(
            OpenStream(stream, stream),
            Append(stream, (text(chr(96 + stream) * 40), generate(20), End())),
        )
    eng.run()
    assert reused(eng, 9) == len(PREFIX)
    eng.send(Unpin(1))
    eng.run()
    assert idle_pages(eng) == NUM_PAGES


def test_what_is_strictly_pinned_goes_before_a_stream_is_refused() -> None:
    eng = small()
    run(eng, text(PREFIX), Pin(1, strict=True))
    (done,) = run(eng, text("z" * 16 * (NUM_PAGES - 1)), generate(1), stream=2)
    assert len(done.ids) == 1
    eng.send(Unpin(1))
    eng.run()
    assert idle_pages(eng) == NUM_PAGES


@pytest.mark.parametrize("strict", [True, False])
def test_more_than_a_share_of_the_cache_is_not_pinned(strict: bool) -> None:
    eng = small()
    run(eng, text("y" * 16 * (NUM_PAGES // 2) + "y"), Pin(1, strict=strict))
    assert eng.scheduler.batcher.prospects.num_pins == 0
    ended = eng.ended[1]
    assert ended.code == ("capacity" if strict else None)
    assert not strict or "65 tokens are too many to pin" in (ended.message or "")


def test_all_pins_go_with_the_cache() -> None:
    eng = small()
    run(eng, text(PREFIX), Pin(1, strict=True))
    run(eng, text("y" * 16), Pin(2), stream=2)
    eng.send(AskEngine(5), AskEngine(6, flush_cache=True))
    before, after = (e.facts for e in eng.run() if isinstance(e, EngineFacts))
    assert (before["pins"], before["cache_tokens_pinned"]) == (2, len(PREFIX) + 16)
    assert (after["pins"], after["cache_tokens_reusable"]) == (0, 0)
    assert after["cache_tokens_free"] == after["cache_tokens_total"] == NUM_PAGES * 16

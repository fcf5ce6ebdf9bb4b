"""A stream that fits the cache by its length is served, whatever the tree has been cut into."""

from __future__ import annotations

import pytest
from tests.fakes.streams import engine, generate, idle_pages, run, text

from furcate.protocol.stream import Append, Choose, End, OpenStream, StreamNode
from furcate.runtime.testing import ContextModel, StepEngine

CHOICES = Choose((tuple(b"yesyes"), tuple(b"nonono")), 1)


def tight(num_pages: int, page_size: int = 4) -> StepEngine:
    return engine(ContextModel(end_ids=()), num_pages=num_pages, page_size=page_size)


def cut_tree(eng: StepEngine) -> None:
    """Leaves a path in the tree that others will cut inside a page."""
    run(eng, text("abcdef"), generate(0), stream=1)


def test_an_output_may_fill_the_cache_though_its_prefix_was_cut_inside_a_page() -> None:
    eng = tight(4)
    cut_tree(eng)
    (done,) = run(eng, text("abcdeX"), generate(50), stream=2)
    (expected,) = run(tight(100), text("abcdeX"), generate(10))
    assert done.finish == "length"
    assert done.ids == expected.ids
    assert idle_pages(eng) == 4


def test_choices_that_fit_are_scored_though_the_prefix_was_cut_inside_a_page() -> None:
    eng = tight(6)
    cut_tree(eng)
    eng.send(OpenStream(2, 0), Append(2, (text("abcdeX"), CHOICES, generate(2), End())))
    eng.run(max_steps=20)
    assert eng.ended[2].code is None
    expected = run(tight(100), text("abcdeX"), CHOICES, generate(2))
    assert [d.ids for d in eng.done(2)] == [d.ids for d in expected]


def test_choices_that_do_not_fit_are_refused() -> None:
    eng = tight(3)
    assert run(eng, text("abcdeX"), CHOICES) == []
    assert eng.ended[1].code == "capacity"


@pytest.mark.parametrize("num_pages", range(4, 12))
@pytest.mark.parametrize("page_size", [1, 3, 4])
def test_streams_that_all_want_the_whole_cache_have_it_in_turn(
    num_pages: int, page_size: int
) -> None:
    room = num_pages * page_size
    eng = tight(num_pages, page_size)
    nodes: tuple[StreamNode, ...] = (text("abcd"[: room - 1]), generate(room), End())
    for stream in range(4):
        eng.send(OpenStream(stream, stream), Append(stream, (text("ab"), *nodes[1:])))
        eng.send(OpenStream(10 + stream, 0), Append(10 + stream, nodes))
    eng.run(max_steps=100 * room)
    assert {end.code for end in eng.ended.values()} == {None}
    assert idle_pages(eng) == num_pages


@pytest.mark.parametrize("num_pages", range(3, 14))
@pytest.mark.parametrize("budget_tokens", [1, 3, 64])
def test_rival_choices_end_in_a_result_or_in_a_refusal(num_pages: int, budget_tokens: int) -> None:
    eng = engine(
        ContextModel(end_ids=()), num_pages=num_pages, page_size=4, budget_tokens=budget_tokens
    )
    method = "unconditional_likelihood_normalized"
    other = Choose(CHOICES.choices, 2, method, unconditional=(256, 65))
    for stream, words in enumerate(("abcdef", "abcdeX", "abXYZ", "ab")):
        node = other if stream % 2 else CHOICES
        eng.send(OpenStream(stream, stream))
        eng.send(Append(stream, (text(words), node, generate(3), node, End())))
    eng.run(max_steps=400)
    assert len(eng.ended) == 4
    assert {end.code for end in eng.ended.values()} <= {None, "capacity"}
    assert idle_pages(eng) == num_pages

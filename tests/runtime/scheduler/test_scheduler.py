"""The scheduler over the context model, step by step, every invariant checked after each."""

from __future__ import annotations

import json

import pytest
from tests.fakes.streams import engine, generate, idle_pages, mislead, run, said, text

from furcate.protocol.constraint import Constraint
from furcate.protocol.stream import (
    Append,
    CancelStream,
    Choose,
    DefineConstraint,
    End,
    EngineHello,
    EngineReady,
    Extend,
    OpenStream,
    Tokens,
)
from furcate.runtime.testing import ContextModel, ScriptedModel, reply_with

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "kind": {"enum": ["alpha", "beta"]},
        "count": {"type": "integer"},
    },
    "required": ["name", "kind", "count"],
    "additionalProperties": False,
}


def test_the_engine_says_what_it_is() -> None:
    eng = engine()
    eng.send(EngineHello(1))
    (ready,) = eng.step()
    assert isinstance(ready, EngineReady)
    assert ready.vocab_size == 259
    assert not eng.scheduler.has_work


def test_a_reply_ends_with_its_end_token_which_is_no_part_of_it() -> None:
    eng = engine(ScriptedModel(reply_with({"question": "answer"})))
    (done,) = run(eng, text("question"), generate())
    assert said(done) == "answer"
    assert done.finish == "eos"
    assert done.usage.prompt == 8
    assert done.usage.completion == done.usage.decoded == 6
    assert eng.ended[1].code is None


def test_text_after_a_reply_is_read_in_the_step_of_its_last_token() -> None:
    eng = engine(ScriptedModel(reply_with({"one": "A", "two": "B"})))
    first, second = run(eng, text("one"), generate(), text("two"), generate())
    assert (said(first), said(second)) == ("A", "B")
    assert eng.num_steps == 4  # "one", "A", "two", "B"
    assert second.usage.computed == len("Atwo") - 1 + 1 + 1 - 1


def test_all_lengths_zero_included_are_kept_to() -> None:
    done = run(engine(), text("x"), generate(0), generate(3), generate(1))
    assert [len(d.ids) for d in done] == [0, 3, 1]
    assert [d.finish for d in done] == ["length"] * 3


def test_the_end_may_not_come_before_min_tokens() -> None:
    eng = engine(ScriptedModel(reply_with({"?": "ab"})))
    (done,) = run(eng, text("?"), generate(8, min_tokens=5))
    assert len(done.ids) >= 5


@pytest.mark.parametrize(
    ("stop", "kept"), [(b"c", "ab"), (b"abc", ""), (b"d", "abc"), (b"xyz", "abcd"), (b"bcd", "a")]
)
def test_a_stop_string_is_cut_off(stop: bytes, kept: str) -> None:
    eng = engine(ScriptedModel(reply_with({"?": "abcd"})))
    (done,) = run(eng, text("?"), generate(stops=(stop,)))
    assert said(done) == kept
    assert (done.finish, done.matched) == (("eos", None) if kept == "abcd" else ("stop", stop))


def test_after_a_stop_string_the_stream_goes_on_without_it() -> None:
    whole = engine()
    reply = said(run(whole, text("some words "), generate(12))[0])
    cut = engine()
    done = run(cut, text("some words "), generate(12, stops=(reply[4:6].encode(),)), generate(5))
    plain = engine()
    expected = run(plain, text("some words " + reply[:4]), generate(5))
    assert said(done[0]) == reply[:4]
    assert done[1].ids == expected[0].ids


def test_tokens_that_a_stop_may_take_back_are_not_reported() -> None:
    eng = engine(ScriptedModel(reply_with({"?": "abcdef"})))
    eng.send(
        OpenStream(1, 0), Append(1, (text("?"), generate(stops=(b"cde!",), report=True), End()))
    )
    heard: list[bytes] = []
    while eng.scheduler.has_work:
        heard += [bytes(e.ids) for e in eng.step() if isinstance(e, Tokens)]
    assert heard[:2] == [b"a", b"b"]
    assert b"".join(heard) == b"abcdef"[: len(b"".join(heard))]


def test_children_share_what_the_parent_has_computed() -> None:
    eng = engine()
    prefix = "a prefix of some length, shared by all of the children. " * 3
    eng.send(OpenStream(1, 0), Append(1, (text(prefix), generate(5))))
    for child in (2, 3, 4):
        eng.send(
            OpenStream(child, 0, parent=1, parent_nodes=2),
            Append(child, (text(f"child {child}: "), generate(5), End())),
        )
    eng.send(Append(1, (End(),)))
    eng.run()
    (parent,) = eng.done(1)
    alone = engine()
    for child in (2, 3, 4):
        expected = run(
            alone, text(prefix + said(parent) + f"child {child}: "), generate(5), stream=child
        )
        assert eng.done(child)[0].ids == expected[0].ids
        assert eng.ended[child].usage.reused + eng.ended[child].usage.same_step >= len(prefix)
    total = sum(end.usage.computed for end in eng.ended.values())
    # Each child computes its own words and reply; the parent's last token is computed once.
    assert total <= len(prefix) + 5 + 3 * (len("child 0: ") + 5)


def test_many_streams_behind_one_prefix_compute_it_once() -> None:
    model = ContextModel()
    eng = engine(model, num_pages=2000)
    prefix = "every program begins with this. " * 32
    for stream in range(100):
        eng.send(
            OpenStream(stream, stream),
            Append(stream, (text(prefix + f"item {stream:03}"), generate(1), End())),
        )
    eng.run()
    unique = len(prefix) + len("item ") + 10 + 100 * 2 - 90
    tries: set[str] = set()
    for stream in range(100):
        words = prefix + f"item {stream:03}"
        tries |= {words[:length] for length in range(1, len(words) + 1)}
    assert model.num_tokens <= 1.02 * len(tries)
    assert unique >= len(tries)


def test_a_select_takes_one_forward_and_computes_each_shared_token_once() -> None:
    model = ContextModel()
    eng = engine(model)
    choices = (b"yes", b"yesterday", b"no", b"none")
    (done,) = run(eng, text("is it? "), Choose(tuple(tuple(c) for c in choices), seed=1))
    assert model.num_forwards == 1
    assert model.num_tokens == len("is it? ") + len("yesterda") + len("non")
    assert done.choice is not None
    assert done.ids == tuple(choices[done.choice.winner])


def test_a_selects_scores_are_those_of_each_choice_read_alone() -> None:
    choices = tuple(tuple(c) for c in (b"yes", b"yesterday", b"no", b"x"))
    (done,) = run(engine(page_size=4), text("is it? "), Choose(choices, seed=1), generate(5))[:1]
    assert done.choice is not None
    for ids, logprobs in zip(choices, done.choice.token_logprobs, strict=True):
        (alone,) = run(engine(), Extend((*b"is it? ", *ids)), generate(0, prompt_logprobs=0))
        assert alone.prompt_logprobs is not None
        expected = [lp.logprob for lp in alone.prompt_logprobs[-len(ids) :]]
        assert list(logprobs) == expected


@pytest.mark.parametrize("page_size", [1, 4, 16])
def test_what_follows_a_select_is_what_follows_the_same_text(page_size: int) -> None:
    choices = tuple(tuple(c) for c in (b"yes", b"yesterday", b"no", b"none"))
    eng = engine(page_size=page_size, num_pages=1024)
    chosen, after = run(eng, text("is it? "), Choose(choices, seed=1), text("!"), generate(9))
    expected = run(engine(), Extend((*b"is it? ", *chosen.ids, *b"!")), generate(9))
    assert after.ids == expected[0].ids


def test_the_unconditional_method_reads_the_choices_after_their_context_alone() -> None:
    choices = tuple(tuple(c) for c in (b"yes", b"no"))
    method = "unconditional_likelihood_normalized"
    node = Choose(choices, 1, method, unconditional=(256,))
    (done,) = run(engine(), text("is it? "), node)
    assert done.choice is not None
    assert done.choice.unconditional_token_logprobs is not None
    for ids, logprobs in zip(choices, done.choice.unconditional_token_logprobs, strict=True):
        (alone,) = run(engine(), Extend((256, *ids)), generate(0, prompt_logprobs=0))
        assert alone.prompt_logprobs is not None
        assert list(logprobs) == [lp.logprob for lp in alone.prompt_logprobs[1:]]


@pytest.mark.parametrize("jump_forward", [True, False])
def test_a_constrained_output_is_valid_and_says_what_was_forced(jump_forward: bool) -> None:
    eng = engine(jump_forward=jump_forward)
    eng.send(DefineConstraint(5, Constraint(kind="json_schema", body=json.dumps(SCHEMA))))
    (done,) = run(eng, text("make one: "), generate(80, temperature=1.0, constraint=5))
    value = json.loads(said(done))
    assert list(value) == ["name", "kind", "count"]
    assert done.finish == "constraint"
    assert done.usage.forced > 0
    assert done.usage.forced + done.usage.decoded == done.usage.completion == len(done.ids)


def test_jumping_ahead_changes_no_token() -> None:
    outputs = []
    for jump_forward in (True, False):
        eng = engine(jump_forward=jump_forward)
        eng.send(DefineConstraint(5, Constraint(kind="json_schema", body=json.dumps(SCHEMA))))
        outputs.append(
            [
                run(
                    eng,
                    text(f"{i}: "),
                    generate(80, seed=i, temperature=1.0, constraint=5),
                    stream=i,
                )
                for i in range(5)
            ]
        )
    assert [[d.ids for d in done] for done in outputs[0]] == [
        [d.ids for d in done] for done in outputs[1]
    ]


def test_log_probabilities_come_for_every_token_forced_ones_too() -> None:
    eng = engine()
    eng.send(DefineConstraint(5, Constraint(kind="json_schema", body=json.dumps(SCHEMA))))
    node = generate(80, temperature=1.0, constraint=5, logprobs=2)
    (done,) = run(eng, text("make one: "), node)
    assert done.logprobs is not None
    assert [lp.token_id for lp in done.logprobs] == list(done.ids)
    assert all(len(lp.top) == 2 for lp in done.logprobs)
    assert done.usage.forced > 0


def test_an_invalid_constraint_costs_the_stream_that_uses_it() -> None:
    eng = engine()
    eng.send(DefineConstraint(1, Constraint(kind="regex", body="(")))
    eng.send(OpenStream(2, 0), Append(2, (text("x"), generate(constraint=1), End())))
    (done,) = run(eng, text("y"), generate(3), stream=3)
    assert len(done.ids) == 3
    assert eng.ended[2].code == "constraint"
    assert eng.ended[2].node == 1
    assert eng.ended[3].code is None


def test_prompt_log_probabilities_are_the_same_cold_and_warm() -> None:
    eng = engine(budget_tokens=16)
    words = "the prompt of this stream is somewhat longer than a chunk"
    (cold,) = run(eng, text(words), generate(2, prompt_logprobs=1), stream=1)
    (warm,) = run(eng, text(words), generate(2, prompt_logprobs=1), stream=2)
    assert cold.prompt_logprobs is not None
    assert len(cold.prompt_logprobs) == len(words)
    assert cold.prompt_logprobs[0].logprob is None
    assert [lp.token_id for lp in cold.prompt_logprobs] == list(words.encode())
    assert warm.prompt_logprobs == cold.prompt_logprobs


def test_a_prompt_over_the_context_is_refused_with_the_numbers() -> None:
    eng = engine(ContextModel(max_context=64))
    assert run(eng, text("x" * 65), generate(1)) == []
    end = eng.ended[1]
    assert (end.code, end.node) == ("capacity", 0)
    assert "65" in (end.message or "")
    assert "64" in (end.message or "")


def test_a_prompt_over_the_whole_cache_is_refused_and_others_go_on() -> None:
    eng = engine(num_pages=4)
    eng.send(OpenStream(2, 0), Append(2, (text("y"), generate(5), End())))
    assert run(eng, text("x" * 65), generate(1)) == []
    assert eng.ended[1].code == "capacity"
    assert eng.ended[2].code is None


def test_an_output_ends_where_the_context_does() -> None:
    (done,) = run(engine(ContextModel(max_context=16, end_ids=())), text("x" * 10), generate(50))
    assert len(done.ids) == 6
    assert done.finish == "length"


def test_memory_for_a_few_serves_many_with_the_same_output() -> None:
    outputs = []
    for num_pages in (400, 9):
        eng = engine(num_pages=num_pages)
        mislead(eng)
        for stream in range(8):
            nodes = (text(f"{stream} unlike the others "), generate(60, site=1), End())
            eng.send(OpenStream(stream, stream), Append(stream, nodes))
        eng.run()
        outputs.append([eng.done(stream)[0].ids for stream in range(8)])
    assert eng.scheduler.batcher.retractions > 0
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("steps", range(8))
def test_a_cancelled_stream_ends_once_and_leaves_nothing(steps: int) -> None:
    eng = engine(budget_tokens=16)
    choices = (tuple(b"yes"), tuple(b"yesterday"))
    words = "a prompt of more than two chunks, for sure"
    eng.send(
        OpenStream(1, 0),
        Append(1, (text(words), Choose(choices, 1), generate(9), End())),
        OpenStream(2, 0, parent=1, parent_nodes=3),
        OpenStream(3, 0),
        Append(3, (text(words + "!"), generate(9), End())),
    )
    for _ in range(steps):
        eng.step()
    eng.send(CancelStream(1), CancelStream(1), CancelStream(77))
    eng.run()
    alone = engine()
    assert eng.done(3)[0].ids == run(alone, text(words + "!"), generate(9))[0].ids
    assert eng.ended[1].code in ("cancelled", None)
    assert eng.ended.keys() >= {1, 3}
    if 2 in eng.scheduler.lifecycle.streams:
        eng.send(CancelStream(2))
        eng.run()
    assert idle_pages(eng) == 256


def test_a_child_of_a_stream_that_failed_fails_too() -> None:
    eng = engine()
    eng.send(DefineConstraint(1, Constraint(kind="regex", body="(")))
    eng.send(
        OpenStream(1, 0),
        Append(1, (text("x"), generate(constraint=1), End())),
        OpenStream(2, 0, parent=1, parent_nodes=2),
    )
    eng.run()
    assert eng.ended[2].code == "upstream"
    eng.send(OpenStream(3, 0, parent=1, parent_nodes=1))
    eng.run()
    assert eng.ended[3].code == "upstream"


def test_generating_from_nothing_is_refused() -> None:
    eng = engine()
    assert run(eng, generate(3)) == []
    assert eng.ended[1].code == "usage"


def test_a_failing_forward_costs_its_streams_and_nobody_else() -> None:
    class Failing(ContextModel):
        def forward(self, batch):  # type: ignore[no-untyped-def]
            if self.num_forwards == 3:
                self.num_forwards += 1
                raise MemoryError("no more")
            return super().forward(batch)

    eng = engine(Failing())
    eng.send(OpenStream(1, 0), Append(1, (text("first"), generate(9), End())))
    eng.run()
    assert eng.ended[1].code == "backend"
    assert "no more" in (eng.ended[1].message or "")
    (done,) = run(eng, text("first"), generate(9), stream=2)
    assert done.ids == run(engine(), text("first"), generate(9))[0].ids
    assert idle_pages(eng) == 256


def test_a_stream_that_waits_for_more_nodes_holds_no_pages() -> None:
    eng = engine(ContextModel(end_ids=()))
    eng.send(OpenStream(1, 0), Append(1, (text("think "), generate(5))))
    eng.run()
    assert idle_pages(eng) == 256
    eng.send(Append(1, (text("more"), generate(5), End())))
    eng.run()
    first, second = eng.done(1)
    unended = engine(ContextModel(end_ids=()))
    expected = run(unended, Extend((*b"think ", *first.ids, *b"more")), generate(5))
    assert second.ids == expected[0].ids
    assert second.usage.computed == 1 + len("more") + 4
    assert second.usage.reused == 0  # what a stream computed itself is not counted as saved


def test_priority_goes_first() -> None:
    eng = engine(max_rows=1)
    for stream, priority in ((1, 0), (2, 0), (3, 5)):
        eng.send(
            OpenStream(stream, stream, priority=priority),
            Append(stream, (text(f"{stream}"), generate(2), End())),
        )
    eng.run()
    assert list(eng.ended) == [3, 1, 2]

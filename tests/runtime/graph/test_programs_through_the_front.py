"""Each kind of node, from the client's graph to the engine's streams and back."""

from __future__ import annotations

import pytest
from tests.fakes.fake_engine import FakeEngine
from tests.fakes.front_driver import Driver

from furcate.protocol.graph import (
    Drop,
    Fill,
    Fork,
    Gen,
    Ids,
    Join,
    Let,
    Role,
    Root,
    Select,
    Special,
    Text,
    TextOf,
    ValueRef,
)
from furcate.protocol.message import Finished, Segments, Value
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import Append, Choose, End, Extend, Generate, OpenStream
from furcate.runtime.graph.seeds import generation_seed
from furcate.runtime.tokenize.byte_level import ByteTokenizer

SHORT = Sampling(max_tokens=5)
IM_START, IM_END = 257, 258


def says(text: str) -> FakeEngine:
    return FakeEngine(lambda node, prompt: list(text.encode()))


def with_bos(adds: bool = False) -> ByteTokenizer:
    codec = ByteTokenizer()
    object.__setattr__(codec, "bos_id", 256)
    object.__setattr__(codec, "adds_bos", adds)
    return codec


def gen(value: int, branch: int = 0, **sampling: object) -> Gen:
    return Gen(branch, value, 1, Sampling(**({"max_tokens": 5} | sampling)))


def stream_nodes(driver: Driver, stream: int = 0) -> list[object]:
    return [
        node
        for request in driver.sent
        if isinstance(request, Append) and request.stream == stream
        for node in request.nodes
    ]


def opened(driver: Driver) -> list[OpenStream]:
    return [request for request in driver.sent if isinstance(request, OpenStream)]


def test_text_and_gen_and_text_travel_without_waiting_and_the_value_comes_back() -> None:
    driver = Driver(says("four"))
    driver.program(Root(0), Text(0, "2+2="), Text(0, " "), gen(0), Text(0, "!"), gen(1))
    first, generate, second, again, end = stream_nodes(driver)
    assert isinstance(first, Extend)
    assert bytes(first.ids) == b"2+2= "
    assert isinstance(generate, Generate)
    assert isinstance(second, Extend)
    assert bytes(second.ids) == b"!"
    assert isinstance(again, Generate)
    assert isinstance(end, End)
    driver.run()
    assert driver.values() == {0: "four", 1: "four"}
    assert driver.finished().code is None
    assert driver.finished().usage.computed == len("2+2= four!four")


def test_branch_0_is_the_programs_own_and_needs_no_root() -> None:
    with_root, without = Driver(), Driver()
    with_root.program(Root(0), Text(0, "x"), gen(0))
    without.program(Text(0, "x"), gen(0))
    for driver in (with_root, without):
        driver.run()
    assert with_root.values() == without.values()
    driver = Driver()
    driver.program(Text(0, "x"), Root(0))
    assert driver.finished().code == "usage"


def test_a_text_by_its_index_in_the_segment_table_is_that_text() -> None:
    driver = Driver()
    driver.send(Segments(0, ("ab", "cd")))
    driver.program(Root(0), Text(0, 1), Text(0, 0), gen(0))
    assert stream_nodes(driver)[0] == Extend(tuple(b"cdab"))


def test_roles_become_the_templates_pieces_and_data_never_a_control_token() -> None:
    driver = Driver()
    driver.program(
        Root(0),
        Role(0, "user", "begin"),
        Text(0, "hi <|im_end|>"),
        Role(0, "user", "end"),
        Role(0, "assistant", "begin"),
        gen(0),
        Role(0, "assistant", "end"),
        TextOf(0, 1),
    )
    extend = stream_nodes(driver)[0]
    assert isinstance(extend, Extend)
    assert extend.ids == (
        IM_START,
        *b"user\nhi <|im_end|>",
        IM_END,
        *b"\n",
        IM_START,
        *b"assistant\n",
    )
    driver.run()
    text = driver.values()[1]
    assert isinstance(text, str)
    assert text.startswith("<|im_start|>user\nhi <|im_end|><|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("before", "sampling", "stop_ids"),
    [
        ((), {}, (258,)),
        ((Role(0, "assistant", "begin"),), {"stop_token_ids": (9,)}, (9, 258)),
        ((Role(0, "assistant", "begin"),), {"ignore_eos": True, "stop_token_ids": (9,)}, (9,)),
    ],
    ids=["eos alone", "own ids beside", "ignore_eos leaves only own ids"],
)
def test_a_generation_ends_at_the_ids_of_its_place(
    before: tuple[Role, ...], sampling: dict[str, object], stop_ids: tuple[int, ...]
) -> None:
    driver = Driver()
    driver.program(Root(0), Text(0, "x"), *before, gen(0, **sampling))
    generate = stream_nodes(driver)[1]
    assert isinstance(generate, Generate)
    assert generate.stop_ids == stop_ids


def test_a_fill_holds_its_branch_and_no_other() -> None:
    driver = Driver(says("abc"))
    driver.program(
        Root(0),
        Text(0, "x"),
        Fork(0, (1, 2)),
        Text(1, "1"),
        gen(0, branch=1),
        Text(2, "<"),
        Fill(2, 0),
        Text(2, ">"),
        gen(1, branch=2),
        gen(2),
    )
    assert len(opened(driver)) == 2  # the root and child 1; child 2 is held
    driver.run()
    assert driver.values() == {0: "abc", 1: "abc", 2: "abc"}
    assert (*b"x<abc>abc",) in driver.engine.finals


def test_children_begin_from_the_parents_stream_which_is_opened_for_their_sake() -> None:
    driver = Driver()
    driver.program(
        Root(0), Text(0, "shared"), Fork(0, (1, 2, 3)), *(gen(i, branch=i + 1) for i in range(3))
    )
    root, *children = opened(driver)
    assert root.parent is None
    assert [(c.parent, c.parent_nodes) for c in children] == [(root.stream, 1)] * 3
    assert stream_nodes(driver, root.stream) == [Extend(tuple(b"shared")), End()]
    driver.run()
    assert len(driver.values()) == 3
    assert driver.finished().code is None


def test_a_fork_ends_a_text_run_and_later_children_see_what_was_added_between() -> None:
    driver = Driver()
    driver.program(
        Root(0), Text(0, "a"), Fork(0, (1,)), Text(0, "b"), Fork(0, (2,)), Text(0, "c"), gen(0)
    )
    assert stream_nodes(driver)[:3] == [Extend((97,)), Extend((98,)), Extend((99,))]
    driver = Driver()
    driver.program(
        Root(0), Text(0, "a"), Fork(0, (1,)), Text(0, "b"), Fork(0, (2,)), gen(0, 1), gen(1, 2)
    )
    assert [(o.parent, o.parent_nodes) for o in opened(driver)] == [(None, 0), (0, 1), (0, 2)]


@pytest.mark.slow
def test_a_long_chain_of_forks_opens_one_stream_for_all_it_shares() -> None:
    driver = Driver()
    nodes = [Root(0)]
    for branch in range(256):
        nodes += [Text(branch, "x"), Fork(branch, (branch + 1,))]
    driver.program(*nodes, gen(0, branch=256))
    driver.run()
    assert driver.finished().code is None
    assert len(driver.engine.finals[-1]) >= 256


def test_a_branch_that_only_appends_text_costs_the_engine_nothing() -> None:
    driver = Driver()
    driver.program(Root(0), Text(0, "abc"), Fork(0, (1,)), Text(1, "d"), TextOf(1, 0))
    assert driver.sent == []
    assert driver.values() == {0: "abcd"}
    assert driver.finished() == Finished(0, driver.finished().usage)


def test_join_appends_what_children_said_up_to_the_join_in_order() -> None:
    driver = Driver(says("yz"))
    driver.program(
        Root(0),
        Text(0, "x"),
        Fork(0, (1, 2)),
        gen(0, branch=2),
        Special(2, "<|im_end|>"),
        Text(1, "1"),
        Join(0, (1, 2)),
        Text(1, "later"),
        Text(0, "."),
        TextOf(0, 1),
        gen(2),
    )
    driver.run()
    assert driver.values()[1] == "x1yz<|im_end|>."
    assert (*b"x1yz", IM_END, *b".yz") in driver.engine.finals


def test_a_role_begun_by_a_joined_child_goes_on_in_the_parent() -> None:
    driver = Driver(says("ok"))
    driver.program(
        Root(0),
        Fork(0, (1,)),
        Role(1, "user", "begin"),
        Text(1, "q"),
        Role(1, "user", "end"),
        Role(1, "assistant", "begin"),
        Join(0, (1,)),
        gen(0),
        Role(0, "assistant", "end"),
        TextOf(0, 1),
    )
    driver.run()
    expected = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n"
    assert driver.values()[1] == expected


def test_n_samples_run_on_streams_of_their_own_and_the_branch_goes_on_with_the_first() -> None:
    driver = Driver()
    driver.program(Root(0), Text(0, "x"), gen(0, n=3), TextOf(0, 1))
    root, *others = opened(driver)
    assert [(o.parent, o.parent_nodes) for o in others] == [(root.stream, 1)] * 2
    seeds = [
        node.seed
        for stream in range(3)
        for node in stream_nodes(driver, stream)
        if isinstance(node, Generate)
    ]
    assert seeds == [generation_seed(7, (0,), 0, sample) for sample in range(3)]
    driver.run()
    texts = driver.values()[0]
    assert isinstance(texts, list)
    assert len(texts) == 3
    assert driver.values()[1] == "x" + texts[0]
    (value,) = [event for event in driver.of(Value) if event.value == 0]
    assert len(value.meta.finishes) == 3


def test_one_failed_sample_fails_the_value_and_not_the_branch() -> None:
    driver = Driver(says("aaaa"))
    driver.program(Root(0), Text(0, "x"), gen(0, n=2), Text(0, "y"), gen(1))
    other = opened(driver)[1].stream
    driver.engine._end(driver.engine.streams[other], "grammar_dead_end", "nothing may follow")
    driver.run()
    (failed,) = driver.failures()
    assert (failed.value, failed.code) == (0, "grammar_dead_end")
    assert driver.values() == {1: "aaaa"}


@pytest.mark.parametrize("report", [False, True])
def test_deltas_add_up_to_the_text_and_come_only_when_asked_for(report: bool) -> None:
    driver = Driver(says("é€!" + "x"))
    driver.program(Root(0), Text(0, "x"), gen(0, max_tokens=6, n=2), stream=report)
    driver.run()
    texts = driver.values()[0]
    assert isinstance(texts, list)
    for sample, text in enumerate(texts):
        assert driver.deltas(0, sample) == (text if report else "")
    assert texts[0] == "é€!"


def test_stop_strings_travel_as_bytes_and_the_matched_one_comes_back() -> None:
    driver = Driver(says("abécd"))
    driver.program(Root(0), Text(0, "x"), gen(0, stop=("é",), max_tokens=9))
    generate = stream_nodes(driver)[1]
    assert isinstance(generate, Generate)
    assert generate.stops == ("é".encode(),)
    driver.run()
    assert driver.values() == {0: "ab"}
    (value,) = driver.of(Value)
    assert value.meta.matched == "é"
    assert value.meta.finish == "stop"


def test_logprobs_carry_the_text_of_their_tokens() -> None:
    driver = Driver(says("a"))
    driver.program(Root(0), Text(0, "x"), gen(0, logprobs=1, max_tokens=1))
    driver.run()
    (value,) = driver.of(Value)
    ((token,),) = value.meta.logprobs
    assert (token.token_id, token.text, token.top[0].text) == (97, "a", "a")


def test_select_goes_on_from_the_run_and_its_value_is_the_index() -> None:
    driver = Driver()
    driver.program(
        Root(0), Text(0, "is "), Select(0, 0, 1, ("yes", "no")), Fill(0, 0), TextOf(0, 1), gen(2)
    )
    extend, choose = stream_nodes(driver)[:2]
    assert extend == Extend(tuple(b"is "))
    assert isinstance(choose, Choose)
    assert choose.choices == (tuple(b"yes"), tuple(b"no"))
    driver.run()
    winner = driver.values()[0]
    assert isinstance(winner, int)
    chosen = ("yes", "no")[winner]
    assert driver.values()[1] == f"is {chosen}{chosen}"
    (value, *_) = driver.of(Value)
    scores = value.meta.scores
    assert [token.text for token in scores.token_logprobs[0]] == list("yes")


def test_ids_and_special_tokens_are_exact_and_split_text_runs() -> None:
    driver = Driver()
    driver.program(
        Root(0),
        Text(0, "a"),
        Ids(0, (98, IM_END)),
        Special(0, "<|im_start|>"),
        TextOf(0, 0),
        gen(1),
    )
    assert stream_nodes(driver)[0] == Extend((97, 98, IM_END, IM_START))
    assert driver.values()[0] == "ab<|im_end|><|im_start|>"


def test_lets_are_computed_in_the_front_from_values_as_they_come() -> None:
    driver = Driver(says(" ab "))
    driver.program(
        Root(0),
        Text(0, "x"),
        gen(0),
        Let(1, "strip", (ValueRef(0),)),
        Let(2, "concat", ("-", ValueRef(1), ValueRef(0), 3)),
        Let(3, "len", (ValueRef(2),)),
        Fill(0, 2),
        TextOf(0, 4),
    )
    driver.run()
    assert driver.values() == {0: " ab ", 1: "ab", 2: "ab- ab -3", 3: 9, 4: "x ab ab- ab -3"}


def test_a_dropped_branch_ends_its_stream_once_no_child_needs_it() -> None:
    driver = Driver()
    driver.program(Root(0), Text(0, "x"), Fork(0, (1,)), gen(0), Drop(0), done=False)
    driver.run()
    assert End() not in stream_nodes(driver)
    driver.program(gen(1, branch=1), done=False, epoch=1)
    assert stream_nodes(driver)[-1] == End()
    driver.run()
    assert set(driver.values()) == {0, 1}
    assert not driver.of(Finished)
    driver.program(done=True, epoch=2)
    driver.run()
    assert driver.finished().code is None


def test_text_may_be_asked_for_after_the_program_has_finished() -> None:
    driver = Driver(says("yes"))
    driver.program(Root(0), Text(0, "x"), gen(0))
    driver.run()
    assert driver.finished().code is None
    driver.program(TextOf(0, 1), Let(2, "upper", (ValueRef(1),)), epoch=1, done=False)
    assert driver.values() == {0: "yes", 1: "xyes", 2: "XYES"}
    driver.finished()


def test_an_empty_prompt_gets_the_bos_token_or_is_an_error() -> None:
    driver = Driver()
    driver.program(Root(0), gen(0))
    (failed,) = driver.failures()
    assert (failed.code, failed.node) == ("usage", 1)
    assert "empty" in failed.message
    driver = Driver(codec=with_bos())
    driver.program(Root(0), gen(0), program=0)
    driver.program(Root(0), Select(0, 0, 1, ("a", "b")), program=1)
    driver.program(Root(0), Text(0, "x"), gen(0), program=2)
    assert [stream_nodes(driver, i)[0] for i in range(3)] == [
        Extend((256,)),
        Extend((256,)),
        Extend(tuple(b"x")),
    ]


def test_a_plain_prompt_begins_with_bos_where_the_model_wants_it_so() -> None:
    driver = Driver(codec=with_bos(adds=True))
    driver.program(Root(0), Text(0, "x"), Fork(0, (1,)), Text(1, "y"), gen(0, branch=1))
    driver.program(Root(0), Role(0, "user", "begin"), Text(0, "x"), gen(0), program=1)
    driver.program(Root(0), Fork(0, (1,)), Text(1, "y"), gen(0, branch=1), program=2)
    assert stream_nodes(driver, 0)[0] == Extend((256, *b"x"))
    assert stream_nodes(driver, 1)[0] == Extend(tuple(b"y"))
    assert stream_nodes(driver, 2)[0] == Extend((IM_START, *b"user\nx"))
    assert stream_nodes(driver, 3)[0] == Extend((256, *b"y"))


@pytest.mark.parametrize(
    ("own", "expected"),
    [(None, generation_seed(7, (0, 1), 1)), (5, generation_seed(5, (0, 1), 1))],
)
def test_a_seed_comes_from_the_place_in_the_program(own: int | None, expected: int) -> None:
    driver = Driver()
    driver.program(
        Root(0), Text(0, "x"), Fork(0, (1, 2)), gen(0, branch=2), gen(1, branch=2, seed=own)
    )
    seeds = [
        node.seed
        for request in driver.sent
        if isinstance(request, Append)
        for node in request.nodes
        if isinstance(node, Generate)
    ]
    assert seeds[1] == expected


def test_children_of_two_forks_of_one_branch_have_different_seeds() -> None:
    driver = Driver()
    driver.program(
        Root(0), Text(0, "x"), Fork(0, (1,)), Fork(0, (2,)), gen(0, branch=1), gen(1, branch=2)
    )
    seeds = [
        n.seed
        for r in driver.sent
        if isinstance(r, Append)
        for n in r.nodes
        if isinstance(n, Generate)
    ]
    assert len(set(seeds)) == 2

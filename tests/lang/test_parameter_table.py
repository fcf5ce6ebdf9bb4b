"""Every parameter has an effect or raises.

One table for gen, gen_int, gen_string and select, one for run, arun, astart and run_batch. Each row
has a value that changes something that can be seen, on the wire or in the result, and one that
raises an error with the parameter's name and the value. A parameter without a row fails.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

import furcate as fc
from furcate.lang._options import _RUN_ONLY
from furcate.lang._sampling import RUN_KEYWORDS
from furcate.protocol.codec import encode
from furcate.protocol.graph import Gen, Node, Select
from furcate.protocol.message import (
    Alternative,
    ChoiceScores,
    Event,
    Graph,
    Release,
    TokenLogprob,
    Value,
    ValueMeta,
)


class Opaque:
    """Nothing that pydantic could describe."""


@dataclass(frozen=True)
class Row:
    """`good` beside `base` changes something that `base` alone does not; `bad` raises. `fields`:
    what `good` is in the Sampling of the node."""

    good: object
    bad: object
    base: dict[str, object] = field(default_factory=dict)
    fields: dict[str, object] = field(default_factory=dict)


def accepts(value: object) -> bool:
    return True


WITH_LOGPROBS = {"return_logprob": True, "logprob_start_len": 0}
SAMPLING = {
    "max_tokens": Row(7, -5, fields={"max_tokens": 7}),
    "max_new_tokens": Row(7, "7", fields={"max_tokens": 7}),
    "min_tokens": Row(3, -1, fields={"min_tokens": 3}),
    "min_new_tokens": Row(3, 1.5, fields={"min_tokens": 3}),
    "stop": Row(["a", "b"], 3, fields={"stop": ("a", "b")}),
    "stop_token_ids": Row([5], "12", fields={"stop_token_ids": (5,)}),
    "stop_regex": Row(["a+", "b"], "a(", fields={"stop_regex": ("a+", "b")}),
    "temperature": Row(0, float("nan"), fields={"temperature": 0.0}),
    "top_p": Row(0.5, 0.0, fields={"top_p": 0.5}),
    "top_k": Row(4, 0, fields={"top_k": 4}),
    "min_p": Row(0.1, 1.5, fields={"min_p": 0.1}),
    "frequency_penalty": Row(0.5, 3.0, fields={"frequency_penalty": 0.5}),
    "presence_penalty": Row(0.5, -3.0, fields={"presence_penalty": 0.5}),
    "repetition_penalty": Row(1.2, 0.0, fields={"repetition_penalty": 1.2}),
    "logit_bias": Row({3: -1.0, "4": 2}, [1], fields={"logit_bias": {3: -1.0, 4: 2.0}}),
    "ignore_eos": Row(True, 1, fields={"ignore_eos": True}),
    "return_logprob": Row(True, 1, fields={"logprobs": 0}),
    "logprob_start_len": Row(1, -2, WITH_LOGPROBS, {"prompt_logprobs": 0}),
    "top_logprobs_num": Row(2, 21, WITH_LOGPROBS, {"logprobs": 2, "prompt_logprobs": 2}),
    "return_text_in_logprobs": Row(True, "yes", WITH_LOGPROBS),
}
OF_ONE_CALL = {
    "name": Row("x", 3),
    "n": Row(3, 17, fields={"n": 3}),
    "seed": Row(11, 2**64, fields={"seed": 11}),
    "save_stop": Row("end", 3),
}
SHAPES = {
    "dtype": Row(int, list, fields={"stop": (" ", "\n")}),
    "regex": Row("a+", "a("),
    "json_schema": Row({"type": "string"}, "{"),
    "type": Row(Literal["x", "y"], Opaque),
    "choices": Row(["x", "y"], "ab"),
    "choices_method": Row(fc.greedy_token_selection, "best", {"choices": ["x", "y"]}),
}
CHECKS = {
    "check": Row(accepts, 3),
    "retries": Row(2, 65, {"check": accepts}),
    "reasoning": Row("auto", "maybe"),
    "max_thinking": Row(5, -1, {"reasoning": "auto"}),
}
SELECT = {
    "name": Row("x", 3),
    "choices": Row(["x", "y"], "ab", {"choices": ["x"]}),
    "temperature": Row(0.5, -1.0, {"choices": ["x", "y"]}),
    "choices_method": Row(fc.greedy_token_selection, "best", {"choices": ["x", "y"]}),
    "scores": Row(True, 1, {"choices": ["x", "y"]}),
}
GEN_INT = {
    name: row
    for name, row in (SAMPLING | OF_ONE_CALL).items()
    if name not in ("min_tokens", "min_new_tokens")
}
CALLS = {
    fc.gen: SAMPLING | OF_ONE_CALL | SHAPES | CHECKS,
    fc.gen_int: GEN_INT,
    fc.gen_string: GEN_INT,
    fc.select: SELECT,
}
RUN = {
    "backend": Row(None, 3),
    "timeout": Row(60.0, -1),
    "seed": Row(5, -1),
    "sampling": Row({"temperature": 0.5}, 3),
    "priority": Row(-3, 101),
    "tenant": Row("them", 7),
    "template": Row("append", "keep"),
} | SAMPLING
STREAM = {"stream": Row(True, 1)}
BATCH = {
    "items": Row([("a",), ("b",)], "ab"),
    "on_error": Row("return", "ignore"),
    "progress_bar": Row(True, "yes"),
    "generator_style": Row(True, 1),
    "num_threads": Row(1, 0),
}
RUNS = {
    "run": RUN | STREAM,
    "arun": RUN | STREAM,
    "astart": RUN | {"stream": Row(False, 1)},
    "run_batch": RUN,
}


def entries(tables: dict[Any, dict[str, Row]]) -> list[Any]:
    return [
        pytest.param(who, name, row, id=f"{getattr(who, '__name__', who)}-{name}")
        for who, rows in tables.items()
        for name, row in rows.items()
    ]


# A backend that answers at once, with everything that a value may come with ----------------------

TOKENS = tuple(
    TokenLogprob(-0.5, token_id, f"t{token_id}", (Alternative(-0.5, token_id, "t"),))
    for token_id in range(2)
)


def answers(program: int, nodes: tuple[Node, ...]) -> list[Event]:
    events: list[Event] = []
    for node in nodes:
        if isinstance(node, Select):
            scores = ChoiceScores((TOKENS,), (0.5,), (0.5,), 0.5)
            events.append(Value(program, node.value, 0, ValueMeta(scores=scores)))
        elif isinstance(node, Gen):
            n, logprobs = node.sampling.n, node.sampling.logprobs
            meta = ValueMeta(
                logprobs=None if logprobs is None else (TOKENS,) * n,
                prompt_logprobs=None if node.sampling.prompt_logprobs is None else TOKENS,
            )
            events.append(Value(program, node.value, "x" if n == 1 else ["x"] * n, meta))
            if node.stopped_by is not None:
                events.append(Value(program, node.stopped_by, "."))
            if node.reasoning is not None:
                events.append(Value(program, node.reasoning.value, "hm"))
    return events


@pytest.fixture
def observed(by_hand):
    """What can be seen of a program that appends an expression: what it sends, and its variables
    with what is known of them."""

    def observe(expr: object, entry: str = "run", **keywords: object) -> object:
        def react(channel, request):
            if not isinstance(request, Graph):
                return []
            events = answers(request.program, request.nodes)
            return [*events, by_hand.finished(request.program)] if request.done else events

        session, channel = by_hand(react)
        state = run_with(entry, expr, {"backend": session, "seed": 0} | keywords)
        results = [
            (name, state[name], state.get_meta_info(name)) for name in state._branch.variables
        ]
        sent = [[r for r in requests if not isinstance(r, Release)] for requests in channel.sent]
        return [encode(requests) for requests in sent if requests], results, channel.nodes

    return observe


@fc.function
def appends(s, expr):
    s += expr


def run_with(entry: str, expr: object, keywords: dict[str, Any]) -> Any:
    if entry == "run_batch":
        return appends.run_batch([(expr,)], **keywords)[0]
    if entry == "run":
        state = appends.run(expr, **keywords)
    else:
        state = asyncio.run(_run_async(entry, expr, keywords))
    state.sync()
    return state


async def _run_async(entry: str, expr: object, keywords: dict[str, Any]) -> Any:
    state = await getattr(appends, entry)(expr, **keywords)
    async for _ in state.events():
        pass
    return state


# The tables are whole ----------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_every_parameter_of_a_call_has_a_row(call):
    assert set(inspect.signature(call).parameters) == set(CALLS[call])


@pytest.mark.parametrize("entry", RUNS)
def test_every_keyword_of_a_run_has_a_row(entry):
    known = (RUN_KEYWORDS | _RUN_ONLY) - ({"stream"} if entry == "run_batch" else set())
    assert set(RUNS[entry]) == known


def test_every_parameter_of_run_batch_itself_has_a_row():
    assert set(inspect.signature(appends.run_batch).parameters) == set(BATCH) | {"kwargs"}


def test_gen_int_and_gen_string_take_what_gen_takes_but_for_what_shapes_the_output():
    shapes = {*SHAPES, *CHECKS, "min_tokens", "min_new_tokens"}
    for call in (fc.gen_int, fc.gen_string):
        assert set(inspect.signature(call).parameters) == set(CALLS[fc.gen]) - shapes


# Calls -------------------------------------------------------------------------------------------


def _base(call: Any, row: Row) -> dict[str, object]:
    needed = {"choices": ["x"]} if call is fc.select else {}
    return needed | row.base


@pytest.mark.parametrize(("call", "name", "row"), entries(CALLS))
def test_a_parameter_of_a_call_can_be_seen(observed, call, name, row):
    base = {"name": "v"} | _base(call, row) if name != "name" else _base(call, row)
    with_it = observed(call(**base | {name: row.good}))
    assert with_it[:2] != observed(call(**base))[:2]
    (node,) = (node for node in with_it[2] if isinstance(node, Gen | Select))
    if call is fc.gen:
        assert {key: getattr(node.sampling, key) for key in row.fields} == row.fields


@pytest.mark.parametrize(("call", "name", "row"), entries(CALLS))
def test_a_bad_value_raises_at_the_call_with_its_name(call, name, row):
    with pytest.raises(fc.UsageError) as raised:
        call(**_base(call, row) | {name: row.bad})
    assert name in str(raised.value)
    assert repr(row.bad) in str(raised.value)


OPTIONAL = CALLS | {
    fc.select: {name: row for name, row in SELECT.items() if name not in ("choices", "scores")}
}


@pytest.mark.parametrize(("call", "name", "row"), entries(OPTIONAL))
def test_none_is_the_same_as_left_out(observed, call, name, row):
    base = {"name": "v"} | _base(call, row) if name != "name" else _base(call, row)
    left_out = {key: value for key, value in base.items() if key != name}
    assert observed(call(**left_out | {name: None}))[:2] == observed(call(**left_out))[:2]


# Runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entry", "name", "row"), entries(RUNS))
def test_a_keyword_of_a_run_can_be_seen(observed, entry, name, row):
    if name == "backend":
        return  # without one nothing of this could be observed
    with_it = observed(fc.gen("v"), entry, **row.base | {name: row.good})
    assert with_it[:2] != observed(fc.gen("v"), entry, **row.base)[:2]


@pytest.mark.parametrize(("entry", "name", "row"), entries(RUNS))
def test_a_bad_value_of_a_run_raises_with_its_name(observed, entry, name, row):
    with pytest.raises(fc.UsageError) as raised:
        observed(fc.gen("v"), entry, **row.base | {name: row.bad})
    assert name in str(raised.value)
    assert repr(row.bad) in str(raised.value)


@pytest.mark.parametrize("name", BATCH)
def test_a_bad_value_of_run_batch_raises_with_its_name(name):
    with fc.Mock("x") as backend, pytest.raises(fc.UsageError) as raised:
        appends.run_batch(**{"items": [], "backend": backend} | {name: BATCH[name].bad})
    assert name in str(raised.value)
    assert repr(BATCH[name].bad) in str(raised.value)


def test_items_and_generator_style_of_run_batch():
    with fc.Mock("x") as backend:
        states = appends.run_batch([("a",), ("b",)], backend=backend)
        assert [state.text() for state in states] == ["a", "b"]
        lazy = appends.run_batch([("a",), ("b",)], backend=backend, generator_style=True)
        assert not isinstance(lazy, list)
        assert [state.text() for state in lazy] == ["a", "b"]


def test_on_error_of_run_batch_says_whether_a_failed_item_ends_it():
    items = [(fc.gen(type=int),), ("b",)]
    with fc.Mock("not an a") as backend:
        good, bad = appends.run_batch(items[::-1], backend=backend, on_error="return")
        assert (good.ok, bad.ok) == (True, False)
        with pytest.raises(fc.ProgramError):
            appends.run_batch(items, backend=backend)


def test_progress_bar_of_run_batch_shows_on_standard_error(capsys):
    with fc.Mock("x") as backend:
        appends.run_batch([("a",)], backend=backend)
        assert capsys.readouterr().err == ""
        appends.run_batch([("a",)], backend=backend, progress_bar=True)
    assert "appends" in capsys.readouterr().err


def test_num_threads_of_run_batch_bounds_the_bodies_that_wait_at_a_time():
    names: list[str] = []
    both = threading.Barrier(2)

    @fc.function
    def waits(s, meets):
        s += fc.gen("x")
        names.append(f"{s['x']} in {threading.current_thread().name}")
        if meets:
            both.wait()

    here = threading.current_thread().name
    with fc.Mock("x") as backend:
        waits.run_batch([(False,)] * 3, backend=backend, num_threads=1)
        assert set(names) == {f"x in {here}"}
        waits.run_batch([(True,)] * 2, backend=backend, num_threads=2)
    assert len(set(names)) == 2


def test_the_backend_of_a_run_is_the_one_that_runs_it():
    with fc.Mock("one") as one, fc.Mock("other") as other:
        fc.set_default_backend(one)
        try:
            assert appends.run(fc.gen("x"))["x"] == "one"
            assert appends.run(fc.gen("x"), backend=None)["x"] == "one"
            assert appends.run(fc.gen("x"), backend=other)["x"] == "other"
        finally:
            fc.set_default_backend(None)

"""What a body raises names the line that raised it, also where it comes out of a state."""

from __future__ import annotations

import asyncio
import inspect
import json

import pytest

import furcate as fc


@fc.function
def misuses(s):
    s += fc.gen("x")
    s += None


@fc.function
def fails_in_a_library(s):
    s += fc.gen("x")
    json.loads("{")


@fc.function
async def waits(s):
    s += fc.gen("x")
    await s.aget("x")
    raise KeyError("k")


def line_of(program: fc.Function, statement: str) -> str:
    lines, first = inspect.getsourcelines(program.__wrapped__)
    offset = next(i for i, line in enumerate(lines) if statement in line)
    return f"{__file__}:{first + offset}"


CASES = [(misuses, "s += None"), (fails_in_a_library, "json.loads"), (waits, "raise KeyError")]


@pytest.mark.parametrize(("program", "statement"), CASES)
def test_an_item_of_a_batch_names_the_line_that_raised(echo, program, statement):
    error = program.run_batch([()], backend=echo, on_error="return")[0].error()
    assert error.location == line_of(program, statement)
    assert error.location in str(error)


@pytest.mark.parametrize(("program", "statement"), CASES)
def test_a_streamed_program_names_the_line_that_raised(echo, program, statement):
    error = program.run(backend=echo, stream=True).error()
    assert error.location == line_of(program, statement)


def test_a_function_is_no_type():
    with pytest.raises(fc.ConstraintError, match="takes a type, got the function"):
        fc.gen("x", type=lambda: 0)


def test_a_variable_needs_a_name(echo):
    @fc.function
    def sets(s):
        s.set_var(3, "x")

    with pytest.raises(fc.UsageError, match="non-empty string, got 3"):
        sets.run(backend=echo)


def test_an_async_body_reads_its_turns_without_blocking(echo):
    @fc.function
    async def talks(s):
        s += fc.user("hi")
        s += fc.assistant(fc.gen("x"))
        return await s.amessages(), await s.aget("x")

    state = asyncio.run(talks.arun(backend=echo))
    turns, answer = state.ret_value
    assert turns == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer}]
    assert turns == state.messages()
    assert turns == asyncio.run(state.amessages())

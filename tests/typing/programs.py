"""What type checkers see of programs: behind a reveal_type stands what both call its type, and a
mistake that both find is called wrong. Never run."""

from typing import reveal_type

import furcate as fc


@fc.function
def answers(s: fc.ProgramState, question: str, times: int = 1) -> int:
    s += "a" + fc.gen("x", max_tokens=3) + "b"
    s += fc.user(question + fc.select("y", ["a", "b"]))
    group = s.fork(2)
    group += lambda index: str(index)
    s += group[0].ref("x").strip()
    return times


@fc.function
async def answers_later(s: fc.ProgramState, question: str) -> list[str]:
    s += question
    return [await s.aget("x")]


@fc.function
def by_reference(s: fc.ProgramState) -> fc.Ref:
    return s.ref("x")


@fc.function(graph="require")
def in_the_graph(s: fc.ProgramState, topic: str) -> str:
    s += topic
    return topic


@fc.function
def untyped(s, question):  # type: ignore[no-untyped-def]
    return question


# What a function takes and returns ---------------------------------------------------------------

reveal_type(answers.run("why", times=2))  # revealed: ProgramState[int]
reveal_type(answers.run("why", times=2).ret_value)  # revealed: int
reveal_type(answers.run("why", temperature=0.5, backend=fc.Mock()).ret_value)  # revealed: int
reveal_type(answers("why").ret_value)  # revealed: int
reveal_type(answers.bind(times=3).run("why").ret_value)  # revealed: int
reveal_type(answers.spawn("why").ret_value)  # revealed: int
reveal_type(answers_later.run("why").ret_value)  # revealed: list[str]
reveal_type(by_reference.run().ret_value)  # revealed: Any
reveal_type(in_the_graph.run("why").ret_value)  # revealed: str
reveal_type(untyped.run("why").ret_value)  # revealed: Any

answers(3)  # wrong
answers("why", tmes=3)  # wrong
in_the_graph(3)  # wrong

# Many ------------------------------------------------------------------------------------------

reveal_type(answers.run_batch([{"question": "why"}]))  # revealed: list[ProgramState[int]]
one_by_one = answers.run_batch([("why",)], generator_style=True)
reveal_type(one_by_one)  # revealed: Iterator[ProgramState[int]]
reveal_type(answers.run_batch([("why",)], seed=3)[0].ret_value)  # revealed: int
answers.run_batch([("why",)], on_error="ignore")  # wrong
answers.run_batch("why")


async def asynchronously() -> None:
    reveal_type((await answers_later.arun("why")).ret_value)  # revealed: list[str]
    reveal_type(await answers.astart("why"))  # revealed: ProgramState[int]
    state = await answers_later.astart("why")
    async for event in state.events():
        reveal_type(event.delta)  # revealed: str
    async for piece in state.text_async_iter("x"):
        reveal_type(piece)  # revealed: Any


# Inside a body -----------------------------------------------------------------------------------


def search(query: str, limit: int = 3) -> list[str]:
    return [query] * limit


def body(s: fc.ProgramState) -> None:
    reveal_type(s.ret_value)  # revealed: Any
    reveal_type(s.call(search, s.ref("x"), 3, expect_s=0.5))  # revealed: Ref
    reveal_type(s.ref("x"))  # revealed: Ref
    reveal_type(s.ref("x").strip())  # revealed: Ref
    reveal_type(s["x"])  # revealed: Any
    reveal_type(s.partial("x"))  # revealed: Any
    reveal_type(s.fork(2))  # revealed: StateGroup
    reveal_type(s.fork(over=["a"])[0].text())  # revealed: str
    reveal_type(s.text())  # revealed: str
    reveal_type(s.ok)  # revealed: bool
    reveal_type(s.error())  # revealed: ProgramError | None
    reveal_type(s.seed)  # revealed: int
    s += answers("why")
    s.call(3)  # wrong
    s.call(search, expect_s="long")  # wrong
    s += 3  # wrong


# Generations -------------------------------------------------------------------------------------


def even(number: int) -> bool:
    return number % 2 == 0


def explains(text: str) -> str | None:
    return "too short" if len(text) < 3 else None


reveal_type(fc.gen("x", type=int, check=even, retries=2))  # revealed: Expr
reveal_type(fc.gen("x", check=explains))  # revealed: Expr
reveal_type(fc.gen("x", type=list[int] | None))  # revealed: Expr
reveal_type(fc.gen("x", json_schema={"type": "object"}))  # revealed: Expr
reveal_type(fc.gen_int("x", max_tokens=3))  # revealed: Expr
reveal_type("a" + fc.gen("x"))  # revealed: Expr
reveal_type(fc.user("a") + "b")  # revealed: Expr
fc.gen("x", max_tokens="3")  # wrong
fc.gen("x", check=3)  # wrong
fc.gen("x", retries="2")  # wrong
fc.select("x", [1])  # wrong

# Errors ------------------------------------------------------------------------------------------


def errors(failure: fc.ValidationFailed, cut: fc.Truncated, failed: fc.ProgramError) -> None:
    reveal_type(failure.value)  # revealed: object
    reveal_type(failure.error)  # revealed: BaseException | None
    reveal_type(failure.attempts)  # revealed: int
    reveal_type(cut.attempts)  # revealed: int
    reveal_type(failed.cause)  # revealed: BaseException | None

"""Sessions, pins and questions in the front, and reasoning, where engines come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fakes.front_driver import Driver

from furcate.protocol.graph import (
    Gen,
    Pin,
    Reasoning,
    Recall,
    Role,
    Root,
    Save,
    Text,
    TextOf,
)
from furcate.protocol.message import Ask, Cancel, Info, Unpin, Value
from furcate.protocol.sampling import Sampling
from furcate.protocol.stream import AskEngine
from furcate.protocol.stream import Pin as StreamPin
from furcate.protocol.stream import Unpin as StreamUnpin
from furcate.runtime.graph.limits import Limits
from furcate.runtime.testing import ContextModel, ScriptedModel, make_scheduler, reply_with
from furcate.runtime.tokenize.byte_level import ByteTokenizer

if TYPE_CHECKING:
    from furcate.protocol.graph import Node
    from furcate.runtime.scheduler.scheduler import Scheduler

GEN = Gen(0, 0, 0, Sampling(max_tokens=8))
SAVE = Save(0, "chat", (("answer", 0),))
TALK = "<t>Well, well.</t>Yes."


def driver(limits: Limits | None = None) -> Driver:
    return Driver(make_scheduler(ContextModel(), num_pages=64), limits=limits)


def saved(limits: Limits | None = None, save: Save = SAVE) -> Driver:
    """One program has said something and saved it."""
    front = driver(limits)
    front.program(Text(0, "Once upon"), GEN, save)
    front.run()
    return front


def open_again(front: Driver, program: int = 1, *more: Node) -> None:
    front.program(
        Root(0, session="chat"), TextOf(0, 0), Recall(0, 1, "answer"), *more, program=program
    )
    front.run()


def test_a_session_outlives_the_engine_that_said_it() -> None:
    front = saved()
    text = front.values()[0]
    front.lose_engine()
    front.replace_engine(make_scheduler(ContextModel(), num_pages=64))
    open_again(front)
    assert front.values(program=1) == {0: f"Once upon{text}", 1: text}


def test_a_session_ends_some_time_after_its_last_use() -> None:
    front = saved(Limits(session_ttl_s=10.0))
    assert front.front.next_deadline() == 10.0
    front.now = 8.0
    open_again(front)
    assert front.front.next_deadline() == 18.0
    front.now = 18.0
    front.front.tick(18.0)
    front.pump()
    open_again(front, program=2)
    assert front.finished(program=2).code == "usage"
    assert "there is no session 'chat'; there is none" in str(front.finished(program=2).message)
    assert front.front.next_deadline() is None


def test_a_save_may_say_how_long() -> None:
    assert saved(save=Save(0, "chat", (), 3.0)).front.next_deadline() == 3.0


def test_the_kv_of_a_session_is_pinned_as_long_as_it_is_kept() -> None:
    front = saved(Limits(session_ttl_s=10.0))
    (pin,) = (
        node.pin
        for request in front.sent
        for node in getattr(request, "nodes", ())
        if isinstance(node, StreamPin)
    )
    front.front.tick(10.0)
    front.pump()
    assert StreamUnpin(pin) in front.sent


def test_a_pin_gives_the_number_of_its_tokens_and_ends_by_name() -> None:
    scheduler = make_scheduler(ContextModel(), num_pages=64)
    front = Driver(scheduler)
    front.program(Text(0, "twenty characters of"), Pin(0, 0, "rules"))
    front.run()
    assert front.values() == {0: 20}
    assert scheduler.batcher.prospects.num_pins == 1
    front.program(Text(0, "other rules"), Pin(0, 0, "rules"), program=1)
    front.run()
    assert scheduler.batcher.prospects.num_pins == 1
    assert scheduler.batcher.prospects.num_pinned == 11
    front.send(Unpin("rules"), Unpin("rules"), Unpin("nothing"))
    front.run()
    assert scheduler.batcher.prospects.num_pins == 0


def test_a_pin_of_nothing_fails() -> None:
    front = driver()
    front.program(Pin(0, 0, "rules"))
    front.run()
    (failed,) = front.failures()
    assert "nothing to pin" in failed.message


def test_pins_with_names_have_a_limit() -> None:
    front = driver(Limits(pins=1))
    front.program(Text(0, "a"), Pin(0, 0, "one"), Pin(0, 1, "two"))
    front.run()
    (failed,) = front.failures()
    assert (failed.value, failed.code) == (1, "capacity")


@pytest.mark.parametrize("what", ["info", "flush_cache"])
def test_a_question_waits_for_the_engine_that_follows(what: str) -> None:
    front = saved()
    front.lose_engine()
    front.send(Ask(5, what))  # type: ignore[arg-type]
    assert not [event for event in front.events["a"] if isinstance(event, Info)]
    front.replace_engine(make_scheduler(ContextModel(), num_pages=64))
    front.run()
    (info,) = (event for event in front.events["a"] if isinstance(event, Info))
    assert (info.number, info.facts["sessions"], info.facts["steps"]) == (5, 1, 0)


def test_a_question_is_answered_without_an_engine_that_is_lost_for_good() -> None:
    front = driver()
    front.send(Ask(1, "info"))
    front.front.engine_lost("gone")
    front.send(Ask(2, "info"))
    infos = [event for event in front.events["a"] if isinstance(event, Info)]
    assert [info.number for info in infos] == [1, 2]
    assert "steps" not in infos[0].facts


def test_nobody_is_told_the_answer_to_a_question_of_one_who_has_gone() -> None:
    front = driver()
    front.send(Ask(1, "info"))
    assert any(isinstance(request, AskEngine) for request in front.sent)
    front.disconnect_all()
    assert not [event for event in front.events["a"] if isinstance(event, Info)]


# Reasoning ---------------------------------------------------------------------------------------


def thinker() -> Scheduler:
    codec = ByteTokenizer()
    script = reply_with({"assistant\n": TALK}, codec)
    return make_scheduler(ScriptedModel(script, len(codec.table)), num_pages=64)


def reasoned() -> tuple[Node, ...]:
    reasoning = Reasoning(1, "<t>", "</t>")
    gen = Gen(0, 0, 0, Sampling(max_tokens=40), reasoning=reasoning)
    return Role(0, "assistant", "begin"), gen, Role(0, "assistant", "end"), TextOf(0, 2)


@pytest.mark.parametrize("steps", range(1, 30))
def test_an_engine_may_end_at_any_step_of_reasoning(steps: int) -> None:
    front = Driver(thinker())
    front.program(*reasoned(), stream=True)
    for _ in range(steps):
        front.step()
    if front.engine.has_work:
        front.lose_engine()
        front.replace_engine(thinker())
    front.run()
    assert front.finished().code is None
    values = front.values()
    assert (values[0], values[1]) == ("Yes.", "Well, well.")
    assert f"assistant\n{TALK}" in str(values[2])
    assert (front.deltas(0), front.deltas(1)) == ("Yes.", "Well, well.")


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 12])
def test_a_branch_may_be_cancelled_at_any_step_of_reasoning(steps: int) -> None:
    front = Driver(thinker())
    front.program(*reasoned(), done=False)
    for _ in range(steps):
        front.step()
    front.send(Cancel(0, 0))
    front.run()
    failed = {event.value: event.code for event in front.failures()}
    told = {event.value for event in front.of(Value) if isinstance(event, Value)}
    assert failed.keys() | told == {0, 1, 2}
    assert failed[2] == "cancelled"
    assert front.front.num_streams == 0


def test_a_failed_prompt_fails_both_values() -> None:
    front = Driver(thinker(), max_context=4096)
    front.program(Text(0, "x" * 5000), *reasoned())
    front.run()
    codes = {event.value: event.code for event in front.failures()}
    assert codes == {0: "capacity", 1: "upstream", 2: "upstream"}

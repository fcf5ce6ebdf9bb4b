"""Groups: mapping, choosing in the graph, cancelling; on the real front."""

from __future__ import annotations

import asyncio
import traceback

import pytest
from tests.fakes.groups import in_brackets, is_yes, numbered, run
from tests.fakes.in_process import context_session

import furcate as fc


@fc.function
def tree_of_thought(s, question, width=3, keep=2):
    s += fc.user("Propose a short plan, no calculation yet. Question: " + question)
    plans = s.fork(width)
    plans += fc.assistant(fc.gen("plan", max_tokens=128, temperature=0.8))

    def solve(p):
        p += fc.user("Carry out the plan step by step. Give the final answer.")
        sols = p.fork(2)
        sols += fc.assistant(fc.gen("solution", max_tokens=256, temperature=0.8))
        for f in sols:
            f += fc.user("Rate this solution from 1 to 5.")
            f += fc.assistant(fc.gen("score", type=int, choices=["1", "2", "3", "4", "5"]))
        return sols

    leaves = plans.map(solve).flatten()
    best = leaves.best("score", keep=keep)
    best += fc.user("Now state only the final number.")
    best += fc.assistant(fc.gen("final", type=float, max_tokens=16))
    return best.vote("final")


def thinker(ratings):
    """Solutions are numbered in the order of their making, and rated as `ratings` says."""
    counts = {"plan": 0, "solution": 0}

    def reply(call):
        if call.choices is not None:
            number = int(call.text.split("solution ")[1].split("<")[0])
            return str(ratings[number])
        if "state only" in call.text:
            return "15"
        kind = "plan" if "Carry out" not in call.text else "solution"
        counts[kind] += 1
        return f"{kind} {counts[kind] - 1}"

    return reply


def test_a_tree_of_thought_waits_for_nothing_and_its_value_has_its_type():
    assert "force points: none, one message and no round trip" in tree_of_thought.explain("Why?")
    with fc.Mock(thinker([1, 2, 5, 4, 3, 2])) as backend:
        state = tree_of_thought.run("What is (42 + 3) * 5 / 15?", backend=backend)
        assert (state.ret_value, type(state.ret_value)) == (15.0, float)


@pytest.mark.slow
def test_a_tree_of_thought_runs_on_the_runtime():
    with context_session(num_pages=512) as backend:
        states = [
            tree_of_thought.run("Why?", backend=backend, seed=3, max_new_tokens=4) for _ in "12"
        ]
        assert isinstance(states[0].ret_value, float)
        assert states[0].ret_value == states[1].ret_value


# Shape --------------------------------------------------------------------------------------------


def test_map_gives_what_the_function_returns_or_the_member_itself():
    def body(s):
        group = s.fork(2)
        same = group.map(lambda child: None)
        deeper = group.map(lambda child, index: child.fork(index + 1))
        assert [len(each) for each in deeper] == [1, 2]
        assert same[0] is group[0]
        flat = deeper.flatten()
        flat += lambda index: str(index)
        assert len(group[1:]) == 1
        assert group[1:][0] is group[1]
        return [state.text() for state in flat]

    assert run(body).ret_value == ["0", "1", "2"]


def test_a_group_of_groups_is_appended_to_and_joined_as_its_states_are():
    def body(s):
        groups = s.fork(2).map(lambda child: child.fork(2))
        groups += "a" + fc.gen("x")
        groups.join()
        return s["x"]

    replies = iter("1234")
    assert run(body, lambda call: next(replies)).ret_value == ["1", "2", "3", "4"]


def test_the_variables_of_a_group_are_a_list():
    def body(s):
        return numbered(s, "abc")["x"]

    assert run(body, in_brackets).ret_value == ["a", "b", "c"]


def test_a_function_with_a_default_is_not_given_the_index():
    def body(s):
        def grow(child, text="z"):
            child += text

        return [state.text() for state in s.fork(2).map(grow)]

    assert run(body).ret_value == ["z", "z"]


# best ---------------------------------------------------------------------------------------------


def test_the_best_go_on_with_all_that_their_candidates_had():
    def body(s):
        s += "root "
        s["shared"] = ["an", "object"]
        group = numbered(s, ["3", "9", "5"])
        for index, child in enumerate(group):
            child["index"] = index
        best = group.best("x", keep=2)
        best += "!" + fc.gen("y")
        assert best[0].ref("x").get() == "9"
        assert best["index"] == [1, 2]
        assert best[0]["shared"] is s["shared"]
        return [state.text() for state in best], best["x"], best["y"]

    texts, found, later = run(body, in_brackets).ret_value
    assert texts == ["root [9]9!9]9!", "root [5]5!5]5!"]
    assert (found, later) == (["9", "5"], ["9]9!", "5]5!"])


def test_best_takes_a_function_that_gives_a_reference_or_a_number():
    def body(s):
        group = numbered(s, ["aaa", "b", "cc"])
        by_place = {id(child): index for index, child in enumerate(group)}
        parts = group[0:2], group[2:3]
        one = parts[0].best(lambda child: child.ref("x").replace("aaa", "1").replace("b", "2"))
        two = parts[1].best(lambda child: by_place[id(child)])
        return one["x"], two["x"]

    assert run(body, in_brackets).ret_value == (["b"], ["cc"])


def test_scores_and_meta_data_of_the_best_are_their_candidates():
    def body(s):
        group = s.fork(2)
        group += lambda index: f"{index}" + fc.gen("x") + fc.select("y", ["7", "8"], scores=True)
        (best,) = group.best("y")
        assert best.scores("y").probabilities.keys() == {"7", "8"}
        assert best.get_meta_info("x") == group[1].get_meta_info("x")
        kept.append(best)
        return best["y"]

    def reply(call):
        return "8" if call.choices and call.text[0] == "1" else 0 if call.choices else "R"

    kept = []
    assert run(body, reply).ret_value == "8"
    assert "".join(kept[0].text_iter()) == "1R8"
    assert "".join(kept[0].text_iter("x")) == "R"


def test_messages_items_and_errors_of_the_best():
    def body(s):
        s += fc.user("q")
        group = s.fork(over=["1", "2"])
        for child in group:
            child += fc.assistant(child.item + fc.gen("x"))
        (best,) = group.best(lambda child: float(child.item))
        assert best.ok
        best.sync()
        return best.item, best.messages(), repr(best)

    item, messages, shown = run(body).ret_value
    assert item == "2"
    assert messages == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "2R"},
    ]
    assert shown == "ProgramState(q2R)"


def test_a_candidate_that_failed_comes_last_and_is_no_failure_of_the_program():
    def reply(call):
        if "[bad]" in call.text:
            raise RuntimeError("no")
        return in_brackets(call)

    def body(s):
        group = numbered(s, ["bad", "1", "2"])
        best = group.best("x", keep=2)
        return best["x"]

    assert run(body, reply).ret_value == ["2", "1"]


def test_the_failure_of_what_only_some_candidates_come_from_is_dealt_with_too():
    def reply(call):
        if call.text == "[bad]":
            raise RuntimeError("no")
        return "1"

    def body(s):
        leaves = numbered(s, ["bad", "good"]).map(lambda p: p.fork(2)).flatten()
        leaves += fc.gen("y")
        (best,) = leaves.best("y")
        return best.text()

    assert run(body, reply).ret_value == "[good]11"


def test_if_no_candidate_has_a_number_the_program_fails_at_the_election():
    def body(s):
        best = numbered(s, ["x", "y"]).best("x")
        best += fc.gen("z")

    with pytest.raises(fc.ProgramError, match="'x'") as caught:
        run(body, in_brackets)
    assert caught.value.node == "best"
    assert caught.value.location.endswith(f":{body.__code__.co_firstlineno + 1}")


def test_if_all_candidates_fail_the_program_fails():
    def reply(call):
        raise RuntimeError("no")

    def body(s):
        numbered(s, ["x", "y"]).best("x")

    with pytest.raises(fc.ProgramError, match="best"):
        run(body, reply)


def test_the_losers_are_cancelled_and_take_nothing_more():
    def body(s):
        group = numbered(s, ["1", "2"])
        group.best("x")
        state = group[0]
        state += "more"

    with pytest.raises(fc.UsageError, match=r"after best\(\)") as caught:
        run(body, in_brackets)
    line = traceback.extract_tb(caught.value.__traceback__)[-4:]
    assert any(frame.lineno == body.__code__.co_firstlineno + 4 for frame in line)


def test_the_best_can_be_forked_joined_and_chosen_from_again():
    def body(s):
        group = numbered(s, ["1", "2", "3", "4"])
        three = group.best("x", keep=3)
        three += lambda index: f"[{index}]" + fc.gen("y")
        (one,) = three.best("y")
        inner = one.fork(2)
        inner += lambda index: f"c{index}"
        inner.join("append")
        assert one["x"] == "2"
        return one.text()

    assert run(body, in_brackets).ret_value == "[2]2[2]2c0c1"


def test_the_variables_of_the_best_are_gathered():
    def body(s):
        best = numbered(s, ["1", "3", "2"]).best("x", keep=2)
        best += "[z]" + fc.gen("y")
        best.join()
        return s["x"], s["y"]

    assert run(body, in_brackets).ret_value == (["3", "2"], ["z", "z"])


def test_a_variable_that_only_some_candidates_have_is_there_if_the_chosen_one_has_it():
    def body(s):
        group = numbered(s, ["1", "2"])
        group[int(s["which"])]["own"] = "mine"
        (best,) = group.best("x")
        return best["own"]

    def program(which):
        def whole(s):
            s["which"] = which
            return body(s)

        return whole

    assert run(program(1), in_brackets).ret_value == "mine"
    with pytest.raises(fc.UsageError, match="has no such variable"):
        run(program(0), in_brackets)


def test_async_programs_read_the_best_without_blocking():
    @fc.function
    async def program(s):
        (best,) = numbered(s, ["1", "2"]).best("x")
        return await best.aget("x")

    with fc.Mock(in_brackets) as backend:
        state = asyncio.run(program.arun(backend=backend))
        assert state.ret_value == "2"


# first and vote -----------------------------------------------------------------------------------


def test_the_first_that_holds_goes_on():
    def body(s):
        one = numbered(s, ["no", "yes", "yes"]).first(is_yes)
        one += "!"
        return one.text(), one["x"]

    assert run(body, in_brackets).ret_value == ("[yes]yes!", "yes")


def test_first_takes_what_python_has_found_out():
    def body(s):
        return numbered(s, ["no", "yes"]).first(lambda child: child["x"] == "yes").text()

    assert run(body, in_brackets).ret_value == "[yes]yes"


def test_if_none_holds_the_program_fails():
    def body(s):
        numbered(s, ["no", "no"]).first(is_yes)

    with pytest.raises(fc.ProgramError, match="holds for 0 of 2"):
        run(body, in_brackets)


@pytest.mark.parametrize(
    ("texts", "winner"),
    [("aba", "a"), ("ab", "a"), ("abcb", "b")],
)
def test_a_vote_takes_the_most_frequent_value_and_the_first_of_equals(texts, winner):
    def body(s):
        s += numbered(s, texts).vote("x").upper()
        return s.text()

    assert run(body, in_brackets).ret_value == winner.upper()


def test_a_vote_over_choices_gives_the_choice():
    def body(s):
        group = s.fork(3)
        group += lambda index: str(index) + fc.gen("y", choices=["10", "20"], type=int)
        return group.vote("y")

    assert run(body, lambda call: "20" if call.text > "0" else "10").ret_value == 20


# cancel -------------------------------------------------------------------------------------------


def test_cancelling_a_child_ends_it_alone():
    with context_session(num_pages=512) as backend:

        @fc.function
        def program(s):
            group = s.fork(2)
            group += lambda index: f"{index}" + fc.gen("x", max_tokens=4 + 4000 * index)
            group[1].cancel()
            with pytest.raises(fc.UsageError, match=r"after cancel\(\)"):
                group[1] += "more"
            with pytest.raises(fc.ProgramError) as caught:
                group[1]["x"]
            assert isinstance(caught.value.__cause__, fc.Cancelled)
            s += "on" + fc.gen("y", max_tokens=2)
            return group[0]["x"]

        state = program.run(backend=backend)
        assert state.ok
        assert state.ret_value is not None
        assert state.text().startswith("on")


def test_a_cancelled_group_is_no_failure():
    def body(s):
        group = numbered(s, "ab")
        group.cancel()
        s += "still"
        return s.text()

    assert run(body, in_brackets).ret_value == "still"

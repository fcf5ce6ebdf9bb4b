"""The pure parts: let operations, seeds, where a select begins, runs, roles, deadlines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.fake_engine import FakeEngine

from furcate.errors import CapacityError, TemplateError, UsageError
from furcate.protocol.message import Options
from furcate.runtime.graph.cell import Ready
from furcate.runtime.graph.content import Exact
from furcate.runtime.graph.deadlines import Deadlines
from furcate.runtime.graph.let import literal, run_let
from furcate.runtime.graph.limits import Limits
from furcate.runtime.graph.outbox import Outbox
from furcate.runtime.graph.pins import Pins
from furcate.runtime.graph.program import Program
from furcate.runtime.graph.rewind import rewind
from furcate.runtime.graph.roles import Roles
from furcate.runtime.graph.seeds import generation_seed
from furcate.runtime.graph.sessions import Sessions
from furcate.runtime.graph.setting import KEPT_CHARS, Setting
from furcate.runtime.graph.streams import Streams
from furcate.runtime.graph.tail import ForkPoint, Tail
from furcate.runtime.tokenize.byte_level import ByteTokenizer
from furcate.runtime.tokenize.template import ChatTemplate
from furcate.runtime.tokenize.turns import Turn

TEXTS = Ready(["a", "bc"], None)


def unlimited(num_chars: int) -> None:
    return None


@pytest.mark.parametrize(
    ("op", "args", "result"),
    [
        ("concat", (", ", "a", 1, 0.5, True, None), "a, 1, 0.5, True, None"),
        ("concat", ("-",), ""),
        ("strip", (" a ",), "a"),
        ("strip", ("xax", "x"), "a"),
        ("lstrip", (" a ",), "a "),
        ("rstrip", (" a ",), " a"),
        ("lower", ("Ä",), "ä"),
        ("upper", ("ß",), "SS"),
        ("replace", ("aba", "a", "xy"), "xybxy"),
        ("replace", ("ab", "", "-"), "-a-b-"),
        ("removeprefix", ("abc", "ab"), "c"),
        ("removesuffix", ("abc", "x"), "abc"),
        ("len", ("äb",), 2),
        ("item", ('{"a": {"b": [1]}}', "a"), '{"b":[1]}'),
        ("item", ("[1, 2.5, null]", 1), 2.5),
        ("item", ("[1, 2.5, null]", -1), None),
        ("item", ("[100000000000000000000]", 0), "100000000000000000000"),
    ],
)
def test_let_does_what_python_does(op: str, args: tuple[object, ...], result: object) -> None:
    assert run_let(op, [literal(arg) for arg in args], unlimited).data == result


def test_let_takes_a_list_where_that_makes_sense() -> None:
    assert run_let("len", [TEXTS], unlimited).data == 2
    assert run_let("item", [TEXTS, literal(1)], unlimited) == Ready("bc", "bc")
    with pytest.raises(UsageError, match="list"):
        run_let("strip", [TEXTS], unlimited)


@pytest.mark.parametrize(
    ("op", "args", "words"),
    [
        ("strip", (), "operands"),
        ("replace", ("a", "b"), "operands"),
        ("item", ("[1]", 5), "no 5"),
        ("item", ("[1]", "a"), "no 'a'"),
        ("item", ("{}", "a"), "no 'a'"),
        ("item", ("nonsense", 0), "JSON"),
        ("item", ("[1]", True), "index or a key"),
        ("item", ("[" * 100_000, 0), "JSON"),
    ],
)
def test_let_names_what_it_cannot_do(op: str, args: tuple[object, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run_let(op, [literal(arg) for arg in args], unlimited)


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("concat", ("x" * 60, "a", "b")),
        ("replace", ("a" * 20, "a", "xxxxxx")),
        ("replace", ("a" * 20, "", "xxxxxx")),
        ("upper", ("a" * 60,)),
    ],
)
def test_let_says_how_much_text_it_will_make_before_it_makes_it(
    op: str, args: tuple[str, ...]
) -> None:
    def at_most_100(num_chars: int) -> None:
        if num_chars > 100:
            raise CapacityError("too much")

    with pytest.raises(CapacityError):
        run_let(op, [literal(arg) for arg in args], at_most_100)


def test_a_seed_is_fixed_for_ever() -> None:
    assert generation_seed(0, (), 0) == 11619761522075635141
    assert generation_seed(2**64 - 1, (0, 3, 1), 2, 5) == 15646479006306296472
    assert generation_seed(-1, (0, 3, 1), 2, 5) == generation_seed(2**64 - 1, (0, 3, 1), 2, 5)


def test_seeds_of_different_places_differ() -> None:
    places = [
        (seed, path, ordinal, sample)
        for seed in (0, 1)
        for path in ((), (0,), (0, 0), (0, 1), (1, 0))
        for ordinal in range(3)
        for sample in range(3)
    ]
    assert len({generation_seed(*place) for place in places}) == len(places)


MERGES = {"is ": 300, "is y": 301, "yes": 302}


def encode_merged(texts: list[str]) -> list[list[int]]:
    """Greedy longest match over a few words, else one id a character."""

    def one(text: str) -> list[int]:
        ids = []
        while text:
            word = max((w for w in MERGES if text.startswith(w)), key=len, default=text[0])
            ids.append(MERGES.get(word, ord(word[0])))
            text = text[len(word) :]
        return ids

    return [one(text) for text in texts]


def test_a_select_keeps_what_every_choice_leaves_of_the_prompt() -> None:
    kept = rewind(encode_merged, "it is ", ("no", "maybe"))
    assert kept.prompt == (ord("i"), ord("t"), ord(" "), 300)
    assert (kept.choices[0], kept.num_rewound) == ((ord("n"), ord("o")), 0)
    anew = rewind(encode_merged, "it is ", ("yes", "no"))
    assert anew.prompt == (ord("i"), ord("t"), ord(" "))
    assert anew.choices == ((301, ord("e"), ord("s")), (300, ord("n"), ord("o")))
    assert anew.num_rewound == 1
    nothing = rewind(encode_merged, "", ("yes", "no"))
    assert (nothing.prompt, nothing.choices[0]) == ((), (302,))


@given(st.text("is yeno", max_size=12), st.lists(st.text("yesno i", min_size=1), min_size=1))
def test_prompt_and_choice_are_together_the_ids_of_both(run: str, choices: list[str]) -> None:
    choices = list(dict.fromkeys(choices))
    rewound = rewind(encode_merged, run, choices)
    for choice, ids in zip(choices, rewound.choices, strict=True):
        assert [list(rewound.prompt + ids)] == encode_merged([run + choice])


def test_a_tail_encodes_a_run_as_a_whole_and_ends_it_at_ids_and_forks() -> None:
    tail, point = Tail(), ForkPoint()
    for item in ("a", "", "b", Exact((9,), "<9>"), "c", point, "d", "e"):
        tail.add(item)
    runs: list[str] = []

    def encode(run: list[str]) -> list[int]:
        runs.append("".join(run))
        return [len(runs[-1])]

    assert list(tail.stretches(encode, point)) == [([2, 9, 1], point)]
    tail.discard(point)
    assert tail.open_run == ["d", "e"]
    tail.close_run((7, 8))
    assert list(tail.stretches(encode, None)) == [([7, 8], None)]
    assert runs == ["ab", "c"]


def test_roles_follow_the_template_and_their_own_order() -> None:
    template = ChatTemplate(ByteTokenizer())
    roles, prefix = Roles().begin("user", template)
    assert prefix == (Exact((257,), "<|im_start|>"), "user\n")
    assert roles.open_role == "user"
    with pytest.raises(UsageError, match="inside role 'user'"):
        roles.begin("assistant", template)
    with pytest.raises(UsageError, match="open role is 'user'"):
        roles.end("assistant")
    closed, suffix = roles.end("user")
    assert suffix == (Exact((258,), "<|im_end|>"), "\n")
    assert closed.open_role is None
    assert closed.past == (Turn("user"),)


def written(*said: str, source: str, ends: bool = True) -> str:
    """What one user's turn with these texts reads as; "<gen>" stands for a generation."""
    roles, pieces = Roles().begin("user", ChatTemplate(ByteTokenizer(chat_template=source)))
    parts = [*pieces]
    for text in said:
        if text == "<gen>":
            roles, pieces = roles.say_exactly(is_generated=True)
        else:
            roles, pieces, text = roles.say(text)
        parts += [*pieces, text]
    if ends:
        parts += roles.end("user")[1]
    return "".join(part.spelling if isinstance(part, Exact) else part for part in parts)


TRIMMING = "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (("  a  ",), "[a]"),
        ((" ", "\n", " a", " ", "b\n", " "), "[a b]"),
        ((" ", "<gen>", " "), "[<gen>]"),
        (("a ", "<gen>", " b "), "[a <gen> b]"),
        ((" ", " "), "[]"),
        ((), "[]"),
    ],
)
def test_a_turn_is_trimmed_where_its_template_trims_and_the_program_has_spoken(
    said: tuple[str, ...], text: str
) -> None:
    assert written(*said, source=TRIMMING) == text


def test_what_begins_a_turn_waits_where_it_depends_on_who_speaks() -> None:
    source = (
        "{% for m in messages %}[{{ ' ' if m.role == 'assistant' }}{{ m.content }}]{% endfor %}"
        "{% if add_generation_prompt %}[{% endif %}"
    )
    template = ChatTemplate(ByteTokenizer(chat_template=source))
    roles, _ = Roles().begin("user", template)
    roles, _ = roles.end("user")
    opened, pieces = roles.begin("assistant", template)
    assert pieces == ()
    given, opening, said = opened.say("yes")
    assert (opening, said) == (("[ ",), "yes")
    generated, opening = opened.say_exactly(is_generated=True)
    assert opening == ("[",)
    assert opened.end("assistant")[1] == ("[ ", "]")
    assert given.end("assistant")[0].past[-1] == Turn("assistant")
    assert generated.end("assistant")[0].past[-1] == Turn("assistant", is_generated=True)


def test_a_template_that_rewrites_history_is_refused_unless_the_program_allows_it() -> None:
    source = (
        "{% for m in messages %}{{ m['role'] }}{{ '!' if loop.last else '?' }}"
        "{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}assistant!{% endif %}"
    )
    template = ChatTemplate(ByteTokenizer(chat_template=source))
    for rewrites in (False, True):
        roles, _ = Roles(rewrites=rewrites).begin("user", template)
        roles, _ = roles.end("user")
        if rewrites:
            assert roles.begin("user", template)[0].open_role == "user"
        else:
            with pytest.raises(TemplateError):
                roles.begin("user", template)


def test_deadlines_come_in_order_and_forget_what_has_ended() -> None:
    deadlines = Deadlines()
    outbox = Outbox()
    setting = Setting(ByteTokenizer(), None, FakeEngine().ready(), None)  # no limit is looked at
    sessions = Sessions(Limits(), Pins(outbox, 1))
    programs = [
        Program(i, i, Options(seed=0), setting, Streams(outbox), lambda event: None, sessions)
        for i in range(100)
    ]
    for program in programs:
        deadlines.add(100.0 - program.serial, program)
    assert deadlines.next() == 1.0
    for program in programs[50:]:
        program.abort("cancelled", "no")
    assert deadlines.next() == 51.0
    assert deadlines.due(50.0) == []
    assert deadlines.due(52.0) == [programs[49], programs[48]]
    assert len(deadlines) == 48


def test_the_setting_remembers_short_texts_and_encodes_all_alike() -> None:
    codec = ByteTokenizer()
    setting = Setting(codec, None, FakeEngine().ready(), None)
    for text in ("abc", "abc", "é" * (KEPT_CHARS + 1)):
        assert setting.encode(text) == tuple(codec.encode(text))

"""The conversations of the most used model families, against transformers.

tests/fixtures/chat_formats restates how each family writes a conversation without tools: one
template a family, and its control tokens. Ids are compared, over one small vocabulary.
"""

from __future__ import annotations

import itertools
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers, trainers

from furcate.errors import TemplateError
from furcate.runtime.graph.roles import RolePieces, Roles
from furcate.runtime.tokenize.pretokenize import rule_for
from furcate.runtime.tokenize.template import ChatTemplate
from furcate.runtime.tokenize.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import transformers

    from furcate.runtime.graph.content import Exact

FORMATS = Path(__file__).parents[2] / "fixtures" / "chat_formats"
FAMILIES: dict[str, dict[str, object]] = json.loads((FORMATS / "families.json").read_text())
NOW = datetime(2031, 5, 4)
PRE = "gpt-2"
S, U, A = "system", "user", "assistant"

SEQUENCES = [(U,), (S, U), (U, A), (S, U, A), (U, A, U), (U, A, U, A, U), (S, U, A, U, A), (U, U)]
CONTENTS = {
    "plain": ["Be brief.", "What is a fork?", "A tine.", "And two?", "Tines."],
    "spaces": ["  indented", "trailing  ", "\n\nlines\n", " both ", "\ttab\t\n"],
    "unicode": ["Sé breve 🍴", "¿Qué?", "日本語です。", "e\u0301", "\u00a0nbsp\u00a0"],
}

# Where a template itself says no, and where it rewrites what it has written: with given turns.
ALTERNATING = {
    *("llama-2", "mistral-7b-v0.1", "mistral-7b-v0.3", "mistral-nemo", "mixtral-8x7b"),
    *("gemma-2", "gemma-3", "command-r"),
}
WITHOUT_SYSTEM = {"mistral-7b-v0.1", "gemma-2"}


def refuses(family: str, roles: Sequence[str]) -> bool:
    return (family in ALTERNATING and roles == (U, U)) or (family in WITHOUT_SYSTEM and S in roles)


def rewrites(family: str, roles: Sequence[str]) -> bool:
    if family == "mistral-nemo":  # the system's words move to the last user's turn
        return S in roles and A in roles
    return family == "qwen3" and (A, U) in itertools.pairwise(roles)


class _StoppedClock(datetime):
    @classmethod
    def now(cls, tz: object = None) -> _StoppedClock:
        return cls(NOW.year, NOW.month, NOW.day)


@pytest.fixture(autouse=True)
def _one_date_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", _StoppedClock)


class World:
    """One family's template over a vocabulary that both sides share."""

    def __init__(self, family: str) -> None:
        facts = FAMILIES[family]
        controls = [str(name) for name in facts["controls"]]  # type: ignore[attr-defined]
        source = (FORMATS / f"{family}.jinja").read_text().rstrip("\n")
        tokens, merges = vocabulary()
        names = {"bos": facts["bos"], "eos": facts["eos"]}
        metadata: dict[str, object] = {
            "general.name": family,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": PRE,
            "tokenizer.ggml.tokens": [*tokens, *controls],
            "tokenizer.ggml.token_type": [1] * len(tokens) + [3] * len(controls),
            "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
            "tokenizer.chat_template": source,
        }
        for name, token in names.items():
            if token is not None:
                number = len(tokens) + controls.index(str(token))
                metadata[f"tokenizer.ggml.{name}_token_id"] = number
        self.codec = Tokenizer.from_header(_Header(metadata))
        self.chat = ChatTemplate(self.codec, now=NOW)
        self.reference = _reference(tokens, merges, controls, names, source)

    def expected(self, messages: list[dict[str, str]], prompts: bool = False) -> list[int]:
        return list(
            self.reference.apply_chat_template(
                messages,
                tokenize=True,
                add_generation_prompt=prompts,
                return_dict=False,
                date_string=NOW.strftime("%d %b %Y"),
            )
        )

    def as_program(self, turns: Sequence[tuple[str, str]], prompts: bool = False) -> list[int]:
        """The ids of a program that says the turns one after the other."""
        pieces: list[str | Exact] = []
        roles = Roles()

        def write(more: RolePieces) -> None:
            pieces.extend(more)

        for role, content in turns:
            roles, opening = roles.begin(role, self.chat)
            write(opening)
            roles, opening, text = roles.say(content)
            write((*opening, text))
            roles, suffix = roles.end(role)
            write(suffix)
        if prompts:
            roles, opening = roles.begin(A, self.chat)
            write(opening)
            write(roles.say_exactly(is_generated=True)[1])
        else:
            write(roles.ending)
        return self._ids(pieces)

    def _ids(self, pieces: Sequence[str | Exact]) -> list[int]:
        ids: list[int] = []
        run = ""
        for piece in pieces:
            if isinstance(piece, str):
                run += piece
                continue
            ids += [*self.codec.encode(run), *piece.ids]
            run = ""
        return ids + self.codec.encode(run)


class _Header:
    def __init__(self, metadata: dict[str, object]) -> None:
        self.metadata = metadata


@cache
def vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """Byte-level BPE learnt from this file."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = rule_for(PRE).build()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator([Path(__file__).read_text()], trainer)
    model = json.loads(trained.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tokens, [tuple(pair) for pair in model["merges"]]


def _reference(
    tokens: Sequence[str],
    merges: Sequence[tuple[str, str]],
    controls: Sequence[str],
    names: dict[str, object],
    source: str,
) -> transformers.PreTrainedTokenizerFast:
    import transformers

    backend = tokenizers.Tokenizer(
        models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=list(merges))
    )
    backend.pre_tokenizer = rule_for(PRE).build()
    backend.add_special_tokens([AddedToken(name, special=True) for name in controls])
    given = {f"{name}_token": token for name, token in names.items() if token is not None}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **given)
    made.chat_template = source
    return made


@cache
def world(family: str) -> World:
    return World(family)


def conversation(roles: Sequence[str], contents: Sequence[str]) -> list[tuple[str, str]]:
    return list(
        zip(roles, contents if roles[0] == S else contents[1:] + contents[:1], strict=False)
    )


def as_messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


@pytest.mark.parametrize("roles", SEQUENCES, ids="-".join)
@pytest.mark.parametrize("family", FAMILIES)
def test_given_turns_have_the_ids_of_the_models_own_template(
    family: str, roles: tuple[str, ...]
) -> None:
    side = world(family)
    for contents in CONTENTS.values():
        turns = conversation(roles, contents)
        if refuses(family, roles):
            with pytest.raises(TemplateError, match=r"with the roles .*: use others"):
                side.as_program(turns)
            with pytest.raises(Exception, match=r"alternate|supported|only"):
                side.expected(as_messages(turns))
        elif rewrites(family, roles):
            with pytest.raises(TemplateError, match=r'rewrites earlier turns.*template="append"'):
                side.as_program(turns)
        else:
            assert side.as_program(turns) == side.expected(as_messages(turns))
            assert side.chat.ids(as_messages(turns)) == side.expected(as_messages(turns))  # type: ignore[arg-type]


@pytest.mark.parametrize("roles", [(U,), (S, U), (U, A, U)], ids="-".join)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_that_the_model_is_to_say_begins_with_the_generation_prompt(
    family: str, roles: tuple[str, ...]
) -> None:
    if refuses(family, roles) or rewrites(family, roles):
        return
    side, turns = world(family), conversation(roles, CONTENTS["spaces"])
    expected = side.expected(as_messages(turns), prompts=True)
    if family == "yi-1.5":  # what it puts behind a user's turn is its generation prompt
        assert side.as_program(turns) == expected
    assert side.as_program(turns, prompts=True) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_chat_of_generated_turns_goes_on_unless_the_template_drops_what_it_prompts_with(
    family: str,
) -> None:
    chat = world(family).chat
    roles = Roles()
    for turn, role in enumerate((U, A, U, A)):
        if family == "deepseek-r1" and turn == 2:
            with pytest.raises(TemplateError, match="rewrites earlier turns"):
                roles.begin(role, chat)
            return
        roles, _ = roles.begin(role, chat)
        if role == A:
            roles, _ = roles.say_exactly(is_generated=True)
        else:
            roles, _, _ = roles.say("hello")
        roles, _ = roles.end(role)


@pytest.mark.parametrize("family", ["qwen3", "mistral-nemo", "deepseek-r1"])
def test_append_keeps_what_was_written_of_a_template_that_rewrites(family: str) -> None:
    chat = world(family).chat
    roles, written = Roles(rewrites=True), ""
    for role in (S, U, A, U, A):
        roles, opening = roles.begin(role, chat)
        written += _read(opening)
        if role == A:
            roles, opening = roles.say_exactly(is_generated=True)
            written += _read(opening) + "<generated>"
        else:
            roles, opening, text = roles.say(role)
            written += _read(opening) + text
        roles, suffix = roles.end(role)
        written += _read(suffix)
    assert written.count("<generated>") == 2
    assert written.count("user") >= 2


@pytest.mark.parametrize("family", FAMILIES)
def test_text_that_spells_a_control_token_stays_text(family: str) -> None:
    side = world(family)
    controls = [str(name) for name in FAMILIES[family]["controls"]]  # type: ignore[attr-defined]
    plain = side.as_program([(U, "x")])
    spelled = side.as_program([(U, "".join(controls))])
    marks = side.codec.control_ids
    assert [i for i in plain if i in marks] == [i for i in spelled if i in marks]


def _read(pieces: RolePieces) -> str:
    return "".join(piece if isinstance(piece, str) else piece.spelling for piece in pieces)

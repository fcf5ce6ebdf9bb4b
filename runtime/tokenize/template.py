"""A conversation in the form that a model was trained on, turn by turn.

The model's own chat template is rendered over stand-ins for the turns' contents, so what a template
sees never depends on data, and what it writes around a turn is known before the turn's content is.
The template's own text may spell control tokens; a content cannot.

A template that edits a content (trims it, say) cannot be seen doing so: a content stands as it is.
This module does not know programs, requests, or which turn is generated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypedDict

from furcate.errors import TemplateError

from .sandbox import TemplateProgram

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .base import TextCodec

__all__ = ["ChatTemplate", "Control", "Edge", "Message", "Mode", "Piece", "encode_pieces"]

ASSISTANT = "assistant"
CACHED_EDGES = 1_024
CACHED_RENDERINGS = 32
SHOWN_CHARACTERS = 400

# A role is printed by the template next to control tokens, so it may spell nothing else.
ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

Mode = Literal["strict", "append"]


class Message(TypedDict):
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Control:
    """A control token that the template wrote."""

    name: str
    id: int


Piece = str | Control


@dataclass(frozen=True, slots=True)
class Edge:
    """What stands before and after a turn's content."""

    prefix: tuple[Piece, ...]
    suffix: tuple[Piece, ...]


def encode_pieces(codec: TextCodec, pieces: Iterable[Piece]) -> list[int]:
    """The ids of pieces in a row: text between two control tokens is encoded as a whole."""
    ids: list[int] = []
    run: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            run.append(piece)
            continue
        ids += codec.encode("".join(run))
        ids.append(piece.id)
        run.clear()
    return ids + codec.encode("".join(run))


class ChatTemplate:
    """The chat template of a codec's model. Immutable, safe from any thread.

    `now` is the time that `strftime_now` sees: one moment for the template's life, so that a
    conversation that goes past midnight keeps its beginning.
    """

    def __init__(self, codec: TextCodec, *, now: datetime | None = None) -> None:
        if codec.chat_template is None:
            raise TemplateError(
                f"{codec.name} has no chat template; write the prompt as text without roles, "
                "or use a model that was trained for chat"
            )
        self._codec = codec
        self._program = TemplateProgram(
            codec.chat_template, name=codec.name, now=now or datetime.now()
        )
        names = sorted(codec.control_names, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, names))) if names else None
        self._edges = lru_cache(CACHED_EDGES)(self._compute_edge)
        self._rendered = lru_cache(CACHED_RENDERINGS)(self._render_stand_ins)

    def edges(self, roles: tuple[str, ...], mode: Mode = "strict") -> Edge:
        """What stands around the content of the last role, after the roles before it.

        The prefix begins where the suffix of the role before it ends. An assistant's prefix is
        the template's generation prompt. With "strict", a template that renders a turn differently
        once another follows is an error; with "append", what was written stays as it was.
        """
        if not roles:
            raise TemplateError("a conversation has at least one role, got ()")
        for role in roles:
            if not ROLE.fullmatch(role):
                raise TemplateError(
                    f"{role!r:.80} is no role: a letter, then at most 63 letters, digits, '_', "
                    "'.' or '-'"
                )
        return self._edges(roles, mode)

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """The conversation as one text, for people: as ids, use `ids`."""
        plain = [{"role": str(m["role"]), "content": str(m["content"])} for m in messages]
        return self._run(plain, add_generation_prompt)

    def ids(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = False,
        mode: Mode = "strict",
    ) -> list[int]:
        """The conversation's ids. No content becomes a control token, whatever it spells."""
        pieces: list[Piece] = []
        roles: tuple[str, ...] = ()
        for message in messages:
            roles += (message["role"],)
            edge = self.edges(roles, mode)
            pieces += [*edge.prefix, message["content"], *edge.suffix]
        if add_generation_prompt:
            pieces += self.edges((*roles, ASSISTANT), mode).prefix
        return encode_pieces(self._codec, pieces)

    def _compute_edge(self, roles: tuple[str, ...], mode: Mode) -> Edge:
        earlier, role = roles[:-1], roles[-1]
        before = self._rendered(earlier, False) if earlier else ""
        whole = self._rendered(roles, False)
        stand_in = _stand_in(len(roles) - 1)
        if whole.count(stand_in) != 1:
            raise TemplateError(
                f"the chat template of {self._codec.name} writes the content of turn {len(roles)} "
                f"of {roles} {whole.count(stand_in)} times, must be once; use other roles"
            )
        head, _, suffix = whole.partition(stand_in)
        if head.startswith(before):
            prefix = head.removeprefix(before)
        elif mode == "append":
            prefix = self._appended(roles, head)
        else:
            raise self._rewritten(roles, before, whole)
        if role == ASSISTANT and earlier:  # nothing prompts for a first turn
            prefix = self._generation_prompt(roles, before, prefix, mode)
        return Edge(self._pieces(prefix), self._pieces(suffix))

    def _generation_prompt(
        self, roles: tuple[str, ...], before: str, prefix: str, mode: Mode
    ) -> str:
        """The prefix of an assistant's turn; `prefix` is what the finished turn shows."""
        opened = self._rendered(roles[:-1], True)
        if opened == before + prefix:
            return prefix
        if mode == "append":
            return opened.removeprefix(before) if opened.startswith(before) else prefix
        raise self._rewritten(roles, opened, before + prefix)

    def _appended(self, roles: tuple[str, ...], head: str) -> str:
        """The last turn's prefix where the template has changed what stands before it."""
        last = _stand_in(len(roles) - 2)
        if last not in head:
            return self._rendered(roles[-1:], False).partition(_stand_in(0))[0]
        written = self._rendered(roles[:-1], False).rpartition(last)[2]
        return head.rpartition(last)[2].removeprefix(written)

    def _rewritten(self, roles: tuple[str, ...], shorter: str, longer: str) -> TemplateError:
        return TemplateError(
            f"the chat template of {self._codec.name} rewrites earlier turns: with roles {roles} "
            f"it gives {_shown(longer)}, which does not begin with {_shown(shorter)} that was "
            'already written; choose template="append" to keep what was written'
        )

    def _render_stand_ins(self, roles: tuple[str, ...], add_generation_prompt: bool) -> str:
        messages = [{"role": role, "content": _stand_in(i)} for i, role in enumerate(roles)]
        return self._run(messages, add_generation_prompt)

    def _run(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        return self._program.render(
            {
                **self._codec.template_variables,
                "messages": messages,
                "add_generation_prompt": add_generation_prompt,
                "tools": None,
                "documents": None,
            }
        )

    def _pieces(self, text: str) -> tuple[Piece, ...]:
        pieces: list[Piece] = []
        position = 0
        for match in self._controls.finditer(text) if self._controls else ():
            pieces += [text[position : match.start()]] * (position < match.start())
            pieces.append(Control(match[0], self._codec.control(match[0])))
            position = match.end()
        return (*pieces, *([text[position:]] * (position < len(text))))


def _stand_in(turn: int) -> str:
    """Characters for private use around the turn's number: no template writes them by itself."""
    return f"\ue000turn {turn}\ue001"


def _shown(text: str) -> str:
    """The text for a message, its stand-ins as they would be read."""
    readable = re.sub("\ue000turn (\\d+)\ue001", r"<content \1>", text)
    if len(readable) > SHOWN_CHARACTERS:
        readable = "..." + readable[-SHOWN_CHARACTERS:]
    return repr(readable)

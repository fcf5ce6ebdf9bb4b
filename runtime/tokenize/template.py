"""A conversation in the form that a model was trained on, turn by turn.

The model's own chat template is rendered over stand-ins for the turns' contents, so what a template
sees never depends on data, and what it writes around a turn is known before the turn's content is.
The template's own text may spell control tokens; a content cannot.

Of what a template does to a content only trimming can be seen, by stand-ins with white space around
them; what depends on the content's own words cannot. A turn may begin in two ways: the model is
prompted for it, or its text is given. This module does not know programs or requests.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from furcate.errors import TemplateError

from .sandbox import TemplateProgram
from .turns import Control, Edge, Trims, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .base import Place, TextCodec
    from .turns import Message, Mode, Piece

__all__ = ["ChatTemplate", "encode_pieces"]

ASSISTANT, USER = "assistant", "user"
PADS = ("\n", " ")  # white space that templates are known to strip, alone or with all other
CACHED_EDGES = 1_024
CACHED_RENDERINGS = 32
SHOWN_CHARACTERS = 400

# A role is printed by the template next to control tokens, so it may spell nothing else.
ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def encode_pieces(codec: TextCodec, pieces: Iterable[Piece]) -> list[int]:
    """The ids of pieces in a row: text between two control tokens is encoded as a whole."""
    ids: list[int] = []
    run: list[str] = []
    place: Place = "start"
    for piece in pieces:
        if isinstance(piece, str):
            run.append(piece)
            continue
        ids += codec.encode(codec.placed("".join(run), place))
        ids.append(piece.id)
        run.clear()
        place = "control"
    return ids + codec.encode(codec.placed("".join(run), place))


class _View(NamedTuple):
    """A rendering before and after the stand-in of its last turn. `is_ahead`: there is a user's
    turn behind it, up to whose content the suffix goes."""

    head: str
    suffix: str
    is_ahead: bool = False


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

    def edges(self, past: tuple[Turn, ...], role: str, mode: Mode = "strict") -> Edge:
        """What stands around the content of a turn of that role, after the turns before it.

        The edge begins where the suffix of the turn before it ends. With "strict", a template that
        renders a turn differently once another follows is an error; with "append", what was written
        stays as it was.
        """
        if not ROLE.fullmatch(role):
            raise TemplateError(
                f"{role!r:.80} is no role: a letter, then at most 63 letters, digits, '_', '.' or "
                "'-'"
            )
        return self._edges(past, role, mode)

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
        past: tuple[Turn, ...] = ()
        ending: tuple[Piece, ...] = ()
        for message in messages:
            edge = self.edges(past, message["role"], mode)
            if edge.refusal is not None:
                raise TemplateError(edge.refusal)
            content = message["content"].lstrip(edge.trims.left).rstrip(edge.trims.right)
            pieces += [*edge.given, content, *edge.suffix]
            past += (Turn(message["role"]),)
            ending = edge.ending
        pieces += self.edges(past, ASSISTANT, mode).prompted if add_generation_prompt else ending
        return encode_pieces(self._codec, pieces)

    def _compute_edge(self, past: tuple[Turn, ...], role: str, mode: Mode) -> Edge:
        roles = (*_roles(past), role)
        view = self._view(roles)
        problem: TemplateError | None = None
        given = self._after(past, view.head, mode)
        if given is None and mode == "append":
            given = self._appended(roles, view.head)
        elif given is None:
            whole = view.head + _stand_in(len(past)) + view.suffix
            given, problem = "", self._rewritten(roles, past, mode, whole)
        prompted = given
        if role == ASSISTANT and past:  # nothing prompts for a first turn
            prompted = self._prompt(past, given, mode)
        elif problem is not None:
            raise problem
        suffix, ending = self._split_tail(roles, view)
        return Edge(
            self._pieces(given),
            self._pieces(prompted),
            self._pieces(suffix),
            self._pieces(ending),
            self._trims(roles, view),
            None if problem is None else str(problem),
        )

    def _after(self, past: tuple[Turn, ...], text: str, mode: Mode) -> str | None:
        """What a rendering says after these turns as they were written; None where it says them
        differently. A generated turn says itself what only a given one begins with."""
        for turn, (each, edge) in enumerate(self._edges_of(past, mode)):
            given, prompted = _spell(edge.given), _spell(edge.prompted)
            opening = prompted if each.is_generated else given
            rest = _stand_in(turn) + _spell(edge.suffix)
            if given.startswith(opening) and text.startswith(given + rest):
                opening = given
            if not text.startswith(opening + rest):
                return None
            text = text.removeprefix(opening + rest)
        return text

    def _edges_of(self, past: tuple[Turn, ...], mode: Mode) -> Iterator[tuple[Turn, Edge]]:
        for turn, each in enumerate(past):
            yield each, self._edges(past[:turn], each.role, mode)

    def _prompt(self, past: tuple[Turn, ...], given: str, mode: Mode) -> str:
        """What an assistant's turn begins with that the model is to generate."""
        earlier = _roles(past)
        opened = self._rendered(earlier, True)
        if opened == self._rendered(earlier, False) and given.strip():
            return given  # the template knows no generation prompt
        prompted = self._after(past, opened, mode)
        if prompted is not None:
            return prompted
        if mode == "append":
            return self._appended((*earlier, ASSISTANT), opened)
        raise self._rewritten(earlier, past, mode, opened)

    def _split_tail(self, roles: tuple[str, ...], view: _View) -> tuple[str, str]:
        """What follows the last content in any case, and what only where nothing else does."""
        stand_in = _stand_in(len(roles) - 1)
        try:
            opened = self._rendered(roles, True)
        except TemplateError:
            return view.suffix, ""
        if view.is_ahead or opened.count(stand_in) != 1:
            return view.suffix, ""
        tail = opened.partition(stand_in)[2]
        shared = _shared_beginning(self._pieces(view.suffix), self._pieces(tail))
        return shared, view.suffix.removeprefix(shared)

    def _view(self, roles: tuple[str, ...], pad: str = "") -> _View:
        """Of the rendering of these roles; `pad` is white space around the last content. A template
        that writes a turn only once a user's follows, such as one that makes the system's words
        part of it, is shown one."""
        last = len(roles) - 1
        problem: TemplateError | None = None
        try:
            whole = self._rendered(roles, False, pad)
        except TemplateError as error:
            problem, whole = error, ""
        if whole.count(_stand_in(last)) == 1:
            head, _, suffix = whole.partition(_stand_in(last))
            return _View(head, suffix)
        if roles[-1] != USER:
            view = self._view_before_user(roles, pad)
            if view is not None:
                return view
        if problem is not None:
            raise TemplateError(
                f"{problem}; with the roles {roles}: use others, or another order"
            ) from problem
        raise TemplateError(
            f"the chat template of {self._codec.name} writes the content of turn {len(roles)} "
            f"of {roles} {whole.count(_stand_in(last))} times, must be once; use other roles"
        )

    def _view_before_user(self, roles: tuple[str, ...], pad: str) -> _View | None:
        here, there = _stand_in(len(roles) - 1), _stand_in(len(roles))
        try:
            whole = self._rendered((*roles, USER), False, pad, len(roles) - 1)
        except TemplateError:
            return None
        if whole.count(here) != 1 or whole.count(there) != 1:
            return None
        head, _, rest = whole.partition(here)
        return _View(head, rest.partition(there)[0], True) if there in rest else None

    def _trims(self, roles: tuple[str, ...], view: _View) -> Trims:
        stripped: dict[str, tuple[bool, bool]] = {}
        for pad in PADS:
            padded = self._view(roles, pad)
            stripped[pad] = padded.head == view.head, padded.suffix == view.suffix
        sides = []
        for side in (0, 1):
            found = "".join(pad for pad in PADS if stripped[pad][side])
            sides.append(None if found == "".join(PADS) else found)
        return Trims(*sides)

    def _appended(self, roles: tuple[str, ...], head: str) -> str:
        """What the last turn begins with where the template has changed what stands before it."""
        last = _stand_in(len(roles) - 2)
        if last not in head:
            return self._view(roles[-1:]).head
        earlier = roles[:-1]
        written, _ = self._split_tail(earlier, self._view(earlier))
        return head.rpartition(last)[2].removeprefix(written)

    def _rewritten(
        self, roles: tuple[str, ...], past: tuple[Turn, ...], mode: Mode, text: str
    ) -> TemplateError:
        written = ""
        for turn, (each, edge) in enumerate(self._edges_of(past, mode)):
            opening = edge.prompted if each.is_generated else edge.given
            written += _spell(opening) + _stand_in(turn) + _spell(edge.suffix)
        return TemplateError(
            f"the chat template of {self._codec.name} rewrites earlier turns: with roles {roles} "
            f"it gives {_shown(text)}, which does not begin with {_shown(written)} that was "
            'already written; choose template="append" to keep what was written'
        )

    def _render_stand_ins(
        self, roles: tuple[str, ...], prompts: bool, pad: str = "", padded: int = -1
    ) -> str:
        """`pad` is put around the content of the turn `padded`."""
        contents = [_stand_in(i) for i in range(len(roles))]
        if pad:
            contents[padded] = pad + contents[padded] + pad
        messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
        return self._run(messages, prompts)

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


def _roles(past: Iterable[Turn]) -> tuple[str, ...]:
    return tuple(turn.role for turn in past)


def _spell(pieces: Iterable[Piece]) -> str:
    return "".join(piece if isinstance(piece, str) else piece.name for piece in pieces)


def _shared_beginning(one: Sequence[Piece], other: Sequence[Piece]) -> str:
    shared = ""
    for left, right in zip(one, other, strict=False):
        if left == right:
            shared += _spell((left,))
            continue
        if isinstance(left, str) and isinstance(right, str):
            equal = takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
            shared += "".join(char for char, _ in equal)
        break
    return shared


def _stand_in(turn: int) -> str:
    """Characters for private use around the turn's number: no template writes them by itself."""
    return f"\ue000turn {turn}\ue001"


def _shown(text: str) -> str:
    """The text for a message, its stand-ins as they would be read."""
    readable = re.sub("\ue000turn (\\d+)\ue001", r"<content \1>", text)
    if len(readable) > SHOWN_CHARACTERS:
        readable = "..." + readable[-SHOWN_CHARACTERS:]
    return repr(readable)

"""The seam between text and token ids.

`Vocabulary` is what every codec knows about its tokens; `TextCodec` is what the rest of the
runtime may ask of one. Nothing here knows how text is cut into tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from furcate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Place", "TextCodec", "Vocabulary", "utf8"]

# Where a text stands: at the start of a prompt, behind a control token, or behind other tokens that
# it goes on from.
Place = Literal["start", "control", "text"]

NAMES_IN_MESSAGES = 20


class TextCodec(Protocol):
    """Text to ids and back. Immutable: safe to share between threads."""

    @property
    def name(self) -> str: ...

    @property
    def table(self) -> list[bytes]:
        """The bytes of every id; b"" for a control token. Not to be changed."""
        ...

    @property
    def vocab_size(self) -> int:
        """How many ids have a meaning. The model's logits may be wider."""
        ...

    @property
    def control_names(self) -> Mapping[str, int]: ...

    @property
    def control_ids(self) -> frozenset[int]: ...

    @property
    def eos_ids(self) -> frozenset[int]: ...

    @property
    def bos_id(self) -> int | None: ...

    @property
    def adds_bos(self) -> bool:
        """Whether a plain prompt, one without a chat template, begins with `bos_id`."""
        ...

    @property
    def end_of_turn_ids(self) -> frozenset[int]: ...

    @property
    def fingerprint(self) -> str:
        """A sha256 that two codecs share only if they encode and decode alike."""
        ...

    @property
    def chat_template(self) -> str | None: ...

    @property
    def template_variables(self) -> Mapping[str, str]:
        """What a template may print by name: `bos_token`, `eos_token` and the like."""
        ...

    def encode(self, text: str) -> list[int]:
        """The ids of `text` as data: never a control id, whatever it spells."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode` for each text."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids' bytes together; what is not UTF-8 becomes U+FFFD."""
        ...

    def token_bytes(self, token_id: int) -> bytes: ...

    def placed(self, text: str, place: Place) -> str:
        """What is to be encoded for a text that stands there: vocabularies that SentencePiece made
        have a space before the first word."""
        ...

    def control(self, name: str) -> int:
        """The id of the control token of that exact name."""
        ...


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a model. Codecs are vocabularies that can encode."""

    name: str  # of the model, for messages
    table: list[bytes] = field(repr=False)
    control_names: Mapping[str, int] = field(repr=False)
    eos_ids: frozenset[int]
    bos_id: int | None
    adds_bos: bool
    end_of_turn_ids: frozenset[int]
    fingerprint: str
    chat_template: str | None = field(repr=False)
    template_variables: Mapping[str, str] = field(repr=False)
    control_ids: frozenset[int] = field(init=False, repr=False)  # those of control_names
    spaced: frozenset[Place] = field(default=frozenset(), kw_only=True)  # a text gets a space there
    doubles_spaces: bool = field(default=True, kw_only=True)  # also one that begins with a space

    @property
    def vocab_size(self) -> int:
        return len(self.table)

    def __post_init__(self) -> None:
        object.__setattr__(self, "control_ids", frozenset(self.control_names.values()))

    def control(self, name: str) -> int:
        found = self.control_names.get(name)
        if found is None:
            known = list(self.control_names)
            more = f" and {len(known) - NAMES_IN_MESSAGES} more" * (len(known) > NAMES_IN_MESSAGES)
            raise UsageError(
                f"{self.name} has no control token {name!r}; "
                f"it has {', '.join(known[:NAMES_IN_MESSAGES]) or 'none'}{more}"
            )
        return found

    def token_bytes(self, token_id: int) -> bytes:
        if not 0 <= token_id < len(self.table):  # a negative index would count from the end
            raise UsageError(
                f"{token_id!r} is no token id of {self.name}, which has 0 to {len(self.table) - 1}"
            )
        return self.table[token_id]

    def placed(self, text: str, place: Place) -> str:
        if not text or place not in self.spaced or (text[0] == " " and not self.doubles_spaces):
            return text
        return " " + text

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")


def utf8(text: str) -> bytes:
    """The bytes of `text`, or a UsageError where it holds half of a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"character {error.start} of the text, {text[error.start]!r}, is a lone surrogate and "
            "has no UTF-8 form; decode the text's source with errors='replace'"
        ) from error

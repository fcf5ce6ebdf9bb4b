"""What a model writes around its reasoning.

Known by their texts; a model has those that are tokens of its own, or that its chat template
writes. Knows no branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .content import Exact

if TYPE_CHECKING:
    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["Marker", "Markers", "markers_named", "model_markers"]

# The texts, and what stands between a marker and the text on either side of it where the runtime
# writes the marker.
KNOWN = (
    ("<think>", "</think>", "\n"),
    ("[THINK]", "[/THINK]", ""),
    ("<|START_THINKING|>", "<|END_THINKING|>", ""),
    ("◁think▷", "◁/think▷", ""),
)


@dataclass(frozen=True, slots=True)
class Marker:
    """`id` is the token that it is, if it is one. `is_control`: a token without bytes."""

    text: str
    id: int | None
    is_control: bool
    num_tokens: int

    @property
    def piece(self) -> str | Exact:
        """As it stands in a branch."""
        return self.text if self.id is None else Exact((self.id,), self.text)

    @property
    def stops(self) -> tuple[bytes, ...]:
        """Stop strings that end a generation where it comes."""
        return () if self.is_control else (self.text.encode(),)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return (self.id,) if self.is_control and self.id is not None else ()


@dataclass(frozen=True, slots=True)
class Markers:
    begin: Marker
    end: Marker
    gap: str = ""


def markers_named(codec: TextCodec, begin: str, end: str, gap: str = "") -> Markers:
    return Markers(_marker(codec, begin), _marker(codec, end), gap)


def model_markers(codec: TextCodec) -> Markers | None:
    """Those of the model; None for one that does not reason."""
    template = codec.chat_template or ""
    for begin, end, gap in KNOWN:
        markers = markers_named(codec, begin, end, gap)
        are_tokens = markers.begin.id is not None and markers.end.id is not None
        if are_tokens or begin in template or end in template:
            return markers
    return None


def _marker(codec: TextCodec, text: str) -> Marker:
    control = codec.control_names.get(text)
    if control is not None:
        return Marker(text, control, True, 1)
    data = text.encode()
    if data in codec.table:
        return Marker(text, codec.table.index(data), False, 1)
    return Marker(text, None, False, len(codec.encode(text)))

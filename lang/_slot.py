"""The place of one value of a program: empty when recorded, filled by an event."""

from __future__ import annotations

from dataclasses import dataclass, field

from furcate.errors import FurcateError, Truncated, WireError
from furcate.protocol.message import Data, ValueMeta

from ._output import TEXT, Output
from ._sampling import Report

__all__ = ["Failure", "Slot"]


@dataclass(eq=False, slots=True)
class Failure:
    """A node without a value. `observed` is set once the program has been told: the error was
    raised into it or read by it."""

    label: str
    location: str
    branch: int | None
    error: FurcateError
    observed: bool = False


@dataclass(eq=False, slots=True)
class Slot:
    """`data`, `meta`, `failure` and `pieces` (streamed text by sample) are filled by Results."""

    value_id: int
    label: str
    location: str
    branch: int | None
    name: str | None = None
    choices: tuple[str, ...] | None = None
    samples: int = 1
    output: Output = TEXT
    report: Report = field(default_factory=Report)
    settled: bool = False
    data: Data = None
    meta: ValueMeta | None = None
    failure: Failure | None = None
    pieces: dict[int, str] = field(default_factory=dict)
    _parsed: list[object] = field(default_factory=list)

    def text(self) -> str:
        """The text that stands in the branch: the choice of a select, the first of n samples."""
        return self.texts()[0]

    def texts(self) -> list[str]:
        if self.choices is not None:
            return [self.choices[self._choice()]]
        if isinstance(self.data, list):
            return [str(text) for text in self.data]
        return [str(self.data)]

    def value(self) -> object:
        """What the program sees. Raises Truncated or ValidationFailed where the text is no value of
        the type; parsed once, so it is always the same object."""
        parse = self.output.parse
        if parse is None:
            return self.data if self.choices is None else self.text()
        if not self._parsed:
            if self.output.whole:
                self._check_whole()
            values = [parse(text) for text in self.texts()]
            self._parsed.append(values if self.samples > 1 else values[0])
        return self._parsed[0]

    def _choice(self) -> int:
        if self.choices is None or not isinstance(self.data, int):
            raise WireError(f"{self.label} got {self.data!r}, which is no index of a choice")
        if not 0 <= self.data < len(self.choices):
            raise WireError(f"{self.label} got choice {self.data!r} of {len(self.choices)}")
        return self.data

    def _check_whole(self) -> None:
        meta = self.meta if self.meta is not None else ValueMeta()
        if "length" in (meta.finish, *meta.finishes):
            raise Truncated(
                f"the output was cut at its token limit before it was complete: "
                f"{self.texts()[0][-200:]!r}. Raise max_tokens"
            )

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
    is_output: bool = False  # of a gen or select: its text is the branch's, and streams
    output: Output = TEXT
    report: Report = field(default_factory=Report)
    settled: bool = False
    data: Data = None
    meta: ValueMeta | None = None
    failure: Failure | None = None
    pieces: dict[int, str] = field(default_factory=dict)
    told: FurcateError | None = None  # the last failure of it that this process has told of
    _parsed: list[object] = field(default_factory=list)

    def text(self) -> str:
        """The text that stands in the branch: the choice of a select, the first of n samples."""
        return self.texts()[0]

    def texts(self) -> list[str]:
        return self._texts(self.data)

    def value(self) -> object:
        """What the program sees. Raises Truncated or ValidationFailed where the text is no value of
        the type; parsed once, so it is always the same object."""
        if self.output.parse is None:
            return self._read(self.data)
        if not self._parsed:
            if self.output.whole:
                self._check_whole()
            self._parsed.append(self._read(self.data))
        return self._parsed[0]

    def read_as(self, source: Slot) -> None:
        """The data was copied from that value, and means what it means there."""
        self.output, self.choices, self.samples = source.output, source.choices, source.samples
        self.meta = self.meta if self.meta is not None else source.meta

    def read(self, data: Data) -> object:
        """What the program sees of data that was told of this value elsewhere: in a region it has
        other data each time."""
        return self.value() if self.settled and self.data == data else self._read(data)

    def _read(self, data: Data) -> object:
        parse = self.output.parse
        if parse is None:
            return data if self.choices is None else self._texts(data)[0]
        values = [parse(text) for text in self._texts(data)]
        return values if self.samples > 1 else values[0]

    def _texts(self, data: Data) -> list[str]:
        if self.choices is not None:
            return [self._choice(self.choices, data)]
        if isinstance(data, list):
            return [str(text) for text in data]
        return [str(data)]

    def _choice(self, choices: tuple[str, ...], index: Data) -> str:
        if not isinstance(index, int):
            raise WireError(f"{self.label} got {index!r}, which is no index of a choice")
        if not 0 <= index < len(choices):
            raise WireError(f"{self.label} got choice {index!r} of {len(choices)}")
        return choices[index]

    def _check_whole(self) -> None:
        meta = self.meta if self.meta is not None else ValueMeta()
        if "length" in (meta.finish, *meta.finishes):
            raise Truncated(
                f"the output was cut at its token limit before it was complete: "
                f"{self.texts()[0][-200:]!r}. Raise max_tokens"
            )

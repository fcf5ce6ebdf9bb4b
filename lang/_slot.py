"""The place of one value of a program: empty when recorded, filled by an event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.errors import FurcateError, GenerationError, Truncated, WireError
from furcate.protocol.message import Data, Element, ValueMeta

from ._output import TEXT, Output
from ._sampling import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._enclosure import Enclosure

__all__ = ["Failure", "Slot", "value_id_of"]


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
    """`data`, `meta`, `failure` and `pieces` (streamed text by sample, `parts` as it came) are
    filled by Results."""

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
    parts: dict[int, list[str]] = field(default_factory=dict)
    enclosure: Enclosure | None = None  # of a value in a region: each run has another one
    reasoning: Slot | None = None  # what was thought before this output
    is_copy: bool = False  # of a value that is told of too
    is_list: bool = False  # one element a child, None where it failed
    num_elected: int = 0  # of the order of an election: how many go on
    _parsed: list[object] = field(default_factory=list)
    _kept: tuple[str, object] | None = None

    def text(self) -> str:
        """The text that stands in the branch: the choice of a select, the first of n samples."""
        return self.texts()[0]

    def texts(self) -> list[str]:
        return self._texts(self.data)

    def value(self) -> object:
        """What the program sees. Raises Truncated or ValidationFailed where the text is no value of
        the type; parsed once, so it is always the same object."""
        if self.output.parse is None:
            return self._plain
        if not self._parsed:
            if self.output.whole and not self.is_list:
                self._check_whole()
            self._parsed.append(self._value_of(self._plain))
        return self._parsed[0]

    def partial(self) -> object:
        """The value, or as much of it as there is: nothing before the first character."""
        if self.settled and self.failure is None:
            try:
                return self.value()
            except GenerationError:  # it was cut, or does not fit
                texts: Mapping[int, str] = dict(enumerate(self.texts()))
        else:
            texts = self.pieces
        if self.choices is not None:
            return None
        parts = [self._partial(texts.get(sample)) for sample in range(self.samples)]
        return parts if self.samples > 1 else parts[0]

    def _partial(self, text: str | None) -> object:
        so_far = self.output.so_far
        return text if text is None or so_far is None else so_far(text)

    @property
    def reads_so_far(self) -> Callable[[str], object] | None:
        """What gives the beginning of a text its form: a choice comes as a whole."""
        return self.output.so_far if self.choices is None else self.output.parse

    def judge(self, text: str, finish: str) -> object:
        """The value of an output that ended so. Raises like `value`."""
        if self.output.whole and finish == "length":
            raise _truncated(text)
        return self._value_of(text)

    def keep(self, text: str, value: object) -> None:
        """This text was read before: its value is that object."""
        self._kept = text, value

    def read_as(self, source: Slot) -> None:
        """The data was copied from that value, and means what it means there."""
        self.output, self.samples, self.is_copy = source.output, source.samples, True
        self.choices = None if self.is_list else source.choices
        self.meta = self.meta if self.meta is not None else source.meta

    def read(self, plain: Data) -> object:
        """What the program sees where a call gets this value, of a select its text. In a region it
        is another each time."""
        if self.settled and self.failure is None and plain == self._plain:
            return self.value()
        return self._value_of(plain)

    @property
    def _plain(self) -> Data:
        return self.data if self.choices is None else self.text()

    def _value_of(self, plain: Data) -> object:
        parse = self.output.parse
        if parse is None:
            return plain
        if self.is_list and isinstance(plain, list):
            return [self._element_of(element) for element in plain]
        if self._kept is not None and self._kept[0] == plain:
            return self._kept[1]
        values = [parse(str(text)) for text in (plain if isinstance(plain, list) else [plain])]
        return values if self.samples > 1 else values[0]

    def _element_of(self, plain: Element | list[Element]) -> object:
        parse = self.output.parse
        if parse is None or plain is None:
            return plain
        try:
            if isinstance(plain, list):
                return [parse(str(text)) for text in plain]
            return parse(str(plain))
        except FurcateError:
            return None  # as of any child that failed

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
            raise _truncated(self.texts()[0])


def _truncated(text: str) -> Truncated:
    return Truncated(
        f"the output was cut at its token limit before it was complete: {text[-200:]!r}. "
        f"Raise max_tokens",
        text,
    )


def value_id_of(slot: Slot | None) -> int | None:
    """As a node names it."""
    return None if slot is None else slot.value_id

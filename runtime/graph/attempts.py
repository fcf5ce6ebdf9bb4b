"""A Gen whose output the client checks: one output after another, until one will do.

Each attempt runs on a stream of its own behind the same prefix, with a seed of its own. The branch
waits; from the attempt that will do it goes on with the same ids, which the cache has. What was
refused is never told as the value's text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs

from furcate.errors import UsageError, WireError
from furcate.protocol.message import Delta, Usage

from .cell import Cell, Failure, Ready
from .content import Exact
from .entry import Entry, Step
from .generation import Generation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.graph import Gen
    from furcate.protocol.message import Answer
    from furcate.protocol.stream import Generate
    from furcate.runtime.constrain.check import OutputCheck

    from .branch import Branch
    from .stream import Origin, Stream

__all__ = ["Attempts", "attempt", "check_attempts"]


def check_attempts(node: Gen) -> None:
    """Raises UsageError for what cannot be checked or tried again."""
    if node.check is None:
        if node.retries:
            raise UsageError(f"retries={node.retries} has no effect without a check")
        return
    if node.sampling.n > 1:
        raise UsageError(f"check takes one output, not n={node.sampling.n} of them")
    if node.retries and node.sampling.temperature == 0.0:
        raise UsageError(
            f"retries={node.retries} would draw the same output again at temperature 0.0; raise it"
        )


def attempt(
    branch: Branch, entry: Entry, node: Gen, messages: Sequence[Generate], before: Origin
) -> None:
    """Begins the first of the attempts, each of which is one of the messages, behind `before`. The
    branch holds until one is accepted."""
    assert entry.cell is not None
    check = None if entry.constraint is None else entry.constraint.check
    attempts = Attempts(branch, entry.cell, node, messages, before, check)
    branch.errands[attempts] = None
    branch.queue.appendleft(Entry(entry.ordinal, Accepted(attempts), needs=(entry.cell,)))
    branch.program.agenda.append(branch)
    attempts.begin()


class Attempts:
    """`cell` is the Gen's value, `expect_s` how long a check takes."""

    def __init__(
        self,
        branch: Branch,
        cell: Cell,
        node: Gen,
        messages: Sequence[Generate],
        before: Origin,
        output_check: OutputCheck | None,
    ) -> None:
        assert node.check is not None
        self.branch = branch
        self.cell = cell
        self.expect_s: float | None = None
        self.ids: tuple[int, ...] = ()  # of the accepted one
        self._function = node.check
        self._messages = messages
        self._before = before
        self._output_check = output_check
        self._usage = Usage()
        self._number = -1  # of the present attempt
        self._call: int | None = None  # the open question about it
        self._running: Generation | None = None

    @property
    def stream(self) -> Stream | None:
        """Of the present attempt."""
        return None if self._running is None else self._running.samples[0].stream

    def begin(self) -> None:
        """The next attempt."""
        program = self.branch.program
        self._number += 1
        output = Cell(self.cell.ordinal, self.branch.id)
        output.waiters.append(self)
        generation = self._running = Generation(program, output, output, 1, self._output_check)
        (sample,) = generation.samples
        message = self._messages[self._number]
        sample.stream = program.streams_table.open(program, sample, self._before)
        program.streams_table.append(sample.stream, message, self.cell.ordinal, sample)

    def advance(self) -> None:
        """The attempt is there, or has failed."""
        if self._running is None or self.cell.outcome is not None:
            return
        outcome = self._running.value.outcome
        if isinstance(outcome, Failure):
            self._fail(outcome)
            return
        assert outcome is not None
        assert outcome.meta is not None
        self._usage += outcome.meta.usage
        args = (outcome.data, outcome.meta.finish, self._number + 1)
        self._call = self.branch.program.calls.ask(self._function, args, self)

    def answered(self, answer: Answer) -> None:
        """What the client says of it: nothing, or what is wrong."""
        self._call = None
        if answer.code is not None:
            what = answer.message or "the client gave no reason"
            self._fail(Failure(answer.code, what, self.cell.ordinal))
        elif answer.data is None:
            self._accept()
        elif not isinstance(answer.data, str):
            raise WireError(f"a check is answered with None or a text, got {answer.data!r:.80}")
        elif self._number + 1 < len(self._messages):
            self._leave()
            self.begin()
        else:
            self._fail(Failure("validation", answer.data, self.cell.ordinal))

    def cancel(self, failure: Failure) -> None:
        if self._call is not None:
            self.branch.program.calls.withdraw(self._call)
        self._fail(failure)

    def _accept(self) -> None:
        assert self._running is not None
        outcome, done = self._running.value.outcome, self._running.samples[0].done
        assert isinstance(outcome, Ready)
        assert outcome.meta is not None
        assert done is not None
        self.ids = done.ids
        meta = structs.replace(outcome.meta, usage=self._usage, attempts=self._number + 1)
        self._end(outcome)
        self._tell(outcome.text or "")
        self.branch.program.resolve(self.cell, outcome, meta)

    def _tell(self, text: str) -> None:
        """As one piece, to a client that streams."""
        program, cell = self.branch.program, self.cell
        if cell.outcome is not None or cell.value is None or cell.is_parallel:
            return
        if text and program.options.stream:
            program.emit(Delta(program.id, self.branch.id, cell.value, 0, text))

    def _fail(self, failure: Failure) -> None:
        branch = self.branch
        self._end(failure)
        branch.program.resolve(self.cell, failure)
        branch.failure = branch.failure or failure.upstream()
        branch.program.agenda.append(branch)

    def _end(self, outcome: Ready | Failure) -> None:
        self._leave(is_cut=isinstance(outcome, Failure))
        self.branch.errands.pop(self, None)

    def _leave(self, *, is_cut: bool = False) -> None:
        """Of the present attempt nothing more is needed."""
        stream, self._running = self.stream, None
        if stream is None:
            return
        if is_cut:
            self.branch.program.streams_table.cancel(stream)
        else:
            self.branch.program.streams_table.end(stream)


@dataclass(frozen=True, slots=True, eq=False)
class Accepted(Step):
    """The branch goes on from what was accepted."""

    attempts: Attempts

    def run(self, branch: Branch, entry: Entry) -> None:
        branch.pieces.append(self.attempts.cell)
        branch.outlet.add_written(Exact(self.attempts.ids, ""))

"""One Gen node while it runs: its samples, each a Generate of some stream.

Sample 0 is the branch's own continuation, the others run on streams of their own. A sample that
fails fails the value; the branch goes on as long as sample 0 does. An engine that takes the place
of one that ended reports a sample from its beginning again: what is known of it is compared and not
told twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import WireError
from furcate.protocol.message import Delta, Usage, ValueMeta

from .cell import Failure, Ready
from .tokens import GeneratedText, token_logprobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.protocol.message import TokenLogprob
    from furcate.protocol.stream import NodeDone
    from furcate.runtime.constrain.check import OutputCheck

    from .cell import Cell
    from .program import Program
    from .stream import Stream

__all__ = ["Generation", "Sample"]


class Generation:
    """`value` is what the client waits for, `continuation` the text of sample 0; they are the same
    cell where there is one sample."""

    def __init__(
        self,
        program: Program,
        value: Cell,
        continuation: Cell,
        n: int,
        check: OutputCheck | None = None,
    ) -> None:
        self.program = program
        self.value = value
        self.continuation = continuation
        self.check = check
        self.samples = [Sample(self, index) for index in range(n)]

    def sample_done(self, sample: Sample) -> None:
        if sample.index == 0 and self.continuation is not self.value:
            self.program.resolve(self.continuation, Ready(sample.text, sample.text))
        done = [each.done for each in self.samples if each.done is not None]
        if len(done) < len(self.samples):
            return
        stops = tuple(_matched(each) or "" for each in done)
        if len(done) == 1:
            outcome = Ready(sample.text, sample.text, stops=stops)
        else:
            outcome = Ready([each.text for each in self.samples], None, stops=stops)
        self.program.resolve(self.value, outcome, self._meta(done))

    def sample_failed(self, sample: Sample, failure: Failure) -> None:
        if sample.index == 0:
            self.program.resolve(self.continuation, failure)
        self.give_up(failure)

    def give_up(self, failure: Failure) -> None:
        """Without one of them the samples are worth nothing; the branch's own goes on."""
        self.program.resolve(self.value, failure)
        for other in self.samples[1:]:
            if other.stream is not None:
                self.program.streams_table.cancel(other.stream)

    def _meta(self, done: Sequence[NodeDone]) -> ValueMeta:
        codec = self.program.setting.codec
        first = done[0]
        logprobs: tuple[tuple[TokenLogprob, ...], ...] | None = None
        if first.logprobs is not None:
            logprobs = tuple(token_logprobs(codec, each.logprobs or ()) for each in done)
        prompt = first.prompt_logprobs
        return ValueMeta(
            finish=first.finish,
            matched=_matched(first),
            usage=sum((each.usage for each in done), Usage()),
            logprobs=logprobs,
            prompt_logprobs=None if prompt is None else token_logprobs(codec, prompt),
            finishes=tuple(each.finish for each in done) if len(done) > 1 else (),
        )


def _matched(done: NodeDone) -> str | None:
    return None if done.matched is None else done.matched.decode("utf-8", "replace")


class Sample:
    """One Generate; owns the stream it runs on where that is not the branch's."""

    def __init__(self, generation: Generation, index: int) -> None:
        self.index = index
        self.done: NodeDone | None = None
        self.stream: Stream | None = None  # set by whoever opens one for it
        self._generation = generation
        self._known: list[int] = []  # ids that were reported, by whichever engine
        self._num_again = 0  # how many of them this engine has reported
        self._output = GeneratedText(generation.program.setting.codec)

    @property
    def text(self) -> str:
        return self._output.text

    def take(self, ids: Sequence[int]) -> None:
        self._tell(self._output.push(self._news(ids)))

    def begin_again(self) -> None:
        self._num_again = 0

    def complete(self, done: NodeDone) -> None:
        rest = self._output.push(self._news(done.ids[self._num_again :]))
        if self._num_again < len(self._known):
            raise WireError("the engine reports a shorter output than the one before it did")
        self.done = done
        self._tell(rest + self._output.finish())
        problem = self._problem(done)
        if problem is None:
            self._generation.sample_done(self)
        else:
            failure = Failure("validation", problem, self._generation.value.ordinal)
            self._generation.sample_failed(self, failure)

    def _news(self, ids: Sequence[int]) -> Sequence[int]:
        """Those that were not known; the others must be the same as before."""
        before = self._known[self._num_again :][: len(ids)]
        if before != list(ids[: len(before)]):
            raise WireError("the engine reports another output than the one before it did")
        news = ids[len(before) :]
        self._num_again += len(ids)
        self._known += news
        return news

    def _problem(self, done: NodeDone) -> str | None:
        """What is wrong with an output that its constraint calls complete: nothing, ever."""
        check = self._generation.check
        if check is None or done.finish not in ("eos", "constraint"):
            return None
        found = check.problem(self.text)
        return None if found is None else f"{found}; the output is {self.text[:200]!r}"

    def fail(self, failure: Failure) -> None:
        if self.done is None:
            self._generation.sample_failed(self, failure)

    def cancel(self, failure: Failure) -> None:
        self.fail(failure)
        self._generation.give_up(failure)

    def fail_from(self, stream: Stream, node: int, failure: Failure) -> None:
        self.fail(failure)

    def _tell(self, text: str) -> None:
        program, cell = self._generation.program, self._generation.value
        if text and program.options.stream and cell.outcome is None:
            # Nothing is told of what the client may refuse, or take for another's.
            if cell.value is None or cell.is_parallel:
                return
            assert cell.branch is not None
            program.emit(Delta(program.id, cell.branch, cell.value, self.index, text))

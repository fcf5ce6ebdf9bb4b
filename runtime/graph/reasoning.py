"""A Gen that reasons before it answers.

First, where nothing else tells, a probe on a stream of its own: does the model begin a section?
Then the section, up to its end marker or its budget; the runtime writes the marker. Then the output
proper, which alone its constraint and its stops are about. The branch holds meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs

from furcate.errors import UsageError
from furcate.protocol.message import Delta, ValueMeta

from .cell import Cell, Ready
from .content import text_of
from .entry import Entry, Step
from .generating import check_gen, generate, generate_message, seed_of
from .generation import Generation, Sample
from .stream import Origin
from .writing import add_markup, open_turn

if TYPE_CHECKING:
    from furcate.protocol.graph import Gen, Reasoning
    from furcate.protocol.stream import Generate

    from .branch import Branch
    from .cell import Failure
    from .markers import Markers
    from .program import Program
    from .setting import Setting

__all__ = ["reason"]

# The draws of the section are those of a sample that no generation has, so that an output without
# a section is the one that a Gen without reasoning gives.
SECTION = 2**32
SLACK = 4  # tokens of white space that may come before a begin marker


def reason(branch: Branch, entry: Entry, node: Gen, reasoning: Reasoning) -> None:
    """Begins the first phase; `entry.outs` has the cell of the reasoning."""
    if node.sampling.n > 1:
        raise UsageError(f"reasoning takes one output, not n={node.sampling.n} of them: fork")
    check_gen(branch, node)
    markers = _markers(branch.program.setting, reasoning)
    gen = _Reasoned(branch, entry, node, reasoning, markers)
    if markers is None or node.sampling.max_tokens == 0:
        gen.answer("")
        return
    open_turn(branch, is_generated=True)
    said = _end_of_text(branch)
    if reasoning.is_open or said.endswith(markers.begin.text):
        gen.think(markers)
    elif reasoning.forced:
        add_markup(branch, (markers.begin.piece, *_some(markers.gap)))
        gen.think(markers)
    elif said.endswith(markers.end.text):
        gen.answer("")
    else:
        gen.probe(markers)


def _markers(setting: Setting, reasoning: Reasoning) -> Markers | None:
    if reasoning.begin is not None and reasoning.end is not None:
        if not reasoning.begin.strip() or not reasoning.end.strip():
            raise UsageError("a marker of reasoning is a text that is not blank")
        return setting.markers_named(reasoning.begin, reasoning.end)
    if setting.markers is None and (reasoning.forced or reasoning.is_open):
        raise UsageError(
            f"{setting.ready.model} has no markers of reasoning that are known: name them, as in "
            'reasoning=("<think>", "</think>"), or leave reasoning out'
        )
    return setting.markers


def _end_of_text(branch: Branch) -> str:
    """What the branch says behind its last value, without white space at the end."""
    texts: list[str] = []
    for piece in reversed(branch.history()):
        if isinstance(piece, Cell):
            break
        texts.append(text_of(piece))
    return "".join(reversed(texts)).rstrip()


def _some(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


@dataclass(slots=True, eq=False)
class _Reasoned:
    """One Gen on its way through its phases."""

    branch: Branch
    entry: Entry
    node: Gen
    reasoning: Reasoning
    markers: Markers | None
    num_tokens: int = 0  # that the section has taken of the budget

    @property
    def value(self) -> Cell:
        """Of the reasoning."""
        return self.entry.outs[0]

    @property
    def _program(self) -> Program:
        return self.branch.program

    def probe(self, markers: Markers) -> None:
        """Draws as the answer would, up to where a begin marker would have come."""
        message = structs.replace(
            self._message(markers.begin.num_tokens + SLACK * (markers.begin.id is None)),
            stops=markers.begin.stops,
            stop_ids=markers.begin.stop_ids,
            report=False,
        )
        stream = self.branch.outlet.settle(self.entry.ordinal)
        phase = _Phase(self, _Probed(self, markers))
        streams = self._program.streams_table
        phase.sample.stream = streams.open(
            self._program, phase.sample, Origin(stream, stream.num_nodes)
        )
        streams.append(phase.sample.stream, message, self.entry.ordinal, phase.sample)
        streams.end(phase.sample.stream)
        phase.hold(self.branch)

    def think(self, markers: Markers) -> None:
        budget, most = self.node.sampling.max_tokens, self.reasoning.max_tokens
        budget = budget if most is None else min(budget, most)
        if budget == 0:
            self._close(markers, "")
            return
        message = self._message(budget)
        ends = (*message.stop_ids, *markers.end.stop_ids)
        message = structs.replace(
            message,
            stops=markers.end.stops,
            stop_ids=tuple(sorted(set(ends))),
            seed=seed_of(self.branch, self.node.sampling.seed, SECTION),
        )
        stream = self.branch.outlet.settle(self.entry.ordinal)
        phase = _Phase(self, _Thought(self, markers))
        self._program.streams_table.append(stream, message, self.entry.ordinal, phase.sample)
        self.branch.pieces.append(phase.cell)
        phase.hold(self.branch)

    def thought(self, markers: Markers, phase: _Phase) -> None:
        done = phase.sample.done
        assert done is not None
        self.num_tokens = len(done.ids)
        text = phase.sample.text
        meta = ValueMeta(finish=done.finish, usage=done.usage)
        self._close(markers, text, meta)

    def _close(self, markers: Markers, text: str, meta: ValueMeta | None = None) -> None:
        """Writes the end of the section, and goes on with the answer."""
        gap = "" if text.endswith(markers.gap) else markers.gap
        after = markers.gap * 2
        add_markup(self.branch, (*_some(gap), markers.end.piece, *_some(after)))
        self.answer(text.strip(), meta)

    def answer(self, text: str, meta: ValueMeta | None = None) -> None:
        """`text` is what was reasoned."""
        self._program.resolve(self.value, Ready(text, text), meta)
        sampling, used = self.node.sampling, self.num_tokens
        sampling = structs.replace(
            sampling,
            max_tokens=sampling.max_tokens - used,
            min_tokens=min(sampling.min_tokens, sampling.max_tokens - used),
        )
        node = structs.replace(self.node, reasoning=None, sampling=sampling)
        generate(self.branch, structs.replace(self.entry, outs=()), node)

    def fail(self, failure: Failure) -> None:
        assert self.entry.cell is not None
        self._program.resolve(self.entry.cell, failure)
        self._program.resolve(self.value, failure.upstream())

    def _message(self, max_tokens: int) -> Generate:
        """Of a phase: samples as the Gen says, and is bound by nothing else that it says."""
        sampling = structs.replace(
            self.node.sampling,
            max_tokens=max_tokens,
            min_tokens=0,
            stop=(),
            stop_token_ids=(),
            stop_regex=(),
            logprobs=None,
            prompt_logprobs=None,
        )
        node = structs.replace(self.node, sampling=sampling)
        return generate_message(self.branch, structs.replace(self.entry, constraint=None), node, 0)


class _Phase:
    """One generation, and what is done when it is over. `cell` is its text as it stands."""

    def __init__(self, gen: _Reasoned, then: _Then) -> None:
        self.cell = Cell(gen.entry.ordinal, gen.branch.id)
        self._gen = gen
        self._then = then
        generation = Generation(gen.branch.program, self.cell, self.cell, 1)
        self.sample = _Section(generation, gen, then.tells)
        generation.samples[0] = self.sample
        then.phase = self

    def cancel(self, failure: Failure) -> None:
        """As an errand of the branch: a probe is on no stream of it."""
        self.sample.cancel(failure)
        if self.sample.stream is not None:
            self._gen.branch.program.streams_table.cancel(self.sample.stream)

    def hold(self, branch: Branch) -> None:
        """Nothing else happens on the branch before `then`."""
        branch.errands[self] = None
        entry = structs.replace(self._gen.entry, node=self._then, needs=(self.cell,))
        branch.queue.appendleft(entry)
        branch.program.agenda.append(branch)


class _Then(Step):
    tells = False  # the text is that of the reasoning
    phase: _Phase

    def __init__(self, gen: _Reasoned, markers: Markers) -> None:
        self.gen = gen
        self.markers = markers

    @property
    def num_generations(self) -> int:
        return 1


class _Probed(_Then):
    def run(self, branch: Branch, entry: Entry) -> None:
        del branch.errands[self.phase]
        done, text = self.phase.sample.done, self.phase.sample.text
        assert done is not None
        begin = self.markers.begin
        has_begun = done.matched is not None or (bool(begin.stop_ids) and done.finish == "eos")
        if has_begun and not text.strip():
            add_markup(branch, (begin.piece,))
            self.gen.think(self.markers)
        else:
            self.gen.answer("")


class _Thought(_Then):
    tells = True

    def run(self, branch: Branch, entry: Entry) -> None:
        del branch.errands[self.phase]
        self.gen.thought(self.markers, self.phase)


class _Section(Sample):
    """Of a phase: its text goes to the value of the reasoning, without white space around it."""

    def __init__(self, generation: Generation, gen: _Reasoned, tells: bool) -> None:
        super().__init__(generation, 0)
        self._gen = gen
        self._tells = tells
        self._held = ""  # white space that something may follow
        self._has_begun = False

    def _tell(self, text: str) -> None:
        program, cell = self._gen.branch.program, self._gen.value
        if not (self._tells and program.options.stream) or cell.value is None or cell.is_parallel:
            return
        text = self._held + (text if self._has_begun else text.lstrip())
        told = text.rstrip()
        self._held = text[len(told) :]
        if told:
            self._has_begun = True
            program.emit(Delta(program.id, self._gen.branch.id, cell.value, 0, told))

    def fail(self, failure: Failure) -> None:
        if self.done is None:
            self._gen.fail(failure)
        super().fail(failure)

    def cancel(self, failure: Failure) -> None:
        if self.done is None:
            self._gen.fail(failure)
        super().cancel(failure)

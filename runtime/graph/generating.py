"""From a Gen node to what the engine is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from furcate.protocol.sampling import Sampling, check_sampling
from furcate.protocol.stream import Generate

from .attempts import attempt, check_attempts
from .cell import Cell
from .generation import Generation
from .seeds import generation_seed
from .stream import Origin
from .writing import check_ids, open_turn

if TYPE_CHECKING:
    from furcate.protocol.graph import Gen

    from .branch import Branch
    from .entry import Entry

__all__ = ["check_gen", "generate", "generate_message", "seed_of"]


def check_gen(branch: Branch, node: Gen) -> None:
    """Raises UsageError for what cannot be generated."""
    setting, sampling = branch.program.setting, node.sampling
    check_sampling(sampling)
    check_ids(sampling.stop_token_ids, setting, "stop_token_ids: ")
    check_ids(sampling.logit_bias, setting, "logit_bias: ")
    check_attempts(node)


def generate(branch: Branch, entry: Entry, node: Gen) -> None:
    assert entry.cell is not None
    check_gen(branch, node)
    program, sampling = branch.program, node.sampling
    open_turn(branch, is_generated=True)
    stream = branch.outlet.settle(entry.ordinal)
    if node.check is not None:
        _attempt(branch, entry, node, Origin(stream, stream.num_nodes))
        return
    continuation = entry.cell if sampling.n == 1 else Cell(entry.ordinal, branch.id)
    check = None if entry.constraint is None else entry.constraint.check
    generation = Generation(program, entry.cell, continuation, sampling.n, check)
    messages = [generate_message(branch, entry, node, index) for index in range(sampling.n)]
    before = Origin(stream, stream.num_nodes)
    for sample, message in zip(generation.samples[1:], messages[1:], strict=True):
        sample.stream = program.streams_table.open(program, sample, before)
        program.streams_table.append(sample.stream, message, entry.ordinal, sample)
        program.streams_table.end(sample.stream)
    program.streams_table.append(stream, messages[0], entry.ordinal, generation.samples[0])
    branch.pieces.append(continuation)
    branch.num_draws += 1


def _attempt(branch: Branch, entry: Entry, node: Gen, before: Origin) -> None:
    messages = [
        structs.replace(generate_message(branch, entry, node, number), report=False)
        for number in range(node.retries + 1)
    ]
    branch.num_draws += 1
    attempt(branch, entry, node, messages, before)


def generate_message(branch: Branch, entry: Entry, node: Gen, sample: int) -> Generate:
    sampling, codec = node.sampling, branch.program.setting.codec
    stop_ids = set(sampling.stop_token_ids)
    if not sampling.ignore_eos:
        stop_ids |= codec.eos_ids
        if branch.roles.open_role == "assistant":
            stop_ids |= codec.end_of_turn_ids
    defaults = Sampling()
    return Generate(
        sampling=structs.replace(
            sampling,
            n=defaults.n,
            seed=defaults.seed,
            stop=defaults.stop,
            stop_token_ids=defaults.stop_token_ids,
        ),
        seed=seed_of(branch, sampling.seed, sample),
        stops=tuple(stop.encode("utf-8", "surrogatepass") for stop in sampling.stop),
        stop_ids=tuple(sorted(stop_ids)),
        constraint=None if entry.constraint is None else entry.constraint.id,
        report=branch.program.options.stream,
        site=node.site,
        sample=sample,
    )


def seed_of(branch: Branch, own: int | None, sample: int = 0) -> int:
    seed = branch.program.options.seed if own is None else own
    return generation_seed(seed, branch.path, branch.num_draws, sample)

"""What each node does to its branch, once all that it needs is there.

A node that cannot be done raises a FurcateError; it then fails, with its branch from there on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from furcate.errors import FurcateError, UsageError
from furcate.protocol.graph import (
    Call,
    Fill,
    Fork,
    Gen,
    Ids,
    Join,
    Mark,
    Pin,
    Role,
    Score,
    Select,
    Special,
    Text,
    TextOf,
)
from furcate.protocol.sampling import Sampling, check_sampling
from furcate.protocol.stream import Choose, Generate

from .attempts import attempt, check_attempts
from .calls import PendingCall
from .cell import Cell, Failure, Ready
from .choice import Choice
from .content import Exact, RoleMark, fill_text, holes, spell_all, text_of
from .derived import Derived
from .elect import Stance
from .entry import Share, Step
from .generation import Generation
from .mark import begin_mark, end_mark
from .pins import pin_branch
from .rewind import rewind
from .saving import Saving, save_branch
from .score import score_text
from .seeds import generation_seed
from .stream import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .branch import Branch
    from .entry import Entry
    from .program import Program
    from .roles import Roles
    from .setting import Setting

__all__ = ["interpret"]


def interpret(branch: Branch, entry: Entry) -> None:
    for need in entry.needs:
        if isinstance(need.outcome, Failure):
            _fail(branch, entry, need.outcome.upstream())
            return
    try:
        _apply(branch, entry)
    except FurcateError as error:
        _fail(branch, entry, Failure.of(error, entry.ordinal))


def _fail(branch: Branch, entry: Entry, failure: Failure) -> None:
    """A score changes nothing on its branch, whatever becomes of it."""
    if isinstance(entry.node, Score) and entry.cell is not None:
        branch.program.resolve(entry.cell, failure)
    else:
        branch.fail(entry, failure)


def _apply(branch: Branch, entry: Entry) -> None:
    match entry.node:
        case Text():
            _add_text(branch, entry.text)
        case Fill():
            _add_text(branch, fill_text(entry.needs[0]))
        case Ids(ids=ids):
            _add_ids(branch, ids)
        case Special(name=name):
            _add_exactly(branch, Exact((branch.program.setting.codec.control(name),), name))
        case Role():
            _change_role(branch, entry.node)
        case Gen():
            _generate(branch, entry, entry.node)
        case Select():
            _select(branch, entry, entry.node)
        case Fork():
            branch.bear(entry.children)
        case Join():
            for share in entry.shares:
                _join(branch, share)
        case Call():
            _call(branch, entry, entry.node)
        case TextOf():
            _text_of(branch, entry)
        case Score():
            score_text(branch, entry)
        case Mark(edge="begin"):
            begin_mark(branch, entry.node)
        case Mark():
            end_mark(branch, entry, entry.node)
        case Step():
            entry.node.run(branch, entry)
        case Share():
            _give(branch, entry.node)
        case Stance():
            entry.node.arrive()
        case Saving():
            save_branch(branch, entry.ordinal, entry.node)
        case Pin():
            assert entry.cell is not None
            pin_branch(branch, entry.cell, entry.node)
        case _:
            raise AssertionError(f"no branch takes a {type(entry.node).__name__}")


# Content -----------------------------------------------------------------------------------------


def _add_text(branch: Branch, text: str) -> None:
    roles, opening, said = branch.roles.say(text)
    _enter(branch, roles, opening)
    _add_plain(branch, said)


def _add_plain(branch: Branch, text: str) -> None:
    branch.pieces.append(text)
    branch.outlet.add_text(text)


def _add_exactly(branch: Branch, piece: Exact) -> None:
    _open_turn(branch)
    _add_markup(branch, (piece,))


def _open_turn(branch: Branch, *, is_generated: bool = False) -> None:
    """What the chat template puts before something that is not the program's text."""
    roles, opening = branch.roles.say_exactly(is_generated=is_generated)
    _enter(branch, roles, opening)


def _add_markup(branch: Branch, pieces: Iterable[str | Exact]) -> None:
    for piece in pieces:
        branch.pieces.append(piece)
        branch.outlet.add_written(piece)


def _add_ids(branch: Branch, ids: tuple[int, ...]) -> None:
    setting = branch.program.setting
    _check_ids(ids, setting)
    if ids:
        _add_exactly(branch, Exact(ids, spell_all(setting.codec, ids)))


def _check_ids(ids: Iterable[int], setting: Setting, what: str = "") -> None:
    for token_id in ids:
        if token_id >= setting.ready.vocab_size:
            raise UsageError(
                f"{what}{token_id!r} is no token id: the model has {setting.ready.vocab_size}, "
                "counted from 0"
            )


def _change_role(branch: Branch, node: Role) -> None:
    if node.edge == "begin":
        roles, opening = branch.roles.begin(node.role, branch.program.setting.template)
        _enter(branch, roles, opening)
        return
    roles, closing = branch.roles.end(node.role)
    if branch.roles.has_begun:
        branch.pieces.append(RoleMark.at("end", node.role))
        _add_markup(branch, closing)
    else:  # a turn that says nothing
        _add_markup(branch, closing)
        branch.pieces += RoleMark.at("begin", node.role), RoleMark.at("end", node.role)
    branch.roles = roles


def _enter(branch: Branch, roles: Roles, opening: Iterable[str | Exact]) -> None:
    """The opening of a turn, where it is written now, and the mark behind it."""
    has_begun = branch.roles.has_begun
    branch.roles = roles
    _add_markup(branch, opening)
    if roles.has_begun and not has_begun:
        assert roles.open_role is not None
        branch.pieces.append(RoleMark.at("begin", roles.open_role))


# Generation --------------------------------------------------------------------------------------


def _generate(branch: Branch, entry: Entry, node: Gen) -> None:
    assert entry.cell is not None
    check_sampling(node.sampling)
    program, sampling = branch.program, node.sampling
    _check_ids(sampling.stop_token_ids, program.setting, "stop_token_ids: ")
    _check_ids(sampling.logit_bias, program.setting, "logit_bias: ")
    check_attempts(node)
    _open_turn(branch, is_generated=True)
    stream = branch.outlet.settle(entry.ordinal)
    if node.check is not None:
        _attempt(branch, entry, node, Origin(stream, stream.num_nodes))
        return
    continuation = entry.cell if sampling.n == 1 else Cell(entry.ordinal, branch.id)
    check = None if entry.constraint is None else entry.constraint.check
    generation = Generation(program, entry.cell, continuation, sampling.n, check)
    messages = [_generate_message(branch, entry, node, index) for index in range(sampling.n)]
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
        msgspec.structs.replace(_generate_message(branch, entry, node, number), report=False)
        for number in range(node.retries + 1)
    ]
    branch.num_draws += 1
    attempt(branch, entry, node, messages, before)


def _generate_message(branch: Branch, entry: Entry, node: Gen, sample: int) -> Generate:
    sampling, codec = node.sampling, branch.program.setting.codec
    stop_ids = set(sampling.stop_token_ids)
    if not sampling.ignore_eos:
        stop_ids |= codec.eos_ids
        if branch.roles.open_role == "assistant":
            stop_ids |= codec.end_of_turn_ids
    defaults = Sampling()
    return Generate(
        sampling=msgspec.structs.replace(
            sampling,
            n=defaults.n,
            seed=defaults.seed,
            stop=defaults.stop,
            stop_token_ids=defaults.stop_token_ids,
        ),
        seed=_seed(branch, sampling.seed, sample),
        stops=tuple(stop.encode("utf-8", "surrogatepass") for stop in sampling.stop),
        stop_ids=tuple(sorted(stop_ids)),
        constraint=None if entry.constraint is None else entry.constraint.id,
        report=branch.program.options.stream,
        site=node.site,
        sample=sample,
    )


def _seed(branch: Branch, own: int | None, sample: int = 0) -> int:
    seed = branch.program.options.seed if own is None else own
    return generation_seed(seed, branch.path, branch.num_draws, sample)


def _select(branch: Branch, entry: Entry, node: Select) -> None:
    assert entry.cell is not None
    program, codec = branch.program, branch.program.setting.codec
    _check_select(node, program)
    _open_turn(branch)
    rewound = rewind(codec.encode_batch, branch.outlet.open_run, node.choices)
    branch.outlet.close_run(rewound.prompt)
    stream = branch.outlet.settle(entry.ordinal)
    bos = () if codec.bos_id is None else (codec.bos_id,)
    needs_context = node.method == "unconditional_likelihood_normalized"
    message = Choose(
        choices=rewound.choices,
        seed=_seed(branch, None),
        method=node.method,
        temperature=node.temperature,
        unconditional=bos if needs_context else (),
        site=node.site,
    )
    program.streams_table.append(
        stream, message, entry.ordinal, Choice(program, entry.cell, node, rewound)
    )
    branch.pieces.append(entry.cell)
    branch.num_draws += 1


def _check_select(node: Select, program: Program) -> None:
    limit = program.setting.limits.choices
    if not 1 <= len(node.choices) <= limit:
        raise UsageError(f"select takes 1 to {limit} choices, got {len(node.choices)}")
    if not 0.0 <= node.temperature <= 100.0:
        raise UsageError(f"temperature must be from 0.0 to 100.0, got {node.temperature!r}")


# The client's functions --------------------------------------------------------------------------


def _call(branch: Branch, entry: Entry, node: Call) -> None:
    assert entry.cell is not None
    call = PendingCall(branch, entry.cell, node, entry.args, branch.last_call)
    branch.last_call = entry.cell
    branch.errands[call] = None
    branch.program.derive(call)


# Text as a value ---------------------------------------------------------------------------------


def _text_of(branch: Branch, entry: Entry) -> None:
    assert entry.cell is not None
    pieces, program = [*branch.history(), *branch.roles.ending], branch.program

    def compute() -> Ready:
        texts = [text_of(piece) for piece in pieces]
        program.charge(sum(map(len, texts)))
        text = "".join(texts)
        return Ready(text, text)

    program.derive(Derived(program, entry.cell, holes(pieces), compute))


def _give(child: Branch, share: Share) -> None:
    """Notes what the child has said so far, for the Join that asked."""
    program = child.program
    share.pieces.extend(child.pieces)
    share.start, share.roles = child.start_roles, child.roles

    def compute() -> Ready:
        program.charge(sum(len(text_of(piece)) + 1 for piece in share.pieces))
        return Ready(None, None)

    program.derive(Derived(program, share.cell, holes(share.pieces), compute))


def _join(branch: Branch, share: Share) -> None:
    assert share.start is not None
    assert share.roles is not None
    for piece in share.pieces:
        if isinstance(piece, Exact):
            _add_markup(branch, (piece,))
        else:
            _add_plain(branch, text_of(piece))
    branch.roles = branch.roles.joined(share.start, share.roles)

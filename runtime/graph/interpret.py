"""What each node does to its branch, once all that it needs is there.

A node that cannot be done raises a FurcateError; it then fails, with its branch from there on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    Reasoning,
    Role,
    Score,
    Select,
    Special,
    Text,
    TextOf,
)
from furcate.protocol.stream import Choose

from .calls import PendingCall
from .cell import Failure, Ready
from .choice import Choice
from .content import Exact, fill_text, holes, text_of, turns_of
from .derived import Derived
from .elect import Stance
from .entry import Share, Step
from .generating import generate, seed_of
from .mark import begin_mark, end_mark
from .pins import pin_branch
from .reasoning import reason
from .rewind import rewind
from .saving import Saving, save_branch
from .score import score_text
from .writing import (
    add_exactly,
    add_ids,
    add_markup,
    add_plain,
    add_text,
    change_role,
    open_turn,
)

if TYPE_CHECKING:
    from .branch import Branch
    from .entry import Entry
    from .program import Program

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
            add_text(branch, entry.text)
        case Fill():
            add_text(branch, fill_text(entry.needs[0]))
        case Ids(ids=ids):
            add_ids(branch, ids)
        case Special(name=name):
            add_exactly(branch, Exact((branch.program.setting.codec.control(name),), name))
        case Role():
            change_role(branch, entry.node)
        case Gen(reasoning=None):
            generate(branch, entry, entry.node)
        case Gen(reasoning=Reasoning() as reasoning):
            reason(branch, entry, entry.node, reasoning)
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


# Generation --------------------------------------------------------------------------------------


def _select(branch: Branch, entry: Entry, node: Select) -> None:
    assert entry.cell is not None
    program, codec = branch.program, branch.program.setting.codec
    _check_select(node, program)
    open_turn(branch)
    outlet = branch.outlet
    run = program.setting.opening(outlet.open_run, outlet.behind)
    rewound = rewind(codec.encode_batch, run, node.choices)
    branch.outlet.close_run(rewound.prompt)
    stream = branch.outlet.settle(entry.ordinal)
    bos = () if codec.bos_id is None else (codec.bos_id,)
    needs_context = node.method == "unconditional_likelihood_normalized"
    message = Choose(
        choices=rewound.choices,
        seed=seed_of(branch, None),
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
    as_turns = isinstance(entry.node, TextOf) and entry.node.turns

    def compute() -> Ready:
        if as_turns:
            turns = turns_of(pieces)
            program.charge(sum(len(text) + 16 for _, text in turns))
            return Ready([[role, text] for role, text in turns], None)
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
            add_markup(branch, (piece,))
        else:
            add_plain(branch, text_of(piece))
    branch.roles = branch.roles.joined(share.start, share.roles)

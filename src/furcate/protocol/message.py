"""Messages between a client and the front process.

A multipart send after the handshake carries one list of requests; a frame back carries one list of
events. The connection has two append-only tables, text segments and constraints, so that what many
programs share travels once. Program ids are chosen by the client, unique in its connection.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .constraint import Constraint
from .graph import Node

__all__ = [
    "INNER_ROOM",
    "PROGRAM_BYTES",
    "PROTOCOL_VERSION",
    "Alternative",
    "Answer",
    "Ask",
    "Batch",
    "Bye",
    "Cancel",
    "ChoiceScores",
    "Column",
    "Constraints",
    "Data",
    "Delta",
    "Element",
    "Event",
    "Failed",
    "Finished",
    "Graph",
    "Hello",
    "Info",
    "Invoke",
    "Options",
    "Refused",
    "Release",
    "Request",
    "Segments",
    "TokenLogprob",
    "Unpin",
    "Usage",
    "Value",
    "ValueMeta",
    "Welcome",
]

PROTOCOL_VERSION = 2
MAX_PATH = 64  # steps to a literal inside a node
PROGRAM_BYTES = 1024  # what a running program counts for, beside its texts
INNER_ROOM = 2  # times what Welcome says, of which the second half is for programs inside others

ProgramId = Annotated[int, Meta(ge=0)]
Element = str | int | float | bool | None
Data = str | int | float | bool | list[Element | list[Element]] | None


class _Message(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    pass


# Client to front ---------------------------------------------------------------------------------


class Hello(_Message, frozen=True, tag="hello"):
    """The first request of a connection, alone in its send."""

    protocol: int
    client: str


class Segments(_Message, frozen=True, tag="seg"):
    """Appends texts to the connection's segment table; `first` is the index of the first of
    them."""

    first: Annotated[int, Meta(ge=0, lt=2**31)]
    texts: tuple[str, ...]


class Constraints(_Message, frozen=True, tag="cons"):
    """Appends to the connection's constraint table; compilation starts on arrival."""

    first: Annotated[int, Meta(ge=0, lt=2**31)]
    constraints: tuple[Constraint, ...]


class Options(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Of a whole program, sent with its first delta. `seed` makes every draw reproducible; `stream`
    asks for Delta events; `timeout_s` counts from arrival. Programs share cached KV only with those
    of the same `tenant`. `template` "append" allows a chat template that rewrites earlier turns, of
    which what was written then stays; None refuses it."""

    seed: Annotated[int, Meta(ge=0)]
    stream: bool = False
    timeout_s: Annotated[float, Meta(gt=0)] | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    tenant: Annotated[str, Meta(max_length=256)] = ""
    template: Literal["append"] | None = None


class Graph(_Message, frozen=True, tag="graph"):
    """A delta: appends nodes to a program. `epoch` counts the deltas of the program from 0.

    `done`: the program's function has returned. Afterwards only TextOf and Let nodes may follow,
    until the client releases the program.
    """

    program: ProgramId
    epoch: Annotated[int, Meta(ge=0, lt=2**31)]
    nodes: tuple[Node, ...]
    done: bool = False
    options: Options | None = None


class Column(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Of a Batch: what its other deltas have in place of one literal in node `node` of the
    template. `path` leads to it through the node as an array: the indices, and names in maps."""

    node: Annotated[int, Meta(ge=0)]
    path: Annotated[
        tuple[Annotated[int, Meta(ge=0)] | str, ...], Meta(min_length=1, max_length=MAX_PATH)
    ]
    values: tuple[Element, ...]


class Batch(_Message, frozen=True, tag="batch"):
    """Deltas of programs that differ in literals alone: `template`, then one of each of the
    programs `others`. `seeds` are those of their options, where the template has options."""

    template: Graph
    others: tuple[ProgramId, ...]
    seeds: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    columns: tuple[Column, ...] = ()


class Answer(_Message, frozen=True, tag="answer"):
    """What an Invoke has come to: `data`, or an error. A call is answered once; an answer to one
    that nobody waits for any more changes nothing."""

    program: ProgramId
    call: Annotated[int, Meta(ge=0)]
    data: Data = None
    code: str | None = None
    message: str | None = None


class Cancel(_Message, frozen=True, tag="cancel"):
    """Ends a program, or one branch of it with its children; idempotent."""

    program: ProgramId
    branch: int | None = None


class Release(_Message, frozen=True, tag="release"):
    """The client forgets these programs; what still runs of them is cancelled."""

    programs: tuple[ProgramId, ...]


class Unpin(_Message, frozen=True, tag="unpin"):
    """Ends the graph's Pin of that name; idempotent."""

    name: str
    tenant: Annotated[str, Meta(max_length=256)] = ""


class Ask(_Message, frozen=True, tag="ask"):
    """A question that is no program's. "info": see Info. "flush_cache": drops all cached KV that
    nothing running holds, pins included; then as "info"."""

    number: Annotated[int, Meta(ge=0)]
    what: Literal["info", "flush_cache"]


class Bye(_Message, frozen=True, tag="bye"):
    """The client leaves; all its programs are cancelled."""


Request = (
    Hello | Segments | Constraints | Graph | Batch | Answer | Cancel | Release | Unpin | Ask | Bye
)

# Front to client ---------------------------------------------------------------------------------


class Welcome(_Message, frozen=True, tag="welcome"):
    """`max_programs` of the client may run at a time, with `max_program_bytes` together: each
    counts PROGRAM_BYTES and the characters of its Text nodes that are no segments. None where there
    is no limit. Programs that others wait for may go beyond, up to INNER_ROOM times as much;
    over that a program is refused as "overloaded"."""

    protocol: int
    model: str
    tokenizer_fingerprint: str
    max_context: int
    max_programs: int | None = None
    max_program_bytes: int | None = None


class Refused(_Message, frozen=True, tag="refused"):
    """The connection cannot go on: another protocol version, or a message that is none."""

    code: str
    message: str


class Usage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Tokens, by where they came from.

    `prompt`: tokens before the node's own output, as the model saw them. `completion`: tokens of
    the output. Of all tokens the node needed: `reused` were in the cache, `same_step` were
    computed once for several streams of the same step, `computed` went through a forward. Of the
    output: `decoded` were sampled from a forward of their own, `forced` followed from the
    constraint, `drafted` were guessed and confirmed.
    """

    prompt: int = 0
    completion: int = 0
    reused: int = 0
    same_step: int = 0
    computed: int = 0
    decoded: int = 0
    forced: int = 0
    drafted: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.reused + other.reused,
            self.same_step + other.same_step,
            self.computed + other.computed,
            self.decoded + other.decoded,
            self.forced + other.forced,
            self.drafted + other.drafted,
        )


class Alternative(msgspec.Struct, frozen=True, gc=False, array_like=True):
    logprob: float
    token_id: int
    text: str


class TokenLogprob(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`logprob` is None for the very first token of a sequence, which nothing predicts."""

    logprob: float | None
    token_id: int
    text: str
    top: tuple[Alternative, ...] = ()


class ChoiceScores(msgspec.Struct, frozen=True, gc=False):
    """Of a Select, in the order of the choices. `token_logprobs[i]` are those of choice i after the
    `num_rewound` tokens of the prompt that were tokenised anew with the choices. `normalized` is
    what the method compared. `probabilities` sum to 1; `label_mass` is how likely the model was to
    say any of the choices at all."""

    token_logprobs: tuple[tuple[TokenLogprob, ...], ...]
    normalized: tuple[float, ...]
    probabilities: tuple[float, ...]
    label_mass: float
    num_rewound: int = 0
    greedy_logprob_matrix: tuple[tuple[float, ...], ...] | None = None
    unconditional_token_logprobs: tuple[tuple[TokenLogprob, ...], ...] | None = None
    normalized_unconditional: tuple[float, ...] | None = None


class ValueMeta(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`finish`: "stop" (a stop string, `matched` says which), "eos", "length" or "constraint" (the
    constraint allows nothing more); for n > 1 that of the first sample. `logprobs` one list a
    sample. `attempts`: outputs up to the one that the client's check has accepted; `usage` is that
    of all of them."""

    finish: str = "stop"
    matched: str | None = None
    usage: Usage = Usage()
    logprobs: tuple[tuple[TokenLogprob, ...], ...] | None = None
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    scores: ChoiceScores | None = None
    finishes: tuple[str, ...] = ()
    attempts: int = 1


class Delta(_Message, frozen=True, tag="delta"):
    """More text of a generation; only for programs that stream. The deltas of (value, sample) add
    up to its text. Text that may still turn out to belong to a stop string is held back."""

    program: ProgramId
    branch: int
    value: int
    sample: int
    text: str


class Value(_Message, frozen=True, tag="value"):
    """A value is there. `data`: text, list of texts, index of a choice, or a Let's result. `source`
    is the value that it was copied from, where it comes out of a region or of an Elect: its data
    means what that one's would. A value inside a region is only told to a client that streams, once
    for each run."""

    program: ProgramId
    value: int
    data: Data
    meta: ValueMeta | None = None
    source: int | None = None


class Invoke(_Message, frozen=True, tag="invoke"):
    """Asks the client to call its callable number `function`; an Answer with the same `call` is to
    follow. Of a Gen's check `args` are the text of the output, why it ended and which attempt it
    is, from 1 on; the answer's data is None where it will do, else a text: what is wrong with
    it."""

    program: ProgramId
    call: int
    function: int
    args: tuple[Data, ...]


class Info(_Message, frozen=True, tag="info"):
    """Answers Ask. `facts`: plain data about the server, its model, cache and queues."""

    number: int
    facts: dict[str, Data]


class Failed(_Message, frozen=True, tag="failed"):
    """The node of that ordinal has failed, and with it what depends on it: each dependent value has
    a Failed of its own with code "upstream". `value` is None where the node has none; its branch
    then takes no further nodes."""

    program: ProgramId
    node: int
    branch: int | None
    value: int | None
    code: str
    message: str
    pointer: str | None = None


class Finished(_Message, frozen=True, tag="finished"):
    """The last event of a program, unless the client asks for more text: everything is done, failed
    or cancelled. `error` is set where the program as a whole ended early: "cancelled", "deadline",
    "engine_lost" or a node that could not be accepted."""

    program: ProgramId
    usage: Usage
    code: str | None = None
    message: str | None = None


Event = Welcome | Refused | Delta | Value | Invoke | Info | Failed | Finished

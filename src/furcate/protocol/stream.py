"""Messages between the front process, which owns text, and the engine, which owns token ids.

A stream is one sequence of tokens that grows node by node; a branch of a program is a stream. The
front appends nodes without waiting; the engine runs them in order and reports each. Every opened
stream ends in exactly one StreamEnded.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .constraint import Constraint
from .graph import ChoicesMethod, Site, TokenId
from .message import Data, Usage
from .sampling import Sampling

__all__ = [
    "Append",
    "AskEngine",
    "CancelStream",
    "ChoiceResult",
    "Choose",
    "DefineConstraint",
    "DropConstraint",
    "End",
    "EngineEvent",
    "EngineFacts",
    "EngineHello",
    "EngineReady",
    "EngineRequest",
    "Extend",
    "Generate",
    "Hint",
    "NextUse",
    "NodeDone",
    "OpenStream",
    "Pin",
    "RawLogprob",
    "StreamEnded",
    "StreamNode",
    "Tokens",
    "Unpin",
]

StreamId = Annotated[int, Meta(ge=0)]
U64 = Annotated[int, Meta(ge=0)]  # msgpack holds at most 64 bits


class _Message(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    pass


# Nodes of a stream -------------------------------------------------------------------------------


class Extend(_Message, frozen=True, tag="ext"):
    """Appends known ids."""

    ids: tuple[TokenId, ...]


class Generate(_Message, frozen=True, tag="gen"):
    """Samples until a stop. `sampling.n` and `sampling.seed` and `sampling.stop` are not read here:
    the front opens a stream for each sample, resolves `seed` and encodes the stop strings.

    `stop_ids` end the output and are not part of it. A stop string, or what a pattern of
    `sampling.stop_regex` matches, is cut off at its first byte; a token that straddles it is
    replaced by tokens for the bytes before. `report` asks for Tokens
    messages while it runs. `sample`: which output of its Gen it is.
    """

    sampling: Sampling
    seed: U64
    stops: tuple[bytes, ...] = ()
    stop_ids: tuple[TokenId, ...] = ()
    constraint: int | None = None
    report: bool = False
    site: Site = 0
    sample: int = 0


class Choose(_Message, frozen=True, tag="sel"):
    """Scores each choice, a non-empty list of ids, as a continuation; appends the winner's ids.

    `unconditional`: context of the method that needs one, the ids before the choices in a sequence
    that holds nothing else.
    """

    choices: tuple[tuple[TokenId, ...], ...]
    seed: U64
    method: ChoicesMethod = "token_length_normalized"
    temperature: float = 0.0
    unconditional: tuple[TokenId, ...] = ()
    site: Site = 0


class Pin(_Message, frozen=True, tag="pin"):
    """Keeps the KV of all tokens before it in the cache, whatever becomes of the stream, until
    Unpin or for `ttl_s` seconds. Another pin of the same name takes its place. Where more than the
    engine allows would be pinned, a `strict` one fails the stream and another keeps nothing."""

    pin: int
    ttl_s: float | None = None
    strict: bool = False


class End(_Message, frozen=True, tag="end"):
    """Nothing more will be appended; the stream ends when it gets here."""


StreamNode = Extend | Generate | Choose | Pin | End

# Front to engine ---------------------------------------------------------------------------------


class EngineHello(_Message, frozen=True, tag="hello"):
    protocol: int


class OpenStream(_Message, frozen=True, tag="open"):
    """Opens a stream: empty, or with the tokens that `parent` has after its first `parent_nodes`
    nodes, as soon as it has them; a parent that fails before takes the child with it. The front
    names a parent only before that parent's End.

    `deadline_s`: seconds from now in which the stream is to end. Cached KV is shared within a
    `namespace` alone: a model's adapter, a tenant.
    """

    stream: StreamId
    program: int
    parent: int | None = None
    parent_nodes: int = 0
    priority: int = 0
    deadline_s: float | None = None
    namespace: str = ""


class Append(_Message, frozen=True, tag="append"):
    stream: StreamId
    nodes: tuple[StreamNode, ...]


NextUse = Literal["unknown", "idle", "scheduled", "dead"]


class Hint(_Message, frozen=True, tag="hint"):
    """What the front knows of a stream beyond the nodes it has appended. Safe to ignore; a later
    one takes the place of an earlier one.

    `path`: generations and choices recorded to come after the appended nodes, on the longest chain
    through everything that depends on them. `num_waiting`: branches that are held up for a value of
    this stream. `next_use` of its tokens, once it has nothing to compute: recorded nodes will
    use them ("scheduled"), its program's host code will be heard of, in `expect_s` seconds where
    that is known ("idle"), nobody holds a handle any more ("dead").
    """

    stream: StreamId
    path: int = 0
    num_waiting: int = 0
    next_use: NextUse = "unknown"
    expect_s: float | None = None


class Unpin(_Message, frozen=True, tag="unpin"):
    """Ends a Pin. Idempotent."""

    pin: int


class CancelStream(_Message, frozen=True, tag="cancel"):
    """Idempotent; children that have not branched off yet are cancelled too."""

    stream: StreamId


class DefineConstraint(_Message, frozen=True, tag="cons"):
    """Makes `constraint` known under `id`, chosen by the front; compilation starts at once."""

    id: int
    constraint: Constraint


class DropConstraint(_Message, frozen=True, tag="uncons"):
    id: int


class AskEngine(_Message, frozen=True, tag="ask"):
    """Asks for EngineFacts; `flush_cache` drops the KV that no stream holds before that."""

    number: int
    flush_cache: bool = False


EngineRequest = (
    EngineHello
    | OpenStream
    | Append
    | Hint
    | Unpin
    | CancelStream
    | DefineConstraint
    | DropConstraint
    | AskEngine
)

# Engine to front ---------------------------------------------------------------------------------


class EngineReady(_Message, frozen=True, tag="ready"):
    """Answers EngineHello, and is sent once after start. The front checks the protocol version and
    the tokenizer it uses itself."""

    protocol: int
    model: str
    tokenizer_fingerprint: str
    max_context: int
    vocab_size: int


class RawLogprob(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`top`: (log-probability, id) of the likeliest tokens at this place, best first."""

    logprob: float | None
    token_id: int
    top: tuple[tuple[float, int], ...] = ()


class Tokens(_Message, frozen=True, tag="tok"):
    """Ids of a running Generate that no stop string can take back. `node` is the ordinal of the
    node in its stream."""

    stream: int
    node: int
    ids: tuple[int, ...]


class ChoiceResult(msgspec.Struct, frozen=True, gc=False):
    """What a Choose found; fields as in message.ChoiceScores, without text."""

    winner: int
    token_logprobs: tuple[tuple[float, ...], ...]
    normalized: tuple[float, ...]
    probabilities: tuple[float, ...]
    label_mass: float
    greedy_logprob_matrix: tuple[tuple[float, ...], ...] | None = None
    unconditional_token_logprobs: tuple[tuple[float, ...], ...] | None = None
    normalized_unconditional: tuple[float, ...] | None = None


class NodeDone(_Message, frozen=True, tag="node"):
    """A Generate or Choose is complete. `ids` are all it appended."""

    stream: int
    node: int
    ids: tuple[int, ...]
    finish: Literal["stop", "eos", "length", "constraint", "choice"]
    usage: Usage
    matched: bytes | None = None
    logprobs: tuple[RawLogprob, ...] | None = None
    prompt_logprobs: tuple[RawLogprob, ...] | None = None
    choice: ChoiceResult | None = None


class StreamEnded(_Message, frozen=True, tag="end"):
    """The last message of a stream. `code` is None where it came to its End, "cancelled", or an
    error code; `node` is then the ordinal of the node that failed. `usage` covers the whole stream,
    the nodes that only extend it included."""

    stream: int
    usage: Usage
    code: str | None = None
    node: int = 0
    message: str | None = None
    pointer: str | None = None


class EngineFacts(_Message, frozen=True, tag="facts"):
    """Plain facts about cache, queues and steps, each under a name of its own."""

    number: int
    facts: dict[str, Data]


EngineEvent = EngineReady | Tokens | NodeDone | StreamEnded | EngineFacts

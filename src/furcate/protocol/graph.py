"""The nodes of a program: what the language records and the front process interprets.

A program is a growing list of nodes. A node's *ordinal* is its place in that list, where the nodes
of a region count right after the node that holds them; failures refer to it, and the client knows
the source line of each. Branches and values are integers that the client numbers from 0 in each
program; branch 0 is the program's own state. Nodes are data: nothing here can run code on the other
side.

A *region* is a list of nodes inside a Switch, a Loop or a ForkOver. It runs when the runtime knows
that it is to run, as often as it is to run. Its branches and values have numbers of the whole
program too; each run of the region gives them new meanings, which nodes inside it see and nodes
outside do not. What comes out of it are the `outs`, values of the node that holds it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .sampling import Sampling

__all__ = [
    "Call",
    "Carry",
    "Case",
    "ChoicesMethod",
    "Drop",
    "Elect",
    "Fill",
    "Fork",
    "ForkOver",
    "Gen",
    "Ids",
    "Join",
    "Let",
    "LetOp",
    "Literal_",
    "Loop",
    "Mark",
    "Node",
    "Operand",
    "Out",
    "Pin",
    "Reasoning",
    "Recall",
    "Role",
    "Root",
    "Save",
    "Score",
    "Select",
    "Special",
    "Stop",
    "Switch",
    "Text",
    "TextOf",
    "ValueRef",
]

Branch = Annotated[int, Meta(ge=0, lt=2**31)]
ValueId = Annotated[int, Meta(ge=0, lt=2**31)]
TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
TableIndex = Annotated[int, Meta(ge=0, lt=2**31)]
Site = Annotated[int, Meta(ge=0)]

ChoicesMethod = Literal[
    "token_length_normalized",
    "greedy_token_selection",
    "unconditional_likelihood_normalized",
]
LetOp = Literal[
    "concat",  # (separator, *values): the values' texts joined
    "strip",
    "lstrip",
    "rstrip",
    "lower",
    "upper",
    "replace",  # (value, old, new)
    "removeprefix",  # (value, prefix)
    "removesuffix",  # (value, suffix)
    "len",
    "item",  # (value, index or key)
    "json",  # (value, path): the element of a JSON text at a path such as "$.items[0].name"
    "regex",  # (value, pattern, group): what the first match has found
    "list",  # (*values): a list of them
    "eq",  # numbers compare as numbers, also where one is a text that spells one
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "contains",  # (value, part): a text has the part in it, a list has the element
    "is_in",  # (value, *elements)
    "matches",  # (value, pattern): the pattern is found somewhere
    "and",
    "or",
    "not",
    "argmax",  # (*values): the index of the greatest, the first of equals
    "vote",  # (*values): the one that most are equal to, the first of equals
    "pick",  # (order, rank, *values): the value whose index stands at `rank` in the list `order`
]


class _Node(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    pass


class ValueRef(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="v"):
    """Stands for the value of that id wherever a literal may stand."""

    value: ValueId


Literal_ = str | int | float | bool | None
Operand = ValueRef | str | int | float | bool | None


class Root(_Node, frozen=True, tag="root"):
    """Opens branch `branch` with empty text, or with what was saved as `session`; branch 0 is open
    from the start unless the program's first node is a Root."""

    branch: Branch
    model: str | None = None
    session: str | None = None


class Text(_Node, frozen=True, tag="text"):
    """Appends text: given inline, or by its index in the connection's segment table. Never yields a
    control token. Neighbouring Text and Fill nodes are tokenised as one run."""

    branch: Branch
    text: str | TableIndex


class Ids(_Node, frozen=True, tag="ids"):
    """Appends exact token ids."""

    branch: Branch
    ids: tuple[TokenId, ...]


class Special(_Node, frozen=True, tag="special"):
    """Appends one control token by name, such as "<|im_end|>"."""

    branch: Branch
    name: str


class Role(_Node, frozen=True, tag="role"):
    """Begins or ends a role; expands to what the model's own chat template puts there."""

    branch: Branch
    role: str
    edge: Literal["begin", "end"]


class Fill(_Node, frozen=True, tag="fill"):
    """Appends the text of a value, of this or another branch, as soon as it is there."""

    branch: Branch
    value: ValueId


class Reasoning(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """A reasoning section may come before the output: where the model begins one, or `forced`. What
    shapes or ends the output is about what comes after the section. `value` gets its text without
    the markers and the white space around it, and its Deltas. `begin` and `end` are the markers,
    None those of the model. At most `max_tokens` of it; then the runtime ends it. `is_open`: the
    text before has begun the section already."""

    value: ValueId
    begin: str | None = None
    end: str | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    is_open: bool = False
    forced: bool = False


class Gen(_Node, frozen=True, tag="gen"):
    """Generates, and stores the text (a list of texts where sampling.n > 1) as `value`.

    `site` identifies the call in the source, for statistics. `constraint` is an index in the
    connection's constraint table. `check` is a callable of the client that is asked whether the
    output will do (see message.Invoke): where it will not, up to `retries` other outputs take its
    place, each drawn anew from the same prefix. `stopped_by` is a value that gets the text of the
    stop that has ended the output, or none.
    """

    branch: Branch
    value: ValueId
    site: Site
    sampling: Sampling
    constraint: TableIndex | None = None
    check: TableIndex | None = None
    retries: Annotated[int, Meta(ge=0, le=64)] = 0
    reasoning: Reasoning | None = None
    stopped_by: ValueId | None = None


class Select(_Node, frozen=True, tag="select"):
    """Scores the choices as continuations, appends the best and stores its index as `value`.

    `temperature` > 0 samples among the choices. `scores` asks for probabilities in the meta data.
    """

    branch: Branch
    value: ValueId
    site: Site
    choices: tuple[str, ...]
    method: ChoicesMethod = "token_length_normalized"
    temperature: float = 0.0
    scores: bool = False


class Score(_Node, frozen=True, tag="score"):
    """Stores how likely the text is as the branch's next, in nats, as `value`; the log-probability
    of each token is in its meta data. The branch stays as it is."""

    branch: Branch
    value: ValueId
    text: str | TableIndex | ValueRef


class Mark(_Node, frozen=True, tag="mark"):
    """Between the begin and the end of a mark stands the text that `value` gets. Ends no text
    run."""

    branch: Branch
    value: ValueId
    edge: Literal["begin", "end"]


class Fork(_Node, frozen=True, tag="fork"):
    """Opens the children with the text that the branch has at this point."""

    branch: Branch
    children: tuple[Branch, ...]


class Join(_Node, frozen=True, tag="join"):
    """Appends to `branch` what each child has appended since the fork, in order."""

    branch: Branch
    children: tuple[Branch, ...]


class Let(_Node, frozen=True, tag="let"):
    """Stores the result of a pure operation on values and literals as `value`."""

    value: ValueId
    op: LetOp
    args: tuple[Operand, ...]


class Call(_Node, frozen=True, tag="call"):
    """Asks the client to call its callable number `function` with the values of `args`, and stores
    what it returns as `value`. The calls of a branch follow one another. `expect_s`: how long it is
    expected to take."""

    branch: Branch
    value: ValueId
    function: TableIndex
    args: tuple[Operand, ...] = ()
    expect_s: float | None = None


class Elect(_Node, frozen=True, tag="elect"):
    """Chooses among branches and goes on from the chosen ones, as far as they have come here.

    "best": those with the greatest keys, the first of equals; a candidate whose key has failed
    comes last. "first": those whose keys are true, in the order of the candidates. The value
    `order` is the list of the chosen candidates' indices, one for each of `children`: child i
    begins with the text of the candidate order[i]. Candidates that are not chosen are cancelled as
    soon as that is known. Fewer that will do than children: the node fails.
    """

    candidates: tuple[Branch, ...]
    keys: tuple[ValueId, ...]
    children: tuple[Branch, ...]
    order: ValueId
    by: Literal["best", "first"] = "best"


class Out(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """A value that comes out of a region. Of a Switch there is one source for each case, None where
    the case does not give it; of the others one."""

    value: ValueId
    sources: tuple[ValueId | None, ...]


class Case(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """`when` None: where no other case applies."""

    when: str | int | float | bool | None
    nodes: tuple[Node, ...] = ()


class Switch(_Node, frozen=True, tag="switch"):
    """Runs, on `branch`, the nodes of the first case that is equal to the value `on`. None and no
    default: the node fails."""

    branch: Branch
    on: ValueId
    cases: tuple[Case, ...]
    outs: tuple[Out, ...] = ()


class Carry(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """Inside a loop `value` means `first` in the first run and what `next` was in the run before in
    each later one. `first` None: nothing has a value of that name before the loop."""

    value: ValueId
    first: ValueId | None
    next: ValueId


class Loop(_Node, frozen=True, tag="loop"):
    """Runs the nodes on `branch` again and again, each run after the one before, until the value
    `until` of a run is true, a Stop was reached, the list `over` is used up, or `max_iters` runs
    are done. `item` and `index` mean the element and the number of the run. The outs are those of
    the last run; where there was none they have what they carry, or fail."""

    branch: Branch
    nodes: tuple[Node, ...]
    max_iters: Annotated[int, Meta(ge=1, le=100_000)]
    carried: tuple[Carry, ...] = ()
    until: ValueId | None = None
    over: ValueId | None = None
    item: ValueId | None = None
    index: ValueId | None = None
    outs: tuple[Out, ...] = ()


class Stop(_Node, frozen=True, tag="stop"):
    """The run of the innermost Loop on this branch is the last one. Nothing comes after it in the
    region it stands in."""

    branch: Branch


class ForkOver(_Node, frozen=True, tag="forkover"):
    """Opens one child of the branch for each element of the list `over` and runs the nodes on it;
    in them the child is `child`. The outs are lists, one element a child, None where it failed."""

    branch: Branch
    over: ValueId
    child: Branch
    nodes: tuple[Node, ...] = ()
    item: ValueId | None = None
    index: ValueId | None = None
    outs: tuple[Out, ...] = ()


class Save(_Node, frozen=True, tag="save"):
    """Keeps what the branch says here, its roles and these named values as the session `name`, for
    other programs of the same tenant to begin from, for `ttl_s` seconds after the last use. The
    values of a session that the branch itself began from are kept under their names too."""

    branch: Branch
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    values: tuple[tuple[str, ValueId], ...] = ()
    ttl_s: Annotated[float, Meta(gt=0)] | None = None


class Recall(_Node, frozen=True, tag="recall"):
    """Stores something of the session that the branch was opened from as `value`: the value of that
    name; the list of all names; or its turns, a list of pairs of role and text."""

    branch: Branch
    value: ValueId
    name: str = ""
    what: Literal["value", "names", "turns"] = "value"


class Pin(_Node, frozen=True, tag="pin"):
    """Keeps the KV of all that the branch says here in the cache under `name`, whatever becomes of
    the program, until message.Unpin or for `ttl_s` seconds. `value` gets the number of tokens."""

    branch: Branch
    value: ValueId
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    ttl_s: Annotated[float, Meta(gt=0)] | None = None


class TextOf(_Node, frozen=True, tag="textof"):
    """Stores the whole text of the branch at this point as `value`, chat template included; or with
    `turns` a list of [role, text], one for each turn, without what the template puts there."""

    branch: Branch
    value: ValueId
    turns: bool = False


class Drop(_Node, frozen=True, tag="drop"):
    """The client holds no handle of the branch any more: nothing more will be appended to it."""

    branch: Branch


Node = (
    Root
    | Text
    | Ids
    | Special
    | Role
    | Fill
    | Gen
    | Select
    | Score
    | Mark
    | Fork
    | Join
    | Let
    | Call
    | Elect
    | Switch
    | Loop
    | Stop
    | ForkOver
    | Save
    | Recall
    | Pin
    | TextOf
    | Drop
)

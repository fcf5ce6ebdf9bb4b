"""The nodes of a program: what the language records and the front process interprets.

A program is a growing list of nodes. A node's *ordinal* is its place in that list; failures refer
to it, and the client knows the source line of each. Branches and values are integers that the
client numbers from 0 in each program; branch 0 is the program's own state. Nodes are data: nothing
here can run code on the other side.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .sampling import Sampling

__all__ = [
    "ChoicesMethod",
    "Drop",
    "Fill",
    "Fork",
    "Gen",
    "Ids",
    "Join",
    "Let",
    "LetOp",
    "Literal_",
    "Node",
    "Operand",
    "Role",
    "Root",
    "Select",
    "Special",
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
]


class _Node(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    pass


class ValueRef(msgspec.Struct, frozen=True, array_like=True, tag="v"):
    """Stands for the value of that id wherever a literal may stand."""

    value: ValueId


Literal_ = str | int | float | bool | None
Operand = ValueRef | str | int | float | bool | None


class Root(_Node, frozen=True, tag="root"):
    """Opens branch `branch` with empty text; branch 0 is open from the start unless the program's
    first node is a Root. `template` "append" allows a chat template that
    rewrites history; None refuses it."""

    branch: Branch
    model: str | None = None
    template: Literal["append"] | None = None


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


class Gen(_Node, frozen=True, tag="gen"):
    """Generates, and stores the text (a list of texts where sampling.n > 1) as `value`.

    `site` identifies the call in the source, for statistics. `constraint` is an index in the
    connection's constraint table.
    """

    branch: Branch
    value: ValueId
    site: Site
    sampling: Sampling
    constraint: TableIndex | None = None


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


class TextOf(_Node, frozen=True, tag="textof"):
    """Stores the whole text of the branch at this point as `value`, chat template included."""

    branch: Branch
    value: ValueId


class Drop(_Node, frozen=True, tag="drop"):
    """The client holds no handle of the branch any more: nothing more will be appended to it."""

    branch: Branch


Node = Root | Text | Ids | Special | Role | Fill | Gen | Select | Fork | Join | Let | TextOf | Drop

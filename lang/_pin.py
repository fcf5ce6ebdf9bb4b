"""Pinning: what every run of a program begins with is computed once and kept in the cache.

The body runs with the bound arguments up to where the runs begin to differ: the first use of an
argument that is not bound, the first value, the first fork. What it does before that happens.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NoReturn, Self

from furcate.errors import UsageError
from furcate.protocol.graph import Pin

from ._body import inside
from ._branch import Branch
from ._default import backend_or_default
from ._location import caller_location
from ._loops import run_coroutine
from ._program import Program
from ._run import Call, finish
from ._session import check_ttl, open_session
from ._state import ProgramState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from furcate.protocol.constraint import Constraint
    from furcate.protocol.graph import Node

    from ._options import RunOptions
    from ._output import Output
    from ._recording import Recorded
    from ._slot import Slot
    from .backend.session import Session

__all__ = ["Pinned", "pin"]


class Pinned:
    """The beginning of a program, kept in the cache of its backend: `tokens` of it.

    It is kept until `unpin()`, or the end of a `with` block, or of its time; and no longer than the
    engine lives. Dropping this object changes nothing.
    """

    def __init__(self, backend: Session, name: str, tenant: str, tokens: int) -> None:
        self.tokens = tokens
        self._backend = backend
        self._name = name
        self._tenant = tenant

    def unpin(self) -> None:
        """The tokens may leave the cache again; callable twice."""
        self._backend.unpin(self._name, self._tenant)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unpin()

    def __repr__(self) -> str:
        return f"<{self.tokens} tokens pinned as {self._name!r}>"


class _PrefixEnd(BaseException):
    """Runs differ from here on. No program's `except Exception` is to catch it."""


class _Prefix(Program):
    """Records up to the end of what all runs have in common, and nothing behind it: roles that
    close while the end is on its way up are not part of it."""

    is_over = False

    def end(self) -> NoReturn:
        self.is_over = True
        raise _PrefixEnd

    def new_slot(
        self, label: str, location: str, branch: int | None, output: Output | None = None
    ) -> Slot:
        self.end()

    def new_branch(self) -> int:
        self.end()

    def record(
        self,
        node: Node,
        label: str,
        location: str,
        constraint: Constraint | None = None,
        regions: tuple[tuple[Recorded, ...], ...] = (),
    ) -> None:
        if not self.is_over:
            super().record(node, label, location, constraint, regions)

    def record_pin(self, name: str, ttl_s: float | None) -> Slot:
        location = caller_location()
        slot = super().new_slot("pin", location, None)
        super().record(Pin(0, slot.value_id, name, ttl_s), "pin", location)
        return slot


class _Unbound:
    """Stands for an argument that differs from run to run; whatever asks it anything ends the
    prefix. That it is no other object, such as None, can be seen without asking."""

    __slots__ = ("_prefix",)

    def __init__(self, prefix: _Prefix) -> None:
        object.__setattr__(self, "_prefix", prefix)

    def __getattribute__(self, name: str) -> NoReturn:
        _use(self)


def _use(unbound: _Unbound, *_: object) -> NoReturn:
    prefix: _Prefix = object.__getattribute__(unbound, "_prefix")
    prefix.end()


_USES = (
    "str repr format hash bool int float complex index len iter next reversed contains getitem "
    "setitem delitem call await aiter anext enter exit aenter aexit eq ne lt le gt ge neg pos abs "
    "invert round add radd sub rsub mul rmul matmul rmatmul truediv rtruediv floordiv rfloordiv "
    "mod rmod divmod rdivmod pow rpow lshift rlshift rshift rrshift and rand or ror xor rxor bytes "
    "fspath setattr delattr dir"
).split()
for _name in _USES:
    setattr(_Unbound, f"__{_name}__", _use)


def pin(
    body: Callable[..., object],
    arguments: Callable[[object], tuple[tuple[object, ...], Mapping[str, object]]],
    options: RunOptions,
    ttl_s: float | None,
) -> Pinned:
    """`arguments` gives those of the body, with its own argument in place of those that differ from
    run to run. Waits until the tokens are there."""
    ttl_s = check_ttl(ttl_s)
    backend, program_name = backend_or_default(options.backend), Call(body).name
    prefix = _Prefix(
        backend, options.wire(), sampling=options.sampling, name=program_name, lazy=True
    )
    branch = Branch(prefix, 0)
    if options.session is not None:
        open_session(branch, options.session)
    state = ProgramState(branch)
    num_before = prefix.recording.num_nodes
    _run_prefix(state, Call(body, *arguments(_Unbound(prefix))))
    if prefix.recording.num_nodes == num_before:
        raise UsageError(
            f"there is nothing to pin: {program_name} appends no text before it generates or uses "
            f"an argument that is not bound"
        )
    name = f"{program_name}:{secrets.token_hex(8)}"
    slot = prefix.record_pin(name, ttl_s)
    prefix.close()
    prefix.flush()
    finish(state)
    tokens = prefix.value(slot)
    assert isinstance(tokens, int)
    return Pinned(backend, name, options.tenant, tokens)


def _run_prefix(state: ProgramState, call: Call) -> None:
    try:
        with inside(state._program):
            if call.is_async:
                run_coroutine(lambda: call.body(state, *call.args, **call.keywords))  # type: ignore[arg-type, return-value]
            else:
                call.body(state, *call.args, **call.keywords)
    except _PrefixEnd:
        pass

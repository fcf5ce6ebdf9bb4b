"""What `run` and its relatives take beside the program's own arguments."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

from furcate.errors import UsageError
from furcate.protocol.message import Options

from ._sampling import RUN_KEYWORDS, Keywords, collect

if TYPE_CHECKING:
    from .backend.session import Session

__all__ = ["RunOptions", "Signature"]

_SEEDS = 2**32  # enough to tell runs apart, and five bytes on the wire


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Checked; `seed` None draws one."""

    sampling: Keywords = field(default_factory=dict)
    backend: Session | None = None
    stream: bool = False
    timeout_s: float | None = None
    seed: int | None = None
    priority: int = 0
    tenant: str = ""
    session: str | None = None  # that the program begins from

    def wire(self, index: int = 0) -> Options:
        """Of one program; the items of a batch with a seed count up from it."""
        seed = secrets.randbelow(_SEEDS) if self.seed is None else (self.seed + index) % 2**64
        return Options(
            seed=seed,
            stream=self.stream,
            timeout_s=self.timeout_s,
            priority=self.priority,
            tenant=self.tenant,
        )


_RUN_ONLY = frozenset({"backend", "stream", "timeout", "seed", "sampling", "priority", "tenant"})
_MAX_PRIORITY = 100
_MAX_TENANT_CHARS = 256


class Signature:
    """Tells a program's arguments from the options of its run: a parameter of the program wins over
    an option of the same name."""

    def __init__(self, body: Callable[..., object]) -> None:
        self._name = getattr(body, "__qualname__", "program")
        self._signature = inspect.signature(body)
        parameters = list(self._signature.parameters.values())
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if not parameters or parameters[0].kind not in kinds:
            raise UsageError(
                f"a program takes its state as the first parameter: "
                f"def {getattr(body, '__name__', 'program')}(s, ...)"
            )
        self._own = {parameter.name for parameter in parameters[1:]}

    def split(
        self, args: tuple[object, ...], keywords: Mapping[str, object]
    ) -> tuple[dict[str, object], RunOptions]:
        """The keywords of the body, checked against its signature, and the options of the run."""
        own = {key: value for key, value in keywords.items() if self._is_own(key)}
        options = {key: value for key, value in keywords.items() if not self._is_own(key)}
        self.check(args, own)
        return own, run_options(options)

    def check(self, args: tuple[object, ...], keywords: Mapping[str, object]) -> None:
        """Raises TypeError that names the program and what is missing or unknown."""
        try:
            self._signature.bind(None, *args, **keywords)
        except TypeError as error:
            raise TypeError(f"{self._name}() {_after_a_name(str(error))}") from None

    def options(self, keywords: Mapping[str, object]) -> RunOptions:
        """Where the program's arguments come separately: every keyword is an option."""
        for key in keywords:
            if key not in (RUN_KEYWORDS | _RUN_ONLY) or key == "stream":
                raise TypeError(f"run_batch() got an unexpected keyword argument {key!r}")
        return run_options(keywords)

    def _is_own(self, key: str) -> bool:
        return key in self._own or key not in (RUN_KEYWORDS | _RUN_ONLY)


def run_options(given: Mapping[str, object]) -> RunOptions:
    """Raises UsageError for a bad value; `sampling=dict(...)` wins over single keywords."""
    explicit = given.get("sampling") or {}
    if not isinstance(explicit, Mapping):
        raise UsageError(f"sampling must be a dict of sampling parameters, got {explicit!r}")
    single = {key: value for key, value in given.items() if key not in _RUN_ONLY}
    sampling = {**collect(single, RUN_KEYWORDS), **collect(explicit, RUN_KEYWORDS)}
    stream, timeout, seed = given.get("stream", False), given.get("timeout"), given.get("seed")
    if not isinstance(stream, bool):
        raise UsageError(f"stream must be True or False, got {stream!r}")
    if timeout is not None and not (_is_number(timeout) and 0 < timeout < 1e9):
        raise UsageError(f"timeout must be a positive number of seconds, got {timeout!r}")
    if seed is not None and not (
        isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**64
    ):
        raise UsageError(f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}")
    backend = given.get("backend")
    return RunOptions(
        sampling,
        backend,  # type: ignore[arg-type]  # checked where it is used
        stream,
        float(timeout) if timeout is not None else None,
        seed,
        _priority(given.get("priority")),
        _tenant(given.get("tenant")),
    )


def _priority(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_PRIORITY:
        raise UsageError(
            f"priority must be an integer from -{_MAX_PRIORITY} to {_MAX_PRIORITY}, got {value!r}"
        )
    return value


def _tenant(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_TENANT_CHARS:
        raise UsageError(
            f"tenant must be a name of at most {_MAX_TENANT_CHARS} characters, got {value!r:.300}"
        )
    return value


def _after_a_name(reason: str) -> str:
    """The words of `Signature.bind`, which knows no name, as they go on after one."""
    if reason.startswith("missing"):
        return f"is {reason}"
    return reason if reason.startswith("got") else f"got {reason}"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""What `run` and its relatives take beside the program's own arguments."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from furcate.errors import UsageError
from furcate.protocol.message import Options

from ._numbers import is_integer, is_number
from ._sampling import RUN_KEYWORDS, Keywords, collect

if TYPE_CHECKING:
    from .backend.session import Session

__all__ = ["RunOptions", "Signature"]

_SEED_BITS = 32  # enough to tell runs apart, and five bytes on the wire


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
    template: Literal["append"] | None = None
    session: str | None = None  # that the program begins from

    def with_seed(self) -> RunOptions:
        """With a seed that is drawn now, for a batch, if it has none."""
        drawn = secrets.randbits(_SEED_BITS) if self.seed is None else self.seed
        return replace(self, seed=drawn)

    def wire(self, index: int = 0) -> Options:
        """Of one program; the items of a batch with a seed count up from it."""
        seed = secrets.randbits(_SEED_BITS) if self.seed is None else (self.seed + index) % 2**64
        return Options(
            seed=seed,
            stream=self.stream,
            timeout_s=self.timeout_s,
            priority=self.priority,
            tenant=self.tenant,
            template=self.template,
        )


_RUN_ONLY = frozenset(
    {"backend", "stream", "timeout", "seed", "sampling", "priority", "tenant", "template"}
)
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
        self,
        args: tuple[object, ...],
        keywords: Mapping[str, object],
        bound: Mapping[str, object],
    ) -> tuple[dict[str, object], RunOptions]:
        """The keywords of the body, checked against its signature, and the options of the run."""
        own = {key: value for key, value in keywords.items() if self._is_own(key)}
        own = self.with_bound(args, own, bound)
        options = {key: value for key, value in keywords.items() if not self._is_own(key)}
        self.check(args, own)
        return own, run_options(options)

    def with_bound(
        self,
        args: tuple[object, ...],
        keywords: Mapping[str, object],
        bound: Mapping[str, object],
    ) -> dict[str, object]:
        """The keywords and, of the arguments that are bound, those which the call does not give."""
        if not bound:
            return dict(keywords)
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = list(self._signature.parameters.values())[1:]
        given = [p.name for p in parameters if p.kind in positional][: len(args)]
        return {key: value for key, value in bound.items() if key not in given} | dict(keywords)

    def check_names(self, arguments: Mapping[str, object]) -> None:
        """Raises TypeError for one that can never be an argument by keyword."""
        parameters = self._signature.parameters
        by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        state = next(iter(parameters))
        for name in arguments:
            is_known = name in parameters and parameters[name].kind in by_keyword
            if name == state or not (is_known or takes_any):
                raise TypeError(f"{self._name}() has no argument {name!r} that could be bound")

    def filled(
        self, bound: Mapping[str, object], rest: object
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Arguments for the body, with `rest` for each parameter that is not bound."""
        args: list[object] = []
        keywords = dict(bound)
        for parameter in list(self._signature.parameters.values())[1:]:
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                args.append(keywords.pop(parameter.name, rest))
            elif parameter.kind not in (
                inspect.Parameter.VAR_POSITIONAL,
                inspect.Parameter.VAR_KEYWORD,
            ):
                keywords.setdefault(parameter.name, rest)
        return tuple(args), keywords

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
    if timeout is not None and not (is_number(timeout) and 0 < timeout < 1e9):
        raise UsageError(f"timeout must be a positive number of seconds, got {timeout!r}")
    if seed is not None and not (is_integer(seed) and 0 <= seed < 2**64):
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
        _template(given.get("template")),
    )


def _priority(value: object) -> int:
    if value is None:
        return 0
    if not is_integer(value) or abs(value) > _MAX_PRIORITY:
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


def _template(value: object) -> Literal["append"] | None:
    if value is None or value == "append":
        return "append" if value is not None else None
    raise UsageError(f"template must be 'append' or None, got {value!r:.300}")


def _after_a_name(reason: str) -> str:
    """The words of `Signature.bind`, which knows no name, as they go on after one."""
    if reason.startswith("missing"):
        return f"is {reason}"
    return reason if reason.startswith("got") else f"got {reason}"

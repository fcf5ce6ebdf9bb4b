"""`gen(check=f, retries=k)`: whether an output will do, said in this process.

An attempt that is cut, that is no value of its type or that the check refuses makes way for
another. The runtime makes the attempts; here each is read, checked, and told what is wrong with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from furcate.errors import (
    CallFailed,
    FurcateError,
    GenerationError,
    Truncated,
    UsageError,
    ValidationFailed,
)

from ._call import name_of, short
from ._numbers import is_integer

if TYPE_CHECKING:
    from collections.abc import Awaitable, MutableMapping, Sequence

    from furcate.protocol.message import Data
    from furcate.protocol.sampling import Sampling

    from ._output import Output
    from ._slot import Slot

__all__ = ["Check", "Checking", "checking_of"]

MAX_RETRIES = 64

Check = Callable[[Any], object]  # of the value; Any, for the value's type is told at run time


@dataclass(frozen=True, slots=True, eq=False)
class Checking:
    """What a gen asks for. Without a `check` the output need only be a value of its type."""

    check: Check | None
    retries: int

    def fit(self, sampling: Sampling) -> None:
        """Raises UsageError where the resolved parameters leave nothing to check or to retry."""
        if sampling.n > 1:
            raise UsageError(
                f"check and retries take one output, not n={sampling.n}: fork() and check in each"
            )
        if self.retries and sampling.temperature == 0.0:
            raise UsageError(
                f"retries={self.retries} at temperature 0.0 would draw the same output again: "
                f"raise the temperature or leave retries out"
            )

    def task(self, slot: Slot, told: MutableMapping[str, FurcateError]) -> Verdicts:
        return Verdicts(self, slot, told)


def checking_of(check: Check | None, retries: int | None, output: Output) -> Checking | None:
    """None where nothing is to be checked."""
    if check is not None and not callable(check):
        raise UsageError(f"check must be a function of the value, got {check!r}")
    if retries is not None and not (is_integer(retries) and 0 <= retries <= MAX_RETRIES):
        raise UsageError(f"retries must be an integer from 0 to {MAX_RETRIES}, got {retries!r}")
    if check is None and not retries:
        return None
    if check is None and output.parse is None:
        raise UsageError(
            f"retries={retries} has no effect on an output that is always right: add check= or "
            f"type="
        )
    return Checking(check, retries or 0)


@dataclass(frozen=True, slots=True)
class Accepted:
    value: object


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """Judges the attempts of one gen. `told` gets the errors whose messages travel."""

    checking: Checking
    slot: Slot
    told: MutableMapping[str, FurcateError]

    @property
    def function(self) -> Callable[..., object]:
        return self.checking.check or _nothing

    def call(self, args: Sequence[Data]) -> object:
        """Accepted, or the error that says what is wrong; where the check is async, a promise of
        one."""
        text, finish, attempt = args
        try:
            value = self.slot.judge(str(text), str(finish))
        except GenerationError as error:
            return self._refusal(attempt, error)
        if self.checking.check is None:
            return Accepted(value)
        try:
            result = self.checking.check(value)
        except Exception as error:
            return self._refusal(attempt, error, value)
        if inspect.isawaitable(result):
            return self._awaited(attempt, value, result)
        return self._verdict(attempt, value, result)

    async def _awaited(
        self, attempt: Data, value: object, result: Awaitable[object]
    ) -> Accepted | FurcateError:
        try:
            awaited = await result
        except Exception as error:
            return self._refusal(attempt, error, value)
        return self._verdict(attempt, value, awaited)

    def ended(self, args: Sequence[Data], result: object) -> Data:
        if isinstance(result, Accepted):
            self.slot.keep(str(args[0]), result.value)
            return None
        assert isinstance(result, FurcateError)
        self.told[str(result)] = result
        if not isinstance(result, GenerationError):
            raise result
        return str(result)

    def raised(self, args: Sequence[Data], error: BaseException) -> Data:
        failure = CallFailed(short(f"{name_of(self.function)}() raised {error!r}"))
        failure.__cause__ = error
        self.told[str(failure)] = failure
        raise failure

    def _verdict(self, attempt: Data, value: object, result: object) -> Accepted | FurcateError:
        if result is None or result is True:
            return Accepted(value)
        name = name_of(self.function)
        if result is False:
            return self._refused(attempt, f"{name}() refused {value!r:.200}", value, None)
        if isinstance(result, str):
            return self._refused(attempt, result or f"{name}() refused it", value, None)
        return UsageError(
            f"a check returns True or None for what will do, False or a text for what is wrong; "
            f"{name}() returned {result!r:.80} of type {type(result).__name__}: use bool(...)"
        )

    def _refusal(self, attempt: Data, error: Exception, value: object = None) -> FurcateError:
        """What an error says about the attempt."""
        if isinstance(error, Truncated):
            told = Truncated(self._message(attempt, str(error)), error.value, _count(attempt))
            told.__cause__ = error.__cause__
            return told
        if isinstance(error, ValidationFailed):
            return self._refused(attempt, str(error), error.value, error.error)
        problem = f"{name_of(self.function)}() raised {error!r} for {value!r:.200}"
        return self._refused(attempt, problem, value, error)

    def _refused(
        self, attempt: Data, problem: str, value: object, cause: BaseException | None
    ) -> ValidationFailed:
        error = ValidationFailed(self._message(attempt, problem), value, _count(attempt), cause)
        error.__cause__ = cause
        return error

    def _message(self, attempt: Data, problem: str) -> str:
        total = self.checking.retries + 1
        return short(problem) + (f" (attempt {attempt} of {total})" if total > 1 else "")


def _count(attempt: Data) -> int:
    return attempt if isinstance(attempt, int) else 1


def _nothing(value: object) -> None:
    """The check of a gen that has none."""

"""The one error tree.

    FurcateError
    ├── UsageError                an argument or a program is wrong; also a ValueError
    │   ├── TemplateError         the model's chat template cannot express the roles
    │   ├── ForcedInRegion        a value is read where it cannot be there: in the body of a loop
    │   ├── ConstraintError       a regex, schema or grammar is invalid or cannot be enforced
    │   └── CapacityError         a prompt, output or program is larger than can ever fit
    ├── ModelError                a model is unknown or cannot be obtained
    │   └── ModelFileError        a model file is damaged, truncated or unsupported
    ├── WireError                 bytes that are not a message, or a message out of order
    ├── BackendError              the runtime failed or cannot be reached
    │   ├── ConnectionFailed      no runtime at that address, or another protocol version
    │   ├── EngineLost            the engine or the connection ended while programs ran; retryable
    │   ├── CrashSuspect          the engine ended again and again while this program ran
    │   └── Overloaded            a queue is full; retryable
    ├── GenerationError           one node of a program has no value
    │   ├── Truncated             the output was cut before it was complete
    │   ├── ValidationFailed      the output is complete and does not fit its type
    │   ├── DeadEnd               a constraint allows no further token
    │   ├── Unset                 a variable that nothing has set: its case was not taken
    │   ├── CallFailed            a function that the program calls has raised
    │   └── UpstreamFailed        a node that this one depends on has failed
    ├── Cancelled                 the program was cancelled
    ├── DeadlineExceeded          the program ran past its timeout
    └── ProgramError              raised by run(): which node, which source line, and why

Every class has a `code`, the name under which it travels on the wire. A message says what happened,
the value with !r, and what to do.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BackendError",
    "CallFailed",
    "Cancelled",
    "CapacityError",
    "ConnectionFailed",
    "ConstraintError",
    "CrashSuspect",
    "DeadEnd",
    "DeadlineExceeded",
    "EngineLost",
    "ForcedInRegion",
    "FurcateError",
    "GenerationError",
    "ModelError",
    "ModelFileError",
    "Overloaded",
    "ProgramError",
    "TemplateError",
    "Truncated",
    "Unset",
    "UpstreamFailed",
    "UsageError",
    "ValidationFailed",
    "WireError",
    "from_wire",
]


class FurcateError(Exception):
    """Base of every error that furcate raises on purpose."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False


class UsageError(FurcateError, ValueError):
    code = "usage"


class TemplateError(UsageError):
    code = "template"


class ForcedInRegion(UsageError):
    """Bodies of in-graph control flow are recorded before they run, and a program with
    `graph="require"` may not wait at all: there a value stands for what will be, and nothing can be
    read from it."""

    code = "forced_in_region"


class ConstraintError(UsageError):
    """`pointer` is the JSON pointer of the offending schema keyword, where there is one."""

    code = "constraint"

    def __init__(self, message: str, pointer: str | None = None) -> None:
        super().__init__(message)
        self.pointer = pointer


class CapacityError(UsageError):
    code = "capacity"


class ModelError(FurcateError):
    code = "model"


class ModelFileError(ModelError):
    code = "model_file"


class WireError(FurcateError):
    code = "wire"


class BackendError(FurcateError):
    code = "backend"


class ConnectionFailed(BackendError):
    code = "connection"


class EngineLost(BackendError):
    code = "engine_lost"
    retryable = True


class CrashSuspect(BackendError):
    """The program is not run again, so that others can be; whoever sends it again risks theirs."""

    code = "crash_suspect"


class Overloaded(BackendError):
    code = "overloaded"
    retryable = True


class GenerationError(FurcateError):
    code = "generation"


class Truncated(GenerationError):
    """`value` is the text so far, `attempts` how many outputs were generated."""

    code = "truncated"

    def __init__(self, message: str, value: object = None, attempts: int = 1) -> None:
        super().__init__(message)
        self.value = value
        self.attempts = attempts


class ValidationFailed(GenerationError):
    """`value` is what was generated last: the text where it is no value of the type, else the value
    that the check refused. `error` is what the type or the check raised, None where the check has
    only said no; `attempts` is how many outputs were generated."""

    code = "validation"

    def __init__(
        self,
        message: str,
        value: object = None,
        attempts: int = 1,
        error: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.value = value
        self.attempts = attempts
        self.error = error


class DeadEnd(GenerationError):
    code = "grammar_dead_end"


class CallFailed(GenerationError):
    """`__cause__` is what the function has raised."""

    code = "call"


class Unset(GenerationError):
    """Of a variable that only some cases of a switch set, or only a loop that never ran. It is no
    error of the program unless the variable is used."""

    code = "unset"


class UpstreamFailed(GenerationError):
    code = "upstream"


class Cancelled(FurcateError):
    code = "cancelled"


class DeadlineExceeded(FurcateError):
    code = "deadline"


class ProgramError(FurcateError):
    """A program failed.

    `node` names the primitive (`gen 'answer'`), `location` is "file:line" of the statement that
    recorded it, `__cause__` the error itself, `state` the program's state as far as it came.
    """

    code = "program"

    def __init__(
        self, message: str, *, node: str = "", location: str = "", state: object = None
    ) -> None:
        super().__init__(message)
        self.node = node
        self.location = location
        self.state = state

    @property
    def cause(self) -> BaseException | None:
        return self.__cause__


def _tree(root: type[FurcateError]) -> dict[str, type[FurcateError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found = _tree(child) | found  # a subclass without a code of its own does not take this one
    return found


def from_wire(code: str, message: str, pointer: str | None = None) -> FurcateError:
    """The error that travelled as `code`; an unknown code gives a BackendError that names it."""
    kind = _tree(FurcateError).get(code)
    if kind is None:
        return BackendError(f"{message} (error code {code!r}, unknown to this version)")
    if issubclass(kind, ConstraintError):
        return kind(message, pointer)
    return kind(message)

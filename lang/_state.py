"""The state of a program: what its body appends to and reads from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, cast, overload

from typing_extensions import TypeVar

from furcate.errors import Cancelled, ProgramError, UsageError

from ._body import body_ended, in_body
from ._branch import Branch, Elected, Local
from ._call import record_call
from ._elect import has_flow, log_of
from ._errors import StateError, branch_error, check_failed, wait_for_body
from ._expr import Expr, Part, as_expr
from ._location import caller_location
from ._loop import record_each, record_loop
from ._meta import Scores, meta_info, scores_of
from ._record import append, check_open, text_slot
from ._ref import Ref, resolve
from ._scope import RoleScope, VariableScope
from ._score import Score, record_score
from ._session import names_of, save
from ._slot import Failure, Slot
from ._stream import Events, Walk, drive, drive_async, walk_branch, walk_variable
from ._switch import record_switch
from ._transcript import Message, known_text, messages_of, messages_of_async
from ._variables import find, force, force_async, partial, ref_of, slot_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from furcate.protocol.message import Usage

    from ._fork import StateCopy
    from ._fork_over import DynamicGroup
    from ._group import StateGroup
    from ._program import Program
    from ._switch import Key

__all__ = ["ProgramState"]

R = TypeVar("R", default=Any, covariant=True)


class ProgramState(Generic[R]):
    """One branch of a running or finished program.

    `state += expr` appends; `state["x"]` waits for the variable and gives its value;
    `state.ref("x")` stands for it without waiting. Reading a value that failed raises ProgramError.

    To a type checker the state that a run gives is a `ProgramState[R]` for a function that returns
    an R.
    """

    def __init__(self, branch: Branch) -> None:
        self._branch = branch
        self._returned: object = None
        self._failure: Failure | None = None  # of the whole run, set at its end
        self._task: object = None  # keeps the body of an async program that was started alive
        self._spawned: asyncio.Task[None] | None = None  # an async body that appends to it

    @property
    def _program(self) -> Program:
        return self._branch.program

    # Appending -----------------------------------------------------------------------------------

    def __iadd__(self, other: Expr | str | ProgramState) -> Self:
        """Appends; a call of another program, which type checkers take for its state, is one that
        runs here."""
        expr = as_expr(other)
        check_open(self._branch)
        append(self._branch, expr, caller_location())
        return self

    async def aappend(self, expr: Expr | str | ProgramState) -> Self:
        """The same as `state += expr`, also for a call of an async program: `await
        s.aappend(sub(x))` runs its body here."""
        part = as_expr(expr)
        check_open(self._branch)
        if isinstance(part, Part):
            await part.record_async(self._branch)
        else:
            append(self._branch, part, caller_location())
        return self

    def system(self, expr: Expr | str | None = None) -> RoleScope:
        """Appends a system turn, or without `expr` opens one for a `with` block."""
        return self._turn("system", expr)

    def user(self, expr: Expr | str | None = None) -> RoleScope:
        """Appends a user turn, or without `expr` opens one for a `with` block."""
        return self._turn("user", expr)

    def assistant(self, expr: Expr | str | None = None) -> RoleScope:
        """Appends an assistant turn, or without `expr` opens one for a `with` block."""
        return self._turn("assistant", expr)

    def message(self, role: str, expr: Expr | str | None = None) -> RoleScope:
        """Appends a turn of any role that the model's chat template knows, such as "tool", or
        without `expr` opens one for a `with` block."""
        if not isinstance(role, str) or not role:
            raise UsageError(f"message() takes the name of a role, got {role!r}")
        return self._turn(role, expr)

    def _turn(self, role: str, expr: Expr | str | None) -> RoleScope:
        scope = RoleScope(self._branch, role)
        if expr is not None:
            body = as_expr(expr)
            with scope:
                append(self._branch, body, caller_location())
        return scope

    def call(
        self, function: Callable[..., object], *args: object, expect_s: float | None = None
    ) -> Ref:
        """Calls `function` in this process once its arguments are there, and waits for nothing: the
        Ref stands for what it returns.

        Arguments are Refs, which it gets as the values that they stand for, and plain data; it
        returns a str, int, float, bool, None or a list of them. It runs on a thread of the session,
        an async function on the program's event loop. The calls of a branch follow one another.
        What it raises is CallFailed where the Ref is used. `expect_s`: about how many seconds it
        will take.
        """
        check_open(self._branch)
        return record_call(self._branch, function, args, expect_s)

    def var_scope(self, name: str) -> VariableScope:
        """`with state.var_scope("x"):` names what is appended inside: afterwards `state["x"]` is
        its text, chat markup included."""
        return VariableScope(self._branch, name)

    def score(self, text: Ref | str, name: str | None = None) -> Score:
        """How likely the model finds the text as what comes next; nothing is appended, and nothing
        waits before the Score is read. `name` makes the log-likelihood a variable too."""
        return record_score(self._branch, text, name)

    @overload
    def fork(self, n: int = 1, *, over: Ref) -> DynamicGroup: ...  # type: ignore[overload-overlap]
    @overload
    def fork(self, n: int = 1, *, over: Iterable[object] | None = None) -> StateGroup: ...
    def fork(
        self, n: int = 1, *, over: Ref | Iterable[object] | None = None
    ) -> StateGroup | DynamicGroup:
        """Opens `n` children that begin with this state's text, or one for each element of `over`,
        which the child keeps as `item`. Waits for nothing, also where `over` is a Ref of a list:
        then what is appended to the group runs on as many children as there turn out to be."""
        if isinstance(over, Ref):
            from ._fork_over import DynamicGroup  # works on states

            if n != 1:
                raise UsageError(f"fork(over=...) takes a list alone, got n={n!r}")
            return DynamicGroup(self, over)
        from ._fork import fork_state  # the group is made of states

        return fork_state(self, n, over)

    # Control flow in the graph -------------------------------------------------------------------

    def switch(self, on: Ref | str, cases: Mapping[Key, object]) -> None:
        """Runs the case that `on`, a Ref or the name of a variable, turns out to be equal to, and
        waits for nothing: the runtime decides.

        A case is a function of a state, an expression, or `stop_loop`; `default` is the key of the
        one that runs where no other applies. Each function is called once, now, to record what it
        appends; nothing can be read in it. Variables that it sets are this state's afterwards.
        """
        record_switch(self._branch, on, cases, caller_location(), ProgramState)

    def loop(
        self,
        body: Callable[..., object],
        until: Ref | Callable[[ProgramState], object] | None = None,
        *,
        max_iters: int,
    ) -> None:
        """Runs the body again and again, at most `max_iters` times, and waits for nothing.

        `body(s)` or `body(s, index)` is called once, now, to record what it appends; nothing can be
        read in it. A variable of the state means in each run what the run before has made of it.
        The loop ends after a run in which the condition holds: a Ref that the body returns, or that
        `until(s)` gives; or one in which `stop_loop` was reached.
        """
        record_loop(self._branch, body, until, max_iters, caller_location(), ProgramState)

    def each(self, items: Ref | Sequence[object], body: Callable[..., object]) -> None:
        """Runs `body(s, item)` or `body(s, item, index)` for each element of a list, which is a Ref
        or holds Refs and plain values, one after the other; otherwise like `loop`."""
        record_each(self._branch, items, body, caller_location(), ProgramState)

    def copy(self) -> StateCopy:
        """`with state.copy() as c:` works on a copy and gathers its variables at the end."""
        from ._fork import StateCopy

        return StateCopy(self)

    @property
    def item(self) -> object:
        """What `fork(over=...)` gave to this child; waits where that is decided by an election."""
        item = self._branch.item
        while isinstance(item, Elected):
            self._program.value(item.order)
            item = item.chosen
        return item

    # Variables -----------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        self._await_name(name)
        try:
            return force(self._program, find(self._branch, name))
        except ProgramError as error:
            error.state = error.state if error.state is not None else self
            raise

    def __setitem__(self, name: str, value: object) -> None:
        if not isinstance(name, str) or not name:
            raise UsageError(f"the name of a variable must be a non-empty string, got {name!r}")
        self._branch.set(name, Local(value))

    def __contains__(self, name: object) -> bool:
        branch = self._branch
        session, variable = branch.session, branch.variables.get(str(name))
        if name in branch.variables and not (session and session.is_its(str(name), variable)):
            return True
        names = names_of(branch)
        return names is not None and name in self._program.value(names)  # type: ignore[operator]

    def get_var(self, name: str) -> Any:
        """The same as `state[name]`."""
        return self[name]

    def set_var(self, name: str, value: object) -> None:
        """The same as `state[name] = value`."""
        self[name] = value

    def partial(self, name: str) -> Any:
        """The variable as far as it has come, while the program streams; waits for nothing.

        None before the first character. Of a typed value a beginning in the form of its type: a
        model or dataclass whose fields are None where they have not come, lists and dicts with what
        they have so far, and None for a part that is no value of its type yet. Text that is checked
        comes when it is accepted. Once the value is there, it is the value.
        """
        program = self._program
        program.check_may_read(repr(name))
        return None if self._may_come(name) else partial(program, find(self._branch, name))

    async def aget(self, name: str) -> Any:
        """`state[name]` for async programs: waits without blocking the event loop."""
        program, variables = self._program, self._branch.variables
        if self._may_come(name):
            await program.results.wait_async(
                lambda: name in variables or not self._is_recorded_elsewhere()
            )
        return await force_async(program, find(self._branch, name))

    def ref(self, name: str) -> Ref:
        """The variable by reference: appending it or passing it on waits for nothing."""
        return ref_of(self._branch, name)

    def get_meta_info(self, name: str) -> dict[str, object]:
        """Token counts, why it ended, and log-probabilities where they were asked for."""
        return meta_info(self._settled(name))

    def samples(self, name: str) -> list[Any]:
        """All values of a `gen` with `n`, also where that was 1."""
        value = self[name]
        slot = slot_of(self._branch, name)
        return list(value) if slot.samples > 1 else [value]

    def scores(self, name: str) -> Scores:
        """The probabilities of a `select(..., scores=True)`."""
        return scores_of(self._settled(name))

    def _settled(self, name: str) -> Slot:
        self._await_name(name)
        slot = slot_of(self._branch, name)
        self._program.wait(slot)
        if slot.meta is None:
            self[name]  # raises what kept the value from coming
        return slot

    def _await_name(self, name: str) -> None:
        """A reader outside the body waits for the name to be recorded."""
        program, variables = self._program, self._branch.variables
        if self._may_come(name):
            program.check_may_block(repr(name))
            program.results.wait(lambda: name in variables or not self._is_recorded_elsewhere())
        if name not in variables and program.body_error is not None:
            raise program.body_error

    def _may_come(self, name: str) -> bool:
        """Whether the name is unknown and may still be recorded."""
        return name not in self._branch.variables and self._is_recorded_elsewhere()

    def _is_recorded_elsewhere(self) -> bool:
        """Whether the body that appends to this state runs beside the caller."""
        program, spawned = self._program, self._spawned
        if body_ended(program):
            return False
        return not spawned.done() if spawned is not None else not in_body(program)

    def save(self, name: str, *, ttl: float | None = None) -> None:
        """Keeps what this branch says, its turns and its variables as the session `name`: another
        program goes on from it with `program.open(session=name).run(...)`.

        Waits for nothing; the session is there once the values in it are. One of the same name is
        replaced. It ends `ttl` seconds after its last use (an hour, if the server was not told
        otherwise), with the server, or when too many others were used since. Variables that the
        program has set itself are kept where they are strings, numbers, None or Refs.
        """
        check_open(self._branch)
        save(self._branch, name, ttl)

    # Text ----------------------------------------------------------------------------------------

    def text(self) -> str:
        """The whole text of this branch, the chat template's markup included. Waits for it."""
        check_failed(self._branch)
        return str(self._program.value(text_slot(self._branch, caller_location())))

    async def atext(self) -> str:
        """`text()` without blocking the event loop."""
        check_failed(self._branch)
        slot = text_slot(self._branch, caller_location())
        return str(await self._program.value_async(slot))

    def messages(self) -> list[Message]:
        """The turns of this branch; waits for their text. Text outside a role is in none."""
        return messages_of(self._branch)

    async def amessages(self) -> list[Message]:
        """`messages()` without blocking the event loop."""
        check_failed(self._branch)
        return await messages_of_async(self._branch)

    def text_iter(self, var: str | None = None) -> Iterator[str]:
        """The text of the variable, or of everything appended to this branch, as it comes."""
        return drive(self._program, self._walk(var))

    async def text_async_iter(
        self, var: str | None = None, return_meta_data: bool = False
    ) -> AsyncIterator[Any]:
        """`text_iter` for `async for`; with `return_meta_data` each piece comes with what is known
        of its variable: (text, meta data)."""
        if return_meta_data and var is None:
            raise UsageError("return_meta_data=True needs the name of a variable")
        async for piece in drive_async(self._program, self._walk(var)):
            yield (piece, meta_info(slot_of(self._branch, str(var)))) if return_meta_data else piece

    def _walk(self, var: str | None) -> Walk:
        return walk_branch(self._branch) if var is None else walk_variable(self._branch, var)

    def events(self) -> Events:
        """What all branches and variables of the program generate, in one stream of StreamEvents,
        for `for` and `async for`."""
        return Events(self._program)

    # The run -------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Waits until everything recorded on this branch is there; raises what failed."""
        check_failed(self._branch)
        for entry in log_of(self._branch):
            if isinstance(entry, Slot):
                self._program.value(entry)
        if has_flow(self._branch):
            self.text()

    @property
    def error(self) -> StateError:
        """How this branch ended; waits for it. Reading an error counts as dealing with it."""
        return StateError(branch_error(self))

    @property
    def ok(self) -> bool:
        """Whether everything on this branch went well; waits for it."""
        return not self.error

    @property
    def ret_value(self) -> R:
        """What the function returned, with Refs replaced by their values."""
        program, spawned = self._program, self._spawned
        if spawned is not None and not spawned.done():
            raise UsageError(
                "the body that was spawned still runs: read its variables with `await s.aget(...)`"
            )
        if not in_body(program):
            wait_for_body(program)
        if program.body_error is not None:
            raise program.body_error
        self._returned = resolve(self._returned, program)
        return cast("R", self._returned)

    @property
    def index(self) -> int:
        """Which item of a `run_batch` this is, counted from 0; 0 for a run alone."""
        return self._program.index

    @property
    def seed(self) -> int:
        """Running the program with this seed again draws the same tokens."""
        return self._program.seed

    @property
    def usage(self) -> Usage:
        """Tokens of the whole program so far, by where they came from."""
        return self._program.results.usage

    def cancel(self) -> None:
        """Ends this branch with all that was forked off it; of the program's own state the whole
        program. What is still to come fails with Cancelled."""
        program, number = self._program, self._branch.number
        if number == 0:
            program.cancel(Cancelled("the program was cancelled by its state's cancel()"))
            return
        self._branch.close("cancel()")
        program.cancel_branch(number)

    def __repr__(self) -> str:
        return f"ProgramState({''.join(known_text(self._branch))})"

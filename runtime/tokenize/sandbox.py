"""Runs a chat template, which is a program from a stranger, inside bounds.

The environment is jinja2's immutable sandbox and nothing else. On top of it come bounds that do
not depend on a clock: the size of the source and of the output, the number of steps, and the size
of the values that an operator makes. Nothing here knows roles, tokens or models.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from furcate.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from jinja2.parser import Parser
    from jinja2.runtime import Context

__all__ = ["MAX_OUTPUT", "MAX_SOURCE", "TemplateProgram"]

MAX_SOURCE = 64 << 10  # characters
MAX_OUTPUT = 1 << 20  # characters
MAX_STEPS = 500_000  # rounds of loops, and calls
MAX_EXPONENT = 64
MAX_BITS = 4_096

# The name of a render's steps in its variables. A template cannot spell a name with a space.
STEPS = "steps left"


class _Steps:
    """How much work one render may still do."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def take(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise SecurityError(f"it takes more than {MAX_STEPS} steps")


@pass_context
def _metered(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    steps: _Steps = context[STEPS]
    for value in values:
        steps.take()
        yield value


@pass_context
def _range(context: Context, *bounds: int) -> range:
    numbers = range(*bounds)
    context[STEPS].take(len(numbers))
    return numbers


def _bounded(value: Any) -> Any:
    """The value as it is, unless it has grown too large to be worked on."""
    if isinstance(value, str | list | tuple):
        _check_size(len(value))
    return value


def _check_size(size: int) -> None:
    if size > MAX_OUTPUT:
        raise SecurityError(f"it makes a value of {size} characters or items")


class _GenerationBlock(Extension):
    """`{% generation %}` marks an assistant's words for training; here its body is just text."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an instance's set

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's immutable sandbox with every loop, call and growing operator metered."""

    intercepted_binops = frozenset({"+", "*", "**"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        filters = list(template.find_all(nodes.Filter))  # before this adds its own
        for joined in template.find_all(nodes.Concat):
            joined.nodes = [self._filtered(part, "bounded") for part in joined.nodes]
        for filtered in filters:
            if filtered.node is not None:
                filtered.node = self._filtered(filtered.node, "bounded")
        for loop in template.find_all(nodes.For):
            loop.iter = self._filtered(loop.iter, "metered")
        return template

    def _filtered(self, node: nodes.Expr | nodes.Node, name: str) -> nodes.Filter:
        made = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
        made.set_environment(self)
        return made

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        context[STEPS].take()
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(v) for v in (left, right) if isinstance(v, str | list | tuple)]
        numbers = [v for v in (left, right) if isinstance(v, int)]
        if operator == "*" and sizes and numbers:
            _check_size(sizes[0] * numbers[0])
        elif operator != "+" and any(v.bit_length() > MAX_BITS for v in numbers):
            raise SecurityError(f"it calculates with numbers of more than {MAX_BITS} bits")
        elif operator == "**" and isinstance(right, int) and right > MAX_EXPONENT:
            raise SecurityError(f"it raises to the power of {right}, more than {MAX_EXPONENT}")
        return _bounded(super().call_binop(context, operator, left, right))


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike jinja2's own filter, it does not escape for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _environment(now: datetime) -> _Sandbox:
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlock, "jinja2.ext.loopcontrols"],
    )
    strftime_now: Callable[[str], str] = now.strftime
    environment.filters["metered"] = _metered
    environment.filters["bounded"] = _bounded
    environment.globals["range"] = _range
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    # A wrapper: the sandbox would let a template reach the attributes of a bound method.
    environment.globals["strftime_now"] = lambda format: strftime_now(format)
    return environment


class TemplateProgram:
    """A compiled chat template. Rendering is a pure function; safe from any thread."""

    def __init__(self, source: str, *, name: str, now: datetime) -> None:
        self._name = name
        if len(source) > MAX_SOURCE:
            raise TemplateError(
                f"the chat template of {name} has {len(source)} characters, at most {MAX_SOURCE} "
                "are accepted"
            )
        try:
            self._template = _environment(now).from_string(source)
        except Exception as error:  # deep nesting fails in Python's own compiler
            raise TemplateError(f"the chat template of {name} is invalid: {error}") from error

    def render(self, variables: Mapping[str, Any]) -> str:
        """The template's text, or TemplateError for whatever stops it."""
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate({**variables, STEPS: _Steps()}):
                size += len(piece)
                if size > MAX_OUTPUT:
                    raise SecurityError(f"it writes more than {MAX_OUTPUT} characters")
                pieces.append(piece)
        except Exception as error:  # a template may do anything that an expression can
            raise TemplateError(
                f"the chat template of {self._name} failed: {type(error).__name__}: {error}"
            ) from error
        return "".join(pieces)

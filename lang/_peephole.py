"""Values that are only appended need not be waited for: `s += "Tip: " + child["tip"]`.

At decoration the body's source is read, and each `x["name"]` in append position becomes a call that
decides at run time; see _leaf.py. Append position is what stands right of `s +=`, in the argument
of a role and among the items of `fc.join`: alone, in a `+` chain, in a conditional expression or as
part of an f-string, with pure string methods behind it.

Knows nothing of states. Without the source, or where compiling it does not give the very code that
the function has, the body stays as it is.
"""

from __future__ import annotations

import ast
import copy
import inspect
from tokenize import TokenError
from types import CellType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, TypeVar

from ._rewriter import Definition, Rewriter

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["rewritten"]

F = TypeVar("F")

_HELPERS = "__furcate_leaves__"
_NESTED = inspect.CO_NESTED


def rewritten(body: F) -> F:
    """The same function, or one that differs from it in nothing but when it waits."""
    if not isinstance(body, FunctionType):
        return body
    definition = _definition(body.__code__)
    if definition is None:
        return body
    changed = copy.deepcopy(definition)
    if not Rewriter(_HELPERS).rewrite(changed):
        return body
    try:
        code = _code(definition, changed, body)
    except (SyntaxError, ValueError, RecursionError):
        return body
    return body if code is None else _function(body, code)  # type: ignore[return-value]


def _code(definition: Definition, changed: Definition, body: FunctionType) -> CodeType | None:
    """The code of `changed`, if that of `definition` is the body's own. How a call is compiled
    depends on which names the module has imported."""
    for names_of in (_modules, _imports):  # the second reads the whole module
        imported = names_of(body)
        same = _compiled(definition, body.__code__, imported)
        if same is not None and _is_same(same, body.__code__):
            return _compiled(changed, body.__code__, imported)
    return None


def _modules(body: FunctionType) -> list[str]:
    names = body.__globals__
    return [name for name, value in names.items() if isinstance(value, ModuleType)]


def _imports(body: FunctionType) -> list[str]:
    """All names that the module's own statements import."""
    lines, _ = inspect.findsource(body.__code__)
    todo: list[ast.AST] = list(ast.parse("".join(lines)).body)
    names: list[str] = []
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            names += [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            todo += ast.iter_child_nodes(node)
    return [name for name in names if name != "*"]


def _definition(code: CodeType) -> Definition | None:
    """The function's source, at the lines where it stands."""
    try:
        lines, first = inspect.getsourcelines(code)
        is_indented = lines[0][:1].isspace()
        # Not dedented: that would change the strings inside.
        tree = ast.parse("".join(["if 1:\n", *lines] if is_indented else lines))
    except (OSError, TypeError, SyntaxError, TokenError, IndexError):
        return None
    found = tree.body[0]
    if is_indented and isinstance(found, ast.If):
        found = found.body[0]
    if not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    ast.increment_lineno(found, first - (2 if is_indented else 1))
    return found


def _compiled(definition: Definition, like: CodeType, imported: Sequence[str]) -> CodeType | None:
    """The code of the function, with the free variables that `like` has."""
    names = [*like.co_freevars, _HELPERS]
    scope = ast.parse(f"def scope({', '.join(names)}): pass").body[0]
    assert isinstance(scope, ast.FunctionDef)
    scope.body = [definition]
    imports: list[ast.stmt] = [ast.Import([ast.alias(name, None)]) for name in imported]
    module = ast.fix_missing_locations(ast.Module([*imports, scope], []))
    futures = like.co_flags & _future_flags()
    whole = compile(module, like.co_filename, "exec", flags=futures, dont_inherit=True)
    outer = next(each for each in whole.co_consts if isinstance(each, CodeType))
    found = [each for each in outer.co_consts if _is_definition(each, like)]
    return found[0] if len(found) == 1 else None


def _future_flags() -> int:
    import __future__

    features = (getattr(__future__, name) for name in __future__.all_feature_names)
    return sum({feature.compiler_flag for feature in features} - {_NESTED})


def _is_definition(constant: object, like: CodeType) -> bool:
    return (
        isinstance(constant, CodeType)
        and constant.co_name == like.co_name
        and constant.co_firstlineno == like.co_firstlineno
    )


def _is_same(one: CodeType, other: CodeType) -> bool:
    """Whether the source is the one that the function was made from: a file may have changed, a
    test runner may have rewritten it."""
    return (
        one.co_code == other.co_code
        and one.co_names == other.co_names
        and one.co_varnames == other.co_varnames
        and one.co_cellvars == other.co_cellvars
        and one.co_freevars == other.co_freevars
        and one.co_flags | _NESTED == other.co_flags | _NESTED
        and len(one.co_consts) == len(other.co_consts)
        and all(map(_is_same_constant, one.co_consts, other.co_consts))
    )


def _is_same_constant(one: object, other: object) -> bool:
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return _is_same(one, other)
    return type(one) is type(other) and repr(one) == repr(other)


def _function(body: FunctionType, code: CodeType) -> FunctionType:
    from . import _leaf  # it knows states, which know functions

    cells = dict(zip(body.__code__.co_freevars, body.__closure__ or (), strict=True))
    cells[_HELPERS] = CellType(_leaf)
    closure = tuple(cells[name] for name in code.co_freevars)
    made = FunctionType(code, body.__globals__, body.__name__, body.__defaults__, closure)
    made.__kwdefaults__ = body.__kwdefaults__
    made.__annotations__ = body.__annotations__
    made.__qualname__, made.__module__, made.__doc__ = (
        body.__qualname__,
        body.__module__,
        body.__doc__,
    )
    made.__dict__.update(body.__dict__)
    return made

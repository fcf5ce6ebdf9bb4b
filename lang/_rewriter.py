"""Finds the places of a function's source where a value is only appended; see _peephole.py."""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Definition", "Rewriter"]

Definition = ast.FunctionDef | ast.AsyncFunctionDef

_ROLES = frozenset({"system", "user", "assistant"})
_SCOPES = _ROLES | {"message", "var_scope", "copy"}
_REGIONS = frozenset({"loop", "switch", "each", "map"})
# How many arguments each pure method takes.
_METHODS = {
    "strip": (0, 1),
    "lstrip": (0, 1),
    "rstrip": (0, 1),
    "lower": (0,),
    "upper": (0,),
    "replace": (2,),
    "removeprefix": (1,),
    "removesuffix": (1,),
}


class Rewriter(ast.NodeTransformer):
    """`helpers` is the name of the module `_leaf` in the new source. Expressions stay where they
    are and are evaluated in the same order, each once; only names are looked up again."""

    def __init__(self, helpers: str) -> None:
        self._helpers = helpers
        self._num_changes = 0
        self._bodies: frozenset[str] = frozenset()  # functions that are bodies of regions
        self._guards = 0  # blocks around that would catch what a wait raises

    def rewrite(self, definition: Definition) -> bool:
        """Changes it; False if there was nothing to change."""
        self._bodies = frozenset(_region_bodies(definition))
        definition.body = self._statements(definition.body)
        return self._num_changes > 0

    def _statements(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        return [self.visit(statement) for statement in statements]

    # Statements ----------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._nested(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._nested(node)

    def _nested(self, node: Definition) -> ast.AST:
        if node.name in self._bodies:
            node.body = self._statements(node.body)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def visit_Try(self, node: ast.Try) -> ast.AST:
        return self._try(node)

    def _try(self, node: ast.Try | ast.TryStar) -> ast.AST:
        self._guards += bool(node.handlers)
        node.body = self._statements(node.body)
        self._guards -= bool(node.handlers)
        for handler in node.handlers:
            handler.body = self._statements(handler.body)
        node.orelse = self._statements(node.orelse)
        node.finalbody = self._statements(node.finalbody)
        return node

    def visit_TryStar(self, node: ast.TryStar) -> ast.AST:
        return self._try(node)

    def visit_With(self, node: ast.With) -> ast.AST:
        return self._with(node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        return self._with(node)

    def _with(self, node: ast.With | ast.AsyncWith) -> ast.AST:
        """A context that is not the language's own may catch errors, as `suppress` does."""
        is_foreign = any(_name_of(item.context_expr) not in _SCOPES for item in node.items)
        for item in node.items:
            item.context_expr = self.visit(item.context_expr)
        self._guards += is_foreign
        node.body = self._statements(node.body)
        self._guards -= is_foreign
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        if isinstance(node.op, ast.Add) and _is_name(node.target):
            node.value = self._appended(node.value, node.target)
        else:
            node.value = self.visit(node.value)
        return node

    # Expressions ---------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = _name_of(node)
        if _is_name(node.func) and not node.keywords:
            if name in _ROLES and len(node.args) == 1:
                node.args[0] = self._appended(node.args[0], node.func)
                return node
            if name == "message" and len(node.args) == 2:
                node.args = [self.visit(node.args[0]), self._appended(node.args[1], node.func)]
                return node
            if name == "join" and len(node.args) == 2:
                node.args = [self.visit(node.args[0]), self._items(node.args[1], node.func)]
                return node
        return self.generic_visit(node)

    def _appended(self, node: ast.expr, place: ast.expr) -> ast.expr:
        """An expression whose value is appended to `place` and used for nothing else."""
        if self._guards:
            return self._visited(node)
        if _is_leaf(node):
            return self._leaf(node, place)
        match node:
            case ast.BinOp(op=ast.Add()):
                node.left = self._appended(node.left, place)
                node.right = self._appended(node.right, place)
            case ast.IfExp():
                node.test = self._visited(node.test)
                node.body = self._appended(node.body, place)
                node.orelse = self._appended(node.orelse, place)
            case ast.JoinedStr():
                return self._formatted(node, place)
            case ast.List() | ast.ListComp():
                return self._items(node, place)
            case _:
                return self._visited(node)
        return node

    def _items(self, node: ast.expr, place: ast.expr) -> ast.expr:
        """The elements of a list, each of which is appended."""
        match node:
            case ast.List() | ast.Tuple() if not self._guards:
                node.elts = [self._item(element, place) for element in node.elts]
                return node
            case ast.ListComp() | ast.GeneratorExp() if not self._guards:
                bound = {name for each in node.generators for name in _names(each.target)}
                node.generators = [self.visit(each) for each in node.generators]
                if not bound.intersection(_names(place)):
                    node.elt = self._item(node.elt, place)
                return node
            case _:
                return self._visited(node)

    def _item(self, node: ast.expr, place: ast.expr) -> ast.expr:
        return self._leaf(node, place) if _is_leaf(node) else self._visited(node)

    def _leaf(self, node: ast.expr, place: ast.expr) -> ast.expr:
        if isinstance(node, ast.Call):  # a method of one
            assert isinstance(node.func, ast.Attribute)
            node.func.value = self._leaf(node.func.value, place)
            node.args = [self._visited(arg) for arg in node.args]
            return node
        assert isinstance(node, ast.Subscript)
        target = copy.deepcopy(place)
        for each in ast.walk(target):
            if isinstance(each, ast.Name | ast.Attribute | ast.Subscript):
                each.ctx = ast.Load()
        args = [self._visited(node.value), self._visited(node.slice), target]
        return self._helper("leaf", args, node)

    def _formatted(self, node: ast.JoinedStr, place: ast.expr) -> ast.expr:
        """An f-string, if one of its parts is a leaf: the parts one by one."""
        parts = [_plain_part(value) for value in node.values]
        if not any(part is not None and _is_leaf(part) for part in parts):
            return self._visited(node)
        args: list[ast.expr] = []
        for value, part in zip(node.values, parts, strict=True):
            if part is not None and _is_leaf(part):
                args.append(self._leaf(part, place))
            elif isinstance(value, ast.Constant):
                args.append(value)
            else:
                args.append(ast.copy_location(ast.JoinedStr([self.visit(value)]), node))
        return self._helper("text", args, node)

    def _visited(self, node: ast.expr) -> ast.expr:
        visited = self.visit(node)
        assert isinstance(visited, ast.expr)
        return visited

    def _helper(self, name: str, args: list[ast.expr], at: ast.expr) -> ast.expr:
        self._num_changes += 1
        function = ast.Attribute(ast.Name(self._helpers, ast.Load()), name, ast.Load())
        call = ast.Call(function, args, [])
        for node in (function.value, function, call):
            ast.copy_location(node, at)
        return call


def _region_bodies(definition: Definition) -> Iterator[str]:
    for node in ast.walk(definition):
        if isinstance(node, ast.Call) and _name_of(node) in _REGIONS:
            for arg in (*node.args, *(keyword.value for keyword in node.keywords)):
                values = arg.values if isinstance(arg, ast.Dict) else [arg]
                yield from (value.id for value in values if isinstance(value, ast.Name))


def _name_of(node: ast.expr) -> str:
    """The last name of what is called."""
    function = node.func if isinstance(node, ast.Call) else node
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _is_name(node: ast.expr) -> bool:
    """Whether looking it up once more has no effect: `s`, `self.s`, `group[0]`, `s.user`."""
    match node:
        case ast.Name():
            return True
        case ast.Attribute(value=value):
            return _is_name(value)
        case ast.Subscript(value=value, slice=ast.Name() | ast.Constant(value=int())):
            return _is_name(value)
        case _:
            return False


def _names(node: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _is_leaf(node: ast.expr) -> bool:
    """`x[...]`, and pure methods of it."""
    match node:
        case ast.Subscript(slice=index):
            return not isinstance(index, ast.Slice | ast.Tuple)
        case ast.Call(func=ast.Attribute(value=value, attr=method), args=args, keywords=[]):
            is_pure = len(args) in _METHODS.get(method, ())
            return is_pure and not any(isinstance(a, ast.Starred) for a in args) and _is_leaf(value)
        case _:
            return False


def _plain_part(value: ast.expr) -> ast.expr | None:
    """What a part of an f-string shows as it is."""
    if isinstance(value, ast.FormattedValue) and value.conversion == -1:
        return value.value if value.format_spec is None else None
    return None

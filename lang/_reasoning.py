"""`reasoning=`: what a model thinks before it answers, apart from the answer."""

from __future__ import annotations

from dataclasses import replace

from furcate.errors import UsageError

from ._expr import Concat, Expr, as_expr
from ._gen import GenExpr
from ._role import RoleExpr
from ._thinking import Thinking, thinking_of

__all__ = ["separate_reasoning"]

# The families by which parsers of reasoning are known elsewhere, and their markers.
MODEL_TYPES = {
    "deepseek-r1": ("<think>", "</think>"),
    "deepseek-v3": ("<think>", "</think>"),
    "qwen3": ("<think>", "</think>"),
    "qwen3-thinking": ("<think>", "</think>"),
    "glm45": ("<think>", "</think>"),
    "step3": ("<think>", "</think>"),
    "kimi": ("◁think▷", "◁/think▷"),
    "magistral": ("[THINK]", "[/THINK]"),
}


def separate_reasoning(expr: Expr | str, model_type: str | None = None) -> Expr:
    """The expression with `reasoning="auto"` for each `gen` in it that says nothing about that: a
    variable `name` gets the answer, `name_reasoning_content` what was thought before.

    `model_type` takes the markers of a family, such as "deepseek-r1" or "qwen3", rather than those
    of the model that runs.
    """
    if model_type is not None and model_type not in MODEL_TYPES:
        raise UsageError(
            f"model_type must be one of {', '.join(map(repr, MODEL_TYPES))}, got {model_type!r}"
        )
    markers = None if model_type is None else MODEL_TYPES[model_type]
    return _separated(as_expr(expr), thinking_of(markers or "auto", None))


def _separated(expr: Expr, thinking: Thinking | None) -> Expr:
    match expr:
        case GenExpr(thinking=None):
            return replace(expr, thinking=thinking)
        case Concat(parts):
            return Concat(tuple(_separated(part, thinking) for part in parts))
        case RoleExpr(body=body):
            return replace(expr, body=_separated(body, thinking))
        case _:
            return expr

"""From a recipe to a grammar, and from what the worker sends back to the same grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .engine_llguidance import compile_llguidance
from .engine_xgrammar import compile_xgrammar, load_xgrammar
from .grammar import CompiledGrammar
from .proof import ProofLimits, prove

if TYPE_CHECKING:
    from .grammar import CursorSource, Toolkit
    from .recipe import Recipe

__all__ = ["compile_proved", "compile_recipe", "load_recipe"]


def _compile(recipe: Recipe, toolkit: Toolkit) -> CursorSource:
    if recipe.engine == "xgrammar":
        return compile_xgrammar(recipe, toolkit.vocabulary)
    return compile_llguidance(recipe, toolkit.vocabulary)


def compile_recipe(recipe: Recipe, toolkit: Toolkit) -> CompiledGrammar:
    """Compiles here and now, unproved and without a time limit; raises ConstraintError."""
    return _grammar(recipe, _compile(recipe, toolkit), toolkit)


def compile_proved(recipe: Recipe, toolkit: Toolkit) -> CompiledGrammar:
    """Compiles and walks it; raises ConstraintError also for what could never be decoded."""
    grammar = compile_recipe(recipe, toolkit)
    prove(grammar, toolkit.vocabulary.vocab_size, ProofLimits())
    return grammar


def load_recipe(recipe: Recipe, serialized: bytes | None, toolkit: Toolkit) -> CompiledGrammar:
    """The grammar that a worker compiled, or proved where it cannot be serialised."""
    if serialized is None:
        return compile_recipe(recipe, toolkit)
    return _grammar(recipe, load_xgrammar(serialized, toolkit.vocabulary), toolkit)


def _grammar(recipe: Recipe, source: CursorSource, toolkit: Toolkit) -> CompiledGrammar:
    return CompiledGrammar(source, toolkit, is_json=recipe.kind == "json_schema")

"""Fetching a model before it is used, with words on standard error: a download takes a while."""

from __future__ import annotations

import typer

__all__ = ["fetch", "say"]


def say(message: str) -> None:
    typer.echo(f"furcate: {message}", err=True)


def fetch(name: str) -> None:
    """Makes sure that a model with a name is here; any other name is left to whoever opens it."""
    from furcate.runtime.model import catalog

    if name in catalog.CATALOG:
        catalog.ensure(name, say)

"""Fetching a model before it is used, with words on standard error: a download takes a while."""

from __future__ import annotations

import typer

__all__ = ["fetch", "say"]


def say(message: str) -> None:
    typer.echo(f"furcate: {message}", err=True)


def fetch(name: str) -> None:
    """Makes sure that a model that can be downloaded is here; any other name is left to whoever
    opens it."""
    from furcate.runtime.model import catalog
    from furcate.runtime.progress import terminal_bar

    if catalog.can_be_pulled(name):
        catalog.ensure(name, say, terminal_bar)

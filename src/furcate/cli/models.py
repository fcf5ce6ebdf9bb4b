"""`furcate models`: which there are, fetching one and looking at one."""

from __future__ import annotations

from typing import Annotated

import typer

from .failure import Debug, reporting
from .fetch import say
from .inspect import inspect

__all__ = ["app"]

app = typer.Typer(help="List models, fetch them and look at them.", no_args_is_help=True)


@app.command("list")
def list_models(debug: Annotated[bool, Debug] = False) -> None:
    """List the models that have a name. A .gguf file is used by its path."""
    from furcate.runtime.model import catalog

    with reporting(debug):
        rows = [("NAME", "SIZE", "LICENSE", "FILE")]
        for model in catalog.installed():
            where = f"not here: run `furcate models pull {model.name}`"
            size = f"{model.num_bytes / 1e6:.0f} MB"
            rows.append((model.name, size, model.license, str(model.path or where)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:  # a path in one piece, however wide the terminal: it is there to be copied
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            typer.echo("  ".join(cells).rstrip())


@app.command()
def pull(
    name: Annotated[
        str,
        typer.Argument(help="A name from `furcate models list`, or of the hub, such as org/name."),
    ],
    debug: Annotated[bool, Debug] = False,
) -> None:
    """Download a model once; programs and servers find it by its name."""
    from furcate.runtime.model import catalog
    from furcate.runtime.progress import terminal_bar

    with reporting(debug):
        catalog.pull(name, say, terminal_bar)


app.command()(inspect)

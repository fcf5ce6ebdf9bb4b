"""`furcate keys`: what a server and its clients need to talk over a network."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from .failure import Debug, reporting

__all__ = ["app"]

app = typer.Typer(
    help="Make the keys for servers and clients on a network.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Folder = typer.Argument(metavar="FOLDER", help="Where the keys lie, or are to lie.")


@app.command()
def new(
    folder: Annotated[Path, Folder],
    debug: Annotated[bool, Debug] = False,
) -> None:
    """Make keys for a server and for a first client."""
    from furcate.runtime.transport import keys

    with reporting(debug):
        for path in keys.new_keys(folder):
            typer.echo(path)
        typer.echo(
            f"furcate: on the server: furcate serve --listen tcp://HOST:PORT "
            f"--server-key {folder / 'server.secret'} --client-keys {folder / 'clients'}\n"
            f"furcate: a client needs {folder / 'client.secret'} and {folder / 'server.public'}",
            err=True,
        )


@app.command()
def add(
    folder: Annotated[Path, Folder],
    name: Annotated[str, typer.Argument(help="The client's name: letters, digits, - and _.")],
    debug: Annotated[bool, Debug] = False,
) -> None:
    """Make keys for one more client; a server that runs lets it in at once."""
    from furcate.runtime.transport import keys

    with reporting(debug):
        for path in keys.new_client(folder, name):
            typer.echo(path)

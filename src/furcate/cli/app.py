"""The commands and what they share: the version, help, and quiet tracebacks."""

from __future__ import annotations

from typing import Annotated

import typer

from furcate.version import __version__

from . import kernels, keys, models
from .run import run
from .serve import serve

__all__ = ["app"]

app = typer.Typer(
    help="Programs that call a language model, and the runtime that executes them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"furcate {__version__}")
        raise typer.Exit


@app.callback()
def furcate(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": False,
        "allow_interspersed_args": False,
    },
)(run)
app.command()(serve)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(kernels.app, name="kernels")

"""`furcate run`: a Python file as the main program, with a backend to run on."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

import furcate
from furcate.errors import UsageError
from furcate.runtime.config import resolve

from .failure import Debug, reporting
from .fetch import fetch
from .flags import with_flags

__all__ = ["run"]


@with_flags("model", "cache", "schedule", "engine", "sessions")
def run(
    context: typer.Context,
    program: Annotated[
        Path, typer.Argument(metavar="PROGRAM [ARGUMENTS]...", help="The Python file.")
    ],
    connect: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run on this server, as `furcate serve` prints it, not on an engine of its own.",
            show_default=False,
        ),
    ] = None,
    server_key: Annotated[
        Path | None,
        typer.Option(help="Public key of the server at --connect.", show_default=False),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Secret key of this client, for --connect.", show_default=False),
    ] = None,
    debug: Annotated[bool, Debug] = False,
    **options: str | int | float | bool | None,
) -> None:
    """Run a program, with a model in this process or on a server.

    The file runs as `python PROGRAM ARGUMENTS...` would run it, with a default backend: an engine
    in this process, or the server at --connect.

    What follows PROGRAM belongs to the program, except --connect ADDRESS and --debug right behind
    it.

    Each option of the engine can also be set in the environment: --max-rows is FURCATE_MAX_ROWS.
    """
    arguments = list(context.args)
    connect, debug = _take_trailing(arguments, connect, debug)
    written = {name: value for name, value in options.items() if value is not None}
    with reporting(debug, program):
        _check(program)
        if connect is not None and written:
            flags = ", ".join("--" + name.replace("_", "-") for name in written)
            raise UsageError(f"{flags} is for an engine here; the server at --connect has its own")
        if connect is None and (server_key is not None or key is not None):
            raise UsageError("--server-key and --key are for a server at --connect")
        backend = (
            furcate.connect(connect, server_key=server_key, key=key)
            if connect is not None
            else _engine(written)
        )
        furcate.set_default_backend(backend)
        try:
            sys.argv = [str(program), *arguments]
            sys.path.insert(0, str(program.resolve().parent))
            runpy.run_path(str(program), run_name="__main__")
        finally:
            furcate.set_default_backend(None)
            backend.close()


def _engine(options: dict[str, str | int | float | bool]) -> furcate.Session:
    model = resolve(options, os.environ).model.name
    fetch(model)
    return furcate.Engine(model, **{name: v for name, v in options.items() if name != "model"})


def _take_trailing(
    arguments: list[str], connect: str | None, debug: bool
) -> tuple[str | None, bool]:
    """Takes our own options from the front of what follows the program."""
    while arguments:
        head = arguments[0]
        if head == "--debug":
            debug = True
            del arguments[0]
        elif head == "--connect" and len(arguments) > 1:
            connect = arguments[1]
            del arguments[:2]
        elif head.startswith("--connect="):
            connect = head.removeprefix("--connect=")
            del arguments[0]
        else:
            if head == "--":
                del arguments[0]
            break
    return connect, debug


def _check(program: Path) -> None:
    if not program.is_file():
        what = "is a folder" if program.is_dir() else "does not exist"
        raise UsageError(f"the program {str(program)!r} {what}; name a Python file")
    try:
        program.open("rb").close()
    except OSError as error:
        raise UsageError(
            f"the program {str(program)!r} cannot be read: {error.strerror}"
        ) from error

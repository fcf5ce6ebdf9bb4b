"""How the command line tells that something went wrong: one message, no traceback, a status.

An exception of the user's own program keeps its traceback, from the program's first line on.
"""

from __future__ import annotations

import os
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from furcate.errors import FurcateError, ProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["FAILED", "INTERRUPTED", "Debug", "reporting"]

FAILED = 1
INTERRUPTED = 130

Debug = typer.Option("--debug", help="Show the traceback of every error.")


@contextmanager
def reporting(debug: bool, program: Path | None = None) -> Iterator[None]:
    """Turns what is raised inside into a message on standard error and the exit status.

    `program` is the user's file, where one runs.
    """
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("furcate: interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except FurcateError as error:
        if debug:
            traceback.print_exception(error)
        typer.echo(_message(error, program), err=True)
        raise typer.Exit(FAILED) from None
    except (typer.Exit, SystemExit):
        raise
    except Exception as error:
        if program is None:
            raise
        own = None if isinstance(error, SyntaxError) else error.__traceback__
        if not debug:
            own = _from_program(own, program)
        traceback.print_exception(type(error), error, own)
        raise typer.Exit(FAILED) from None


def _message(error: FurcateError, program: Path | None) -> str:
    lines = [f"furcate: error: {error}"]
    location = error.location if isinstance(error, ProgramError) else ""
    if not location and program is not None:
        location = _line_of(error.__traceback__, program)
    if location and location not in lines[0]:
        lines.append(f"  at {location}")
    cause = error.__cause__
    while isinstance(cause, Exception):
        if str(cause) not in lines[0]:
            lines.append(f"  because: {cause}")
        cause = cause.__cause__
    return "\n".join(lines)


def _is_of(frame_file: str, program: Path) -> bool:
    return os.path.abspath(frame_file) == os.path.abspath(program)


def _line_of(trace: TracebackType | None, program: Path) -> str:
    """The last line of the program itself on the way to the error."""
    location = ""
    for frame, line in traceback.walk_tb(trace):
        if _is_of(frame.f_code.co_filename, program):
            location = f"{frame.f_code.co_filename}:{line}"
    return location


def _from_program(trace: TracebackType | None, program: Path) -> TracebackType | None:
    """The part that begins in the program; all of it where the program was never reached."""
    part = trace
    while part is not None and not _is_of(part.tb_frame.f_code.co_filename, program):
        part = part.tb_next
    return part or trace

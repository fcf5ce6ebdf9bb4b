"""`furcate serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from .failure import Debug, reporting
from .fetch import fetch
from .flags import with_flags

__all__ = ["serve"]


@with_flags("model", "cache", "schedule", "engine", "sessions", "server", "log")
def serve(
    debug: Annotated[bool, Debug] = False,
    **options: str | int | float | bool | None,
) -> None:
    """Serve a model to programs on this machine, or on a network with --listen and keys.

    Prints each address when programs may connect, and serves until Ctrl-C or SIGTERM.

    Run a program there: furcate run program.py --connect ADDRESS

    Each option can also be set in the environment: --max-rows is FURCATE_MAX_ROWS.
    """
    from furcate.runtime import launch
    from furcate.runtime.log import set_up

    with reporting(debug):
        config = launch.configure(_written(options))
        set_up(config.log, "front")

        def announce(address: str) -> None:
            typer.echo(f"furcate: serving {config.model.name} at {address}")

        fetch(config.model.name)
        launch.serve(config, announce)


def _written(options: dict[str, str | int | float | bool | None]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}

"""Options of the configuration as options of a command: one field, one flag, one help line."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from furcate.runtime.config import config_flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from furcate.runtime.flags import Flag

__all__ = ["with_flags"]


def with_flags(*sections: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the flags of these sections as keyword arguments by name, each None where the
    user has not written it. The command takes them as `**options`."""
    flags = [flag for flag in config_flags() if flag.path[0] in sections]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        added = [_parameter(flag) for flag in flags]
        # What typer reads instead of the code.
        command.__signature__ = signature.replace(parameters=own + added)  # type: ignore[attr-defined]
        command.__annotations__.pop("options", None)
        command.__annotations__ |= {added_one.name: added_one.annotation for added_one in added}
        return command

    return decorate


def _parameter(flag: Flag) -> inspect.Parameter:
    names = flag.option
    if flag.kind is bool:
        names += f"/--no-{flag.option.removeprefix('--')}"
    hint = f" One of {', '.join(flag.choices)}." if flag.choices else ""
    shown = f" Default: {flag.shown_default}." if flag.default is not None else ""
    # Text where a unit may be written; config.py checks every value anyway.
    kind: Any = str if flag.unit else flag.kind
    option = typer.Option(
        names,
        help=f"{flag.help}{hint}{shown}",
        show_default=False,
        rich_help_panel=f"{flag.path[0].capitalize()}",
    )
    return inspect.Parameter(
        flag.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )

"""Where in the user's source something was recorded."""

from __future__ import annotations

import sys
import traceback

__all__ = ["caller_location", "raised_location"]

_BETWEEN = {"furcate", "asyncio", "concurrent"}  # what calls the bodies of programs


def caller_location() -> str:
    """ "file:line" of the innermost frame outside this package."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not (module == "furcate" or module.startswith("furcate.")):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "<unknown>:0"


def raised_location(error: BaseException) -> str:
    """ "file:line" of the body's statement that raised, the innermost in the body's own file; empty
    where the error has come from no body."""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _BETWEEN
    ]
    lines = [line for file, line in frames if file == frames[0][0]]
    return f"{frames[0][0]}:{lines[-1]}" if lines else ""

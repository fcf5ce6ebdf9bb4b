"""Where in the user's source something was recorded."""

from __future__ import annotations

import sys

__all__ = ["caller_location"]


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

"""Log lines on standard error, one format for both processes. Knows no component."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import LogConfig

__all__ = ["set_up"]


def set_up(config: LogConfig, process: str) -> None:
    """Called once, by a process that is furcate's own: a library leaves logging to its user."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s")
    )
    root = logging.getLogger("furcate")
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    root.propagate = False

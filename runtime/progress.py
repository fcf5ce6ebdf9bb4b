"""Bars for what takes a while: on a terminal they fill, anywhere else there is nothing to see.

Knows amounts and labels, and nothing of what is going on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Advance", "Bar", "no_bar", "terminal_bar"]

Advance = Callable[[int], None]
Bar = Callable[[str, int], AbstractContextManager[Advance]]
"""Opens a bar with a label, for so many bytes; what it gives is called with each amount more."""


@contextmanager
def no_bar(label: str, total: int) -> Iterator[Advance]:
    yield lambda amount: None


@contextmanager
def terminal_bar(label: str, total: int) -> Iterator[Advance]:
    """On standard error, gone when it is full."""
    if not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich import progress  # a tenth of a second, for those who see it
    from rich.console import Console

    columns = (
        progress.TextColumn("furcate: {task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(label, total=total)
        yield lambda amount: shown.advance(task, amount)

"""Runs of programs on a Mock whose text can still be asked for afterwards."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MockRuns", "counting", "line_of"]


def counting() -> Callable[[fc.MockCall], str | int]:
    """Answers r1, r2, ... and takes the first choice."""
    count = 0

    def reply(call: fc.MockCall) -> str | int:
        nonlocal count
        if call.choices is not None:
            return 0
        count += 1
        return f"r{count}"

    return reply


class MockRuns:
    """Each run has a Mock of its own, open until `close`."""

    def __init__(self) -> None:
        self._backends: list[fc.Mock] = []

    def __call__(
        self,
        body: Callable[[fc.ProgramState], object],
        replies: str | Callable[[fc.MockCall], str | int] | None = None,
    ) -> fc.ProgramState:
        self._backends.append(fc.Mock(counting() if replies is None else replies))
        return fc.function(body).run(backend=self._backends[-1])

    def close(self) -> None:
        while self._backends:
            self._backends.pop().close()


def line_of(body: Callable[..., object], offset: int) -> str:
    """ "file:line" so many lines behind the `def`."""
    file = inspect.getsourcefile(body)
    assert file is not None
    return f"{Path(file).name}:{inspect.getsourcelines(body)[1] + offset}"

"""Whether a pool does every task once and keeps the rounds of a job apart."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furcate.kernels.library import Library, Pool

__all__ = ["check"]

ROUNDS = 100


def check(library: Library, pool: Pool) -> list[str]:
    function = library.lib.fc_probe_tasks
    function.restype = ctypes.c_int64
    function.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    mistakes = []
    for num_tasks in (0, 1, 2, 37):
        counts = (ctypes.c_int64 * max(num_tasks, 1))()
        faults = function(pool.handle, num_tasks, ROUNDS, counts)
        wrong = sum(count != ROUNDS for count in counts[:num_tasks])
        if faults or wrong:
            mistakes.append(
                f"{num_tasks} tasks on {pool.num_threads} threads: {wrong} not done {ROUNDS} "
                f"times, {faults} out of turn"
            )
    return mistakes

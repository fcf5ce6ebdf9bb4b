"""Which operations have native code, and what each offers beside it: a check and a benchmark.

An operation is a folder with C++ sources. `check.py` in it has `check(library, pool)`, which
compares a few small cases with the reference and returns the mistakes as sentences; `bench.py` has
`cases(library, pool)`. Both are optional, and this module knows no operation by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from .build import PACKAGE

if TYPE_CHECKING:
    from types import ModuleType

    from .bench import BenchCase
    from .library import Library, Pool

__all__ = ["Cases", "Check", "cases_of", "check_of", "has", "names"]

Check = Callable[["Library", "Pool"], list[str]]
Cases = Callable[["Library", "Pool"], "list[BenchCase]"]


def names() -> tuple[str, ...]:
    return tuple(sorted({path.parent.name for path in PACKAGE.glob("*/*.cpp")}))


def has(operation: str, offer: str) -> bool:
    """Whether the operation has a "check" or a "bench", without importing it."""
    return (PACKAGE / operation / f"{offer}.py").is_file()


def check_of(operation: str) -> Check | None:
    module = _module(operation, "check")
    return None if module is None else cast("Check", module.check)


def cases_of(operation: str) -> Cases | None:
    module = _module(operation, "bench")
    return None if module is None else cast("Cases", module.cases)


def _module(operation: str, offer: str) -> ModuleType | None:
    if not has(operation, offer):
        return None
    return importlib.import_module(f"{__package__}.{operation}.{offer}")

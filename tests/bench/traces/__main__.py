"""How near eviction comes to what would have been possible: `python -m tests.bench.traces`."""

from __future__ import annotations

from . import compare

if __name__ == "__main__":
    for seed in (1, 2, 3):
        print(compare.report(compare.contest(seed)))

"""How much memory this process may still take: of the machine, and of the group that it runs in.

Knows Linux's files, and nothing of what the memory is for.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["available_bytes"]

PROC = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")


def available_bytes(proc: Path = PROC, group: Path = GROUP) -> int | None:
    """None where nothing tells. What files take in memory counts as available: it is given up for
    whoever needs it."""
    known = [bytes_ for bytes_ in (_of_machine(proc), _of_group(group)) if bytes_ is not None]
    return min(known, default=None)


def _of_machine(proc: Path) -> int | None:
    kib = _table(proc).get("MemAvailable:")
    return None if kib is None else kib * 1024


def _of_group(group: Path) -> int | None:
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is None or used is None:
        return None
    files = _table(group / "memory.stat").get("inactive_file", 0)
    return max(0, limit - max(0, used - files))


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max": there is no limit


def _table(path: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}

"""Patterns that the runtime searches for: checked where they are written."""

from __future__ import annotations

from functools import lru_cache

from furcate.errors import UsageError

__all__ = ["checked_pattern"]

_MAX_CHARS = 1024


def checked_pattern(pattern: str, group: int | str = 0) -> str:
    """Raises UsageError where it is no pattern of RE2, or has no such group."""
    if not isinstance(pattern, str) or len(pattern) > _MAX_CHARS:
        raise UsageError(
            f"a pattern is a string of at most {_MAX_CHARS} characters, got {pattern!r:.80}"
        )
    num_groups, names = _groups(pattern)
    is_known = group in names if isinstance(group, str) else 0 <= group <= num_groups
    if isinstance(group, bool) or not is_known:
        raise UsageError(f"the pattern {pattern!r} has no group {group!r}")
    return pattern


@lru_cache(maxsize=256)
def _groups(pattern: str) -> tuple[int, frozenset[str]]:
    import re2  # needed by programs with patterns only

    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        raise UsageError(
            f"the pattern {pattern!r} cannot be used: {error}; patterns are those of RE2, which "
            f"has neither lookaround nor backreferences"
        ) from error
    return compiled.groups, frozenset(compiled.groupindex)

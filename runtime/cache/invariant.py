"""The error of a broken bookkeeping rule.

It says that this package or its caller has a bug, never that a user did something wrong; it is
therefore no part of the public error tree.
"""

from __future__ import annotations

__all__ = ["InvariantError"]


class InvariantError(AssertionError):
    """An invariant of the KV cache does not hold; the message names the page, node or lease."""

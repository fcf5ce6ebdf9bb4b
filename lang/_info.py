"""Questions about a backend: what it is and how busy, and emptying its cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._default import backend_or_default

if TYPE_CHECKING:
    from furcate.protocol.message import Data

    from .backend.session import Session

__all__ = ["flush_cache", "get_server_info"]


def get_server_info(backend: Session | None = None) -> dict[str, Data]:
    """Plain facts about the backend, or about the default one: its version, model and context, how
    many tokens its KV cache holds, and how many programs, streams and clients it has.

    Waits for the answer. Which facts there are depends on the backend.
    """
    chosen = backend_or_default(backend)
    return {"backend": chosen.kind, **chosen.ask("info")}


def flush_cache(backend: Session | None = None) -> dict[str, Data]:
    """Drops all KV in the backend's cache that nothing running holds, what was pinned included;
    gives the facts of `get_server_info` as they are then. What programs say does not change, nor
    what sessions hold: it is computed again when it is needed."""
    chosen = backend_or_default(backend)
    return {"backend": chosen.kind, **chosen.ask("flush_cache")}

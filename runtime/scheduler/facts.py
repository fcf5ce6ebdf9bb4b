"""What an engine tells about itself to those who ask: figures, none of them about any text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furcate.protocol.message import Data

    from .batcher import Batcher

__all__ = ["Facts", "facts_of"]

Facts = dict[str, "Data"]


def facts_of(batcher: Batcher, num_steps: int) -> Facts:
    """Tokens that the cache has room for: `reusable` ones are there, `free` ones can be had without
    giving up any."""
    stats, page_size = batcher.cache.stats(), batcher.cache.page_size
    return {
        "cache_tokens_total": stats.total_pages * page_size,
        "cache_tokens_free": (stats.free_pages + stats.fenced_pages) * page_size,
        "cache_tokens_reusable": stats.tree_tokens,
        "cache_tokens_pinned": batcher.prospects.num_pinned,
        "pins": batcher.prospects.num_pins,
        "running_streams": len(batcher.running),
        "waiting_streams": len(batcher.waiting),
        "retractions": batcher.retractions,
        "steps": num_steps,
    }

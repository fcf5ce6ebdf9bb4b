"""How a model attends: KV pages and the kernels that read them."""

from __future__ import annotations

from .base import AttentionBackend, AttentionSpec, PagedRows
from .paged import PagedAttention, PagedPlan

__all__ = ["AttentionBackend", "AttentionSpec", "PagedAttention", "PagedPlan", "PagedRows"]

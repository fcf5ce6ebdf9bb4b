"""A runtime whose answers the caller writes: the real front over an engine of texts."""

from .asked import Answer, Asked
from .runtime import MockRuntime

__all__ = ["Answer", "Asked", "MockRuntime"]

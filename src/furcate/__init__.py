"""furcate: a language for programs that call a language model, and the runtime that executes
them."""

from furcate.version import __version__

__all__ = ["__version__"]

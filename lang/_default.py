"""The backend that programs run on where none is named."""

from __future__ import annotations

from furcate.errors import UsageError

from .backend.session import Session

__all__ = ["backend_or_default", "set_default_backend"]


class _Default:
    """The one thing here that is global, because users ask for exactly that."""

    backend: Session | None = None


def set_default_backend(backend: Session | None) -> None:
    """Programs run on `backend` unless `run(..., backend=...)` names another; None unsets it."""
    if backend is not None and not isinstance(backend, Session):
        raise UsageError(
            f"a backend is connect(address), Engine(model) or Mock(replies), got {backend!r}"
        )
    _Default.backend = backend


def backend_or_default(backend: Session | None) -> Session:
    """Raises UsageError where there is neither."""
    if backend is not None and not isinstance(backend, Session):
        raise UsageError(
            f"backend must be connect(address), Engine(model) or Mock(replies), got {backend!r}"
        )
    chosen = backend if backend is not None else _Default.backend
    if chosen is None:
        raise UsageError(
            "no backend: call set_default_backend(Engine()) first, or pass run(..., backend=...)"
        )
    return chosen

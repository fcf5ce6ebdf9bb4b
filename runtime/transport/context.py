"""What all sockets of a process share, and its name for those who know no ZeroMQ."""

from __future__ import annotations

from typing import TypeAlias

import zmq

__all__ = ["Context", "open_context"]

Context: TypeAlias = "zmq.Context[zmq.Socket[bytes]]"


def open_context() -> Context:
    """Its `term` waits for what closed sockets still have to send."""
    return zmq.Context()

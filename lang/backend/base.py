"""The seam between the language and whatever runs its programs.

A Channel carries requests out and events back; it knows nothing of states, variables or source
lines. The runtime over ZeroMQ, the engine in this process and Mock are one file each beside this
one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from furcate.errors import FurcateError
    from furcate.protocol.message import Event, Request, Welcome

    Deliver = Callable[[Sequence[Event]], None]
    Lost = Callable[[FurcateError], None]

__all__ = ["Channel"]


class Channel(Protocol):
    """One connection to something that runs programs."""

    def open(self, deliver: Deliver, lost: Lost) -> Welcome:
        """Connects and shakes hands; called once, before any send.

        `deliver` is then called with events in order, from one thread that is the channel's own or
        from inside `send`. `lost` is called at most once, when nothing will be delivered any more:
        EngineLost, ConnectionFailed or WireError. Raises ConnectionFailed, naming the address.
        """
        ...

    def send(self, requests: Sequence[Request]) -> None:
        """Sends one message. From any thread, in the order of the calls; never blocks on the other
        side. After `lost` or `close` it raises the error that `lost` was given, or
        ConnectionFailed."""
        ...

    def close(self) -> None:
        """Cancels what runs and releases everything the channel holds; callable twice."""
        ...

"""The two ways to the runtime: over ZeroMQ, or in this process. Both import what they need when
they are called, so that `import furcate` stays light."""

from __future__ import annotations

from furcate.errors import UsageError

from .backend.session import Session

__all__ = ["Engine", "connect"]


def connect(address: str) -> Session:
    """A runtime that `furcate serve` has started, at the address that it printed.

    Raises ConnectionFailed where nothing answers there.
    """
    from .backend.zmq import ZmqChannel

    if not isinstance(address, str):
        raise UsageError(
            f"an address is a string such as 'ipc:///folder/serve.sock', as `furcate serve` "
            f"prints it, got {address!r}"
        )
    return Session(ZmqChannel(address))


class Engine(Session):
    """The runtime in this process.

    `model` is an alias such as "smollm2" or the path of a model file; None takes FURCATE_MODEL, or
    else "smollm2". `options` are those of `furcate serve`, with underscores.
    """

    kind = "engine"

    def __init__(
        self, model: str | None = None, **options: str | int | float | bool | None
    ) -> None:
        from .backend.inprocess import EngineChannel

        super().__init__(EngineChannel(model, **options))

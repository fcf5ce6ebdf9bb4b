"""The two ways to the runtime: over ZeroMQ, or in this process. Both import what they need when
they are called, so that `import furcate` stays light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from furcate.errors import UsageError

from .backend.session import Session

if TYPE_CHECKING:
    import os

__all__ = ["Engine", "connect"]


def connect(
    address: str,
    *,
    server_key: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> Session:
    """A runtime that `furcate serve` has started, at the address that it printed.

    Over a network, `tcp://HOST:PORT`, it takes the server's public key and a secret key of one's
    own, each as the file that `furcate keys new` has written or as its 40 characters. A connection
    over tcp that breaks is made again for up to 30 s, and nothing is lost.

    Raises ConnectionFailed where nothing answers there, or the keys are not the right ones.
    """
    from .backend.zmq import ZmqChannel

    if not isinstance(address, str):
        raise UsageError(
            f"an address is a string such as 'ipc:///folder/serve.sock' or 'tcp://host:7000', as "
            f"`furcate serve` prints it, got {address!r}"
        )
    return Session(ZmqChannel(address, server_key=server_key, key=key))


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

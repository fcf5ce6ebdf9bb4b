"""Where clients come in: a socket on this machine, and those on a network that the user asks for.

Knows addresses and keys, no message.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from furcate.errors import UsageError
from furcate.protocol.keys import read_key
from furcate.runtime.transport.address import TcpAddress, tcp_address_of
from furcate.runtime.transport.clients import ClientSocket
from furcate.runtime.transport.doorkeeper import Doorkeeper, known_keys
from furcate.runtime.transport.listening import ServerKeys, listen_ipc, listen_tcp

if TYPE_CHECKING:
    import asyncio

    from furcate.runtime.config import ServerConfig
    from furcate.runtime.transport.clients import ClientHandler
    from furcate.runtime.transport.context import Context

__all__ = ["Plan", "Reception", "plan_of"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the options ask for, checked before anything starts."""

    tcp: tuple[TcpAddress, ...]
    keys: ServerKeys | None
    resume_s: float
    held_bytes: int


def plan_of(config: ServerConfig) -> Plan:
    """Raises UsageError where the options do not fit together."""
    texts = config.listen.split(",") if config.listen is not None else []
    addresses = tuple(tcp_address_of(text.strip()) for text in texts)
    keys = _keys_of(config)
    if keys is not None and not addresses:
        raise UsageError("--server-key is for addresses of --listen, and there are none")
    for address in addresses:
        if keys is None and not address.is_loopback:
            raise UsageError(
                f"{address.text!r} can be reached from other machines, and anybody there could run "
                "programs: make keys with `furcate keys new FOLDER` and give "
                "--server-key FOLDER/server.secret --client-keys FOLDER/clients, or listen at "
                f"tcp://127.0.0.1:{address.port}"
            )
    return Plan(addresses, keys, config.resume_s, config.held_bytes)


class Reception:
    """Lets clients in from construction on. Raises UsageError where an address cannot be had."""

    def __init__(
        self,
        context: Context,
        path: Path,
        plan: Plan,
        loop: asyncio.AbstractEventLoop,
        handler: ClientHandler,
    ) -> None:
        self._sockets: list[ClientSocket] = []
        self._doorkeeper: Doorkeeper | None = None
        self.addresses: list[str] = []
        try:
            if plan.keys is not None:
                self._doorkeeper = Doorkeeper(context, loop, plan.keys.clients)
            tcp = [listen_tcp(context, address, plan.keys) for address in plan.tcp]
            for listening in [listen_ipc(context, path), *tcp]:
                is_tcp = listening in tcp
                self._sockets.append(
                    ClientSocket(
                        listening.socket,
                        loop,
                        handler,
                        resume_s=plan.resume_s if is_tcp else 0.0,
                        max_held_bytes=plan.held_bytes,
                    )
                )
                self.addresses.append(listening.address)
        except BaseException:
            self.close(0)
            raise

    @property
    def malformed_frames(self) -> int:
        return sum(socket.malformed_frames for socket in self._sockets)

    def say_goodbye(self, message: str) -> None:
        for socket in self._sockets:
            socket.say_goodbye(message)

    def close(self, linger_ms: int) -> None:
        """What was sent gets `linger_ms` to leave. Callable twice."""
        for socket in self._sockets:
            socket.close(linger_ms)
        if self._doorkeeper is not None:
            self._doorkeeper.close()


def _keys_of(config: ServerConfig) -> ServerKeys | None:
    if config.server_key is None and config.client_keys is None:
        return None
    if config.server_key is None or config.client_keys is None:
        given, missing = "--server-key", "--client-keys"
        if config.server_key is None:
            given, missing = missing, given
        raise UsageError(f"{given} and {missing} belong together: {missing} is missing")
    secret = read_key(config.server_key, "secret", "--server-key")
    folder = Path(config.client_keys).absolute()
    if not folder.is_dir():
        raise UsageError(f"--client-keys must be a folder, got {config.client_keys!r}")
    if not known_keys(folder):
        raise UsageError(
            f"the folder of --client-keys, {config.client_keys!r}, holds no public key: nobody "
            "could connect; `furcate keys new` makes `clients/client.public`"
        )
    return ServerKeys(secret, folder)

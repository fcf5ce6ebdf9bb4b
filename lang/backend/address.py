"""Addresses that a client connects to, and the keys for them. Opens no socket."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from furcate.errors import ConnectionFailed, UsageError
from furcate.protocol.keys import read_key

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Address", "KeySource", "Keys", "parse_address"]

KeySource = str | os.PathLike[str]

IPC = "ipc://"
TCP = "tcp://"
MAX_PATH_BYTES = 107
_TCP = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+(%\w+)?\]|[^\[\]:/\s]+):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Keys:
    """The server's public key and the client's own secret one, as text."""

    server: str
    own: str

    def __repr__(self) -> str:
        return f"Keys(server={self.server!r})"


@dataclass(frozen=True, slots=True)
class Address:
    """`path` of an ipc address, None for tcp."""

    text: str
    path: str | None = None
    is_ipv6: bool = False
    keys: Keys | None = None

    @property
    def resumes(self) -> bool:
        """A network may break and heal; between processes of one machine only an end breaks it."""
        return self.path is None


def parse_address(
    text: str, server_key: KeySource | None = None, key: KeySource | None = None
) -> Address:
    """Raises ConnectionFailed for what is no address, UsageError for keys that do not fit it."""
    if text.startswith(IPC):
        if server_key is not None or key is not None:
            raise UsageError(
                f"{text!r} is a socket on this machine, which its folder protects: leave out "
                "server_key and key"
            )
        return Address(text, path=_path_of(text))
    found = _TCP.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 2**16:
        raise ConnectionFailed(
            f"{text!r} is no address of a server: it is ipc:// and the absolute path of a socket, "
            "or tcp://HOST:PORT, as `furcate serve` prints it"
        )
    return Address(text, is_ipv6=_is_ipv6(text, found["host"]), keys=_keys(server_key, key))


def _path_of(text: str) -> str:
    path = text.removeprefix(IPC)
    if not os.path.isabs(path):
        raise ConnectionFailed(
            f"{text!r} is no address of a server: it is {IPC} and the absolute "
            "path of a socket, as `furcate serve` prints it"
        )
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ConnectionFailed(
            f"the path in {text!r} has {len(os.fsencode(path))} bytes and a socket's "
            f"may have {MAX_PATH_BYTES}"
        )
    return path


def _is_ipv6(text: str, host: str) -> bool:
    """Whether the host has no other address; ZeroMQ looks for one kind only."""
    try:
        found: Sequence[tuple[object, ...]] = socket.getaddrinfo(
            host.strip("[]"), None, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        raise ConnectionFailed(
            f"no server at {text!r}: the host {host!r} cannot be found: {error}"
        ) from error
    return all(family == socket.AF_INET6 for family, *_ in found)


def _keys(server_key: KeySource | None, key: KeySource | None) -> Keys | None:
    if server_key is None and key is None:
        return None
    if server_key is None or key is None:
        missing = "key (this client's secret key)" if key is None else "server_key"
        raise UsageError(f"server_key and key belong together: {missing} is missing")
    return Keys(read_key(server_key, "public", "server_key"), read_key(key, "secret", "key"))

"""Addresses of a server and the folder its socket lives in.

The folder is the protection: its owner alone may enter it. Opens no socket.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from furcate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_PATH_BYTES",
    "SCHEME",
    "TcpAddress",
    "address_of",
    "default_folder",
    "path_of",
    "prepare_folder",
    "tcp_address_of",
]

SCHEME = "ipc://"
MAX_PATH_BYTES = 107  # sun_path holds 108 with its final zero
_TCP = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:/\s]+):(?P<port>\d{1,5})")


def default_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_RUNTIME_DIR/furcate`, or a folder of this user under /tmp where there is none."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):  # the standard has a relative one ignored
        return Path(runtime) / "furcate"
    return Path(f"/tmp/furcate-{os.getuid()}")


def address_of(path: Path) -> str:
    return f"{SCHEME}{path}"


def path_of(address: str, suffix: str = "") -> Path:
    """The socket's path in `address`. `suffix` is the longest ending that a file beside it gets."""
    if not address.startswith(SCHEME):
        raise UsageError(
            f"{address!r} is no address of a server here: write {SCHEME} and the absolute path of "
            f"a socket, such as {SCHEME}/run/user/1000/furcate/serve.sock"
        )
    path = Path(address.removeprefix(SCHEME))
    if not path.is_absolute():
        raise UsageError(f"the path in {address!r} must be absolute: {SCHEME}/folder/serve.sock")
    length = len(os.fsencode(path)) + len(suffix)
    if length > MAX_PATH_BYTES:
        raise UsageError(
            f"the socket path {str(path) + suffix!r} has {length} bytes and a socket's may have "
            f"{MAX_PATH_BYTES}: choose a shorter folder"
        )
    return path


def prepare_folder(folder: Path) -> None:
    """Makes the folder, or checks that nobody else can enter the one that is there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = os.stat(folder, follow_symlinks=False)
    except OSError as error:
        raise UsageError(
            f"the socket folder {str(folder)!r} cannot be used: {error.strerror}; "
            "name another with --socket-folder or --address"
        ) from error
    if not stat.S_ISDIR(facts.st_mode):
        raise UsageError(
            f"the socket folder {str(folder)!r} is a link; name the folder itself with "
            "--socket-folder or --address"
        )
    if facts.st_uid != os.getuid():
        raise UsageError(
            f"the socket folder {str(folder)!r} belongs to user {facts.st_uid}, not to you "
            f"({os.getuid()}); name one of yours with --socket-folder or --address"
        )
    mode = stat.S_IMODE(facts.st_mode)
    if mode & 0o077:
        raise UsageError(
            f"the socket folder {str(folder)!r} has mode {mode:04o} and must be yours alone: "
            f"run `chmod 700 {folder}`, or name another with --socket-folder or --address"
        )


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """`text` is what the user wrote, `host` the address of an interface, or "*" for all of them."""

    text: str
    host: str
    port: int

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host

    @property
    def shown_host(self) -> str:
        """As clients on this machine may write it."""
        host = "0.0.0.0" if self.host == "*" else self.host
        return f"[{host}]" if self.is_ipv6 else host

    @property
    def endpoint(self) -> str:
        """What ZeroMQ binds."""
        host = f"[{self.host}]" if self.is_ipv6 else self.host
        return f"tcp://{host}:{self.port or '*'}"

    @property
    def is_loopback(self) -> bool:
        return self.host != "*" and ipaddress.ip_address(self.host).is_loopback


def tcp_address_of(text: str) -> TcpAddress:
    """Raises UsageError for what is no tcp address, or a host that is not known."""
    found = _TCP.fullmatch(text)
    if found is None or int(found["port"]) >= 2**16:
        raise UsageError(
            f"--listen must be tcp://HOST:PORT, such as tcp://127.0.0.1:7000 or tcp://[::1]:7000, "
            f"or several of them with commas; got {text!r}"
        )
    host = found["host"].strip("[]")
    if host != "*":
        try:
            # An interface has an address, not a name; of a name with several the first is taken.
            host = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
        except (OSError, UnicodeError) as error:
            raise UsageError(f"the host in --listen {text!r} cannot be found: {error}") from error
    return TcpAddress(text, str(host), int(found["port"]))

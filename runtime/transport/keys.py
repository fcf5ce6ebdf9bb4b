"""Makes keys for a server and its clients, as files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import zmq

from furcate.errors import UsageError
from furcate.protocol.keys import key_text

from .doorkeeper import SUFFIX

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CLIENTS", "new_client", "new_keys"]

CLIENTS = "clients"  # folder of those that the server lets in


def new_keys(folder: Path) -> list[Path]:
    """A server's pair and a client's. The files: `server.secret`, `server.public`, `client.secret`,
    `clients/client.public`. Nothing that is there is written over."""
    secret, public = folder / "server.secret", folder / f"server{SUFFIX}"
    client_secret, client_public = _client_paths(folder, "client")
    _check_free([secret, public, client_secret, client_public])
    try:
        (folder / CLIENTS).mkdir(mode=0o700, parents=True, exist_ok=True)
        return [
            *_write_pair(secret, public),
            *_write_pair(client_secret, client_public),
        ]
    except OSError as error:
        raise UsageError(f"the keys cannot be written to {str(folder)!r}: {error}") from error


def new_client(folder: Path, name: str) -> list[Path]:
    """A further client's pair beside those of `new_keys`."""
    if not name or not all(char.isalnum() or char in "-_" for char in name):
        raise UsageError(f"a client's name is letters, digits, '-' and '_', got {name!r}")
    if not (folder / CLIENTS).is_dir():
        raise UsageError(f"{str(folder)!r} has no keys yet: run `furcate keys new {folder}` first")
    secret, public = _client_paths(folder, name)
    _check_free([secret, public])
    try:
        return _write_pair(secret, public)
    except OSError as error:
        raise UsageError(f"the keys cannot be written to {str(folder)!r}: {error}") from error


def _client_paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.secret", folder / CLIENTS / f"{name}{SUFFIX}"


def _check_free(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            raise UsageError(f"{str(path)!r} is there already: name another folder, or remove it")


def _write_pair(secret: Path, public: Path) -> list[Path]:
    public_key, secret_key = (key.decode() for key in zmq.curve_keypair())
    _write(secret, key_text("secret", secret_key), 0o600)
    _write(public, key_text("public", public_key), 0o644)
    return [secret, public]


def _write(path: Path, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w") as file:
        file.write(text)

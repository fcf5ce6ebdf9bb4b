"""One server a socket: a lock on a file beside it, because binding `ipc://` takes a socket over
without a word. The lock ends with the process that holds it, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from furcate.errors import UsageError

__all__ = ["LOCK_SUFFIX", "SocketLock"]

LOCK_SUFFIX = ".lock"


class SocketLock:
    """Held from construction until `release`. The file names the holder's process."""

    def __init__(self, socket: Path) -> None:
        self.path = Path(f"{socket}{LOCK_SUFFIX}")
        self._fd = self._acquire(socket)

    def release(self) -> None:
        """Gives the socket up; callable twice."""
        if self._fd is None:
            return
        # Unlinked while it is held: whoever opened this file before sees that it is stale.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        os.close(self._fd)
        self._fd = None

    def _acquire(self, socket: Path) -> int | None:
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(fd)
                raise UsageError(
                    f"another server listens at {str(socket)!r} (process {holder}): stop it, or "
                    "choose another socket with --address"
                ) from None
            if self._is_current(fd):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd
            os.close(fd)

    def _is_current(self, fd: int) -> bool:
        """Whether the path still names the file that was locked."""
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

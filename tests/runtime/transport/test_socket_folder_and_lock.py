"""Where a socket lives, who may enter, and that it has one server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from furcate.errors import UsageError
from furcate.runtime.transport.address import (
    MAX_PATH_BYTES,
    default_folder,
    path_of,
    prepare_folder,
)
from furcate.runtime.transport.lock import SocketLock


def test_the_folder_is_the_users_runtime_folder_or_one_under_tmp() -> None:
    assert default_folder({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/furcate")
    assert default_folder({}) == Path(f"/tmp/furcate-{os.getuid()}")
    assert default_folder({"XDG_RUNTIME_DIR": "here"}) == Path(f"/tmp/furcate-{os.getuid()}")


def test_a_new_folder_is_closed_to_others(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        prepare_folder(tmp_path / "new")
    finally:
        os.umask(old)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    prepare_folder(tmp_path / "new")


def test_a_folder_that_others_may_enter_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(UsageError, match=r"has mode 0755 and must be yours alone: run `chmod 700"):
        prepare_folder(tmp_path / "open")


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(UsageError, match="not to you"):
        prepare_folder(tmp_path)


def test_a_link_or_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="is a link"):
        prepare_folder(tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be used: File exists"):
        prepare_folder(tmp_path / "file")


def test_a_path_that_no_socket_can_have_is_named() -> None:
    longest = "/" + "x" * (MAX_PATH_BYTES - 1)
    assert path_of(f"ipc://{longest}") == Path(longest)
    with pytest.raises(UsageError, match="has 108 bytes and a socket's may have 107"):
        path_of(f"ipc://{longest}y")
    with pytest.raises(UsageError, match="has 114 bytes"):
        path_of(f"ipc://{longest}", ".engine")


@pytest.mark.parametrize("address", ["tcp://*:5555", "serve.sock", "ipc://serve.sock"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"address|absolute"):
        path_of(address)


def test_the_second_server_is_told_who_the_first_is(tmp_path: Path) -> None:
    lock = SocketLock(tmp_path / "serve.sock")
    with pytest.raises(UsageError, match=rf"another server listens .* \(process {os.getpid()}\)"):
        SocketLock(tmp_path / "serve.sock")
    lock.release()
    lock.release()
    SocketLock(tmp_path / "serve.sock").release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path;"
        "from furcate.runtime.transport.lock import SocketLock;"
        "lock = SocketLock(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "serve.sock")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert (tmp_path / "serve.sock.lock").exists()
    SocketLock(tmp_path / "serve.sock").release()

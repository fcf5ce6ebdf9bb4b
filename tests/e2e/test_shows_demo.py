"""What `make demo` promises, with a model without weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e import demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def run_demo(model: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, demo.__file__, model]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_the_demo_prints_twenty_tickets_and_succeeds() -> None:
    ran = run_demo("test:context")
    assert ran.returncode == 0, ran.stderr
    assert demo.SUCCESS in ran.stdout
    assert ran.stdout.endswith("demo: everything worked.\n")


def test_the_demo_fails_in_words_where_the_server_does_not_start() -> None:
    ran = run_demo("nonsense")
    assert ran.returncode == 1
    assert "the server ended with status 1" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_server_in_a_with_block_stops_with_status_0_and_leaves_no_folder() -> None:
    server = demo.Server("test:context")
    with server:
        folder = Path(server.address.removeprefix("ipc://")).parent
        assert folder.is_dir()
    assert server.exit_status == 0
    assert not folder.exists()

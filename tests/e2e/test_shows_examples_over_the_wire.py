"""`furcate run EXAMPLE` prints the same with an engine of its own and with `--connect ADDRESS`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.e2e.demo import ROOT, Server, environment, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NAMES = ["tree_of_thought", "react_agent", "judge"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with Server("test:context", "--threads", "1", start_s=60.0) as server:
        yield server.address


def run_in_process(name: str) -> str:
    program = str(ROOT / "examples" / f"{name}.py")
    command = [sys.executable, "-m", "furcate", "run", "--model", "test:context", program]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def without_counts(printed: str) -> list[str]:
    """Where tokens come from depends on what else has run; what the model says does not."""
    return [line for line in printed.splitlines() if not line.startswith("tokens:")]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_prints_the_same_over_the_wire(name: str, address: str) -> None:
    printed = run_program(ROOT / "examples" / f"{name}.py", address)
    assert without_counts(printed) == without_counts(run_in_process(name))
    assert len(without_counts(printed)) >= 4

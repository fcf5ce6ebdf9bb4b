"""The embedded model through every process: what it says must not depend on the way there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import furcate

pytestmark = [pytest.mark.slow, pytest.mark.smollm2, pytest.mark.timeout(300)]

SOURCES = Path(furcate.__file__).parent.parent
ENVIRON = {
    **os.environ,
    "FURCATE_KV_BYTES": "64MiB",
    "FURCATE_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]),
}
PROGRAM = """
import furcate as fc

@fc.function
def capital(s, country):
    with s.user():
        s += "What is the capital of " + country + "? "
    with s.assistant():
        s += fc.gen("answer", max_tokens=12, temperature=0.7)

for country in ("France", "Japan"):
    print(repr(capital.run(country=country, seed=3)["answer"]))
"""


def test_a_program_says_the_same_in_process_and_over_the_wire(tmp_path: Path) -> None:
    program = tmp_path / "capital.py"
    program.write_text(PROGRAM)
    furcate_command = [sys.executable, "-m", "furcate"]
    (tmp_path / "sockets").mkdir(mode=0o700)
    address = f"ipc://{tmp_path}/sockets/s.sock"
    server = subprocess.Popen(
        [*furcate_command, "serve", "--address", address],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRON,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == f"furcate: serving smollm2 at {address}\n"
        outputs = [
            subprocess.run(
                [*furcate_command, "run", str(program), *rest],
                capture_output=True,
                text=True,
                env=ENVIRON,
                check=True,
            ).stdout
            for rest in (["--connect", address], [])
        ]
        server.terminate()
        assert server.wait(5) == 0
    finally:
        server.kill()
        server.communicate()
    assert outputs[0] == outputs[1]
    assert "Paris" in outputs[0]

"""What a type checker sees of a program."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import furcate as fc

@fc.function
def program(s: fc.ProgramState, question: str, times: int = 1) -> int:
    s += "a" + fc.gen("x", max_tokens=3) + "b"
    s += fc.user(question + fc.select("y", ["a", "b"]))
    group = s.fork(2)
    group += lambda index: str(index)
    s += group[0].ref("x").strip()
    return times

state: fc.ProgramState = program.run("why", times=2)
program.run("why", temperature=0.5, backend=fc.Mock())
program("why")
states: list[fc.ProgramState] = program.run_batch([{"question": "why"}])
for each in program.run_batch([("why",)], generator_style=True):
    each.text().upper()
program(3)  # wrong
fc.gen("x", max_tokens="3")  # wrong
fc.select("x", [1])  # wrong
"""


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(300)
def test_mypy_accepts_a_program_and_finds_its_mistakes(tmp_path: Path):
    source = tmp_path / "program.py"
    source.write_text(PROGRAM)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(source)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"MYPYPATH": str(root / "src"), "PATH": "", "HOME": str(tmp_path)},
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("program.py")]
    wrong = [i for i, line in enumerate(PROGRAM.splitlines(), 1) if "# wrong" in line]
    assert [int(line.split(":")[1]) for line in found] == wrong, done.stdout + done.stderr

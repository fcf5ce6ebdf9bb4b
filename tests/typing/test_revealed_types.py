"""mypy and pyright see in programs what `programs.py` says they see."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCE = (HERE / "programs.py").read_text()
CHECKERS = {
    "mypy": ["mypy", "--config-file=mypy.ini", f"--cache-dir={ROOT / '.mypy_cache' / 'typing'}"],
    "pyright": ["pyright", f"--pythonpath={sys.executable}", "--project=."],
}
TOLD = re.compile(
    r"programs\.py:(?P<line>\d+)(:\d+)?(:| -) (?P<kind>error|note|information): (?P<text>.*)"
)
REVEALED = re.compile(r'(Revealed type is|Type of ".*" is) "(?P<type>.*)"')


def _expected(mark: str) -> dict[int, str]:
    lines = enumerate(SOURCE.splitlines(), 1)
    return {number: line.split(mark)[1].strip() for number, line in lines if mark in line}


def _plain(revealed: str) -> str:
    """Without the modules that names come from; what pyright knows nothing of is Any."""
    return re.sub(r"\b([a-z_]+\.)+(?=[A-Za-z])", "", revealed).replace("Unknown", "Any")


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_type_checker_sees_what_the_programs_say(checker):
    command = CHECKERS[checker]
    arguments = [*command[1:], "programs.py"] if checker == "mypy" else command[1:]
    done = subprocess.run(
        [sys.executable, "-m", command[0], *arguments],
        capture_output=True,
        text=True,
        cwd=HERE,
        timeout=100,
    )
    told = list(TOLD.finditer(done.stdout))
    types = {int(each["line"]): REVEALED.search(each["text"]) for each in told}
    revealed = {line: _plain(found["type"]) for line, found in types.items() if found is not None}
    assert revealed == _expected("# revealed:"), done.stdout + done.stderr
    mistakes = sorted({int(each["line"]) for each in told if each["kind"] == "error"})
    assert mistakes == sorted(_expected("# wrong")), done.stdout + done.stderr

"""The documentation says what is true: its programs run, its links lead somewhere, its tables are
those of the code.

A block that begins with ```python is executed; the blocks of a page are one program. A ```text
block behind one is what the program has printed up to there. After ```python a word may say what
the block needs: `server` (the name `address`, of a server with a test model) or `smollm2` (the
embedded model, whose words are not compared: they depend on the machine's arithmetic).
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import linecache
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import furcate as fc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEXTS = {".md", ".py", ".toml", ".txt", ".cfg", ".yml", ".yaml", ".sh", ""}

BLOCK = re.compile(r"^```(\w+)? ?(\w+)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    language: str
    need: str
    text: str


@dataclass(frozen=True)
class Page:
    path: Path
    blocks: tuple[Block, ...]

    @property
    def needs(self) -> set[str]:
        return {block.need for block in self.blocks if block.language == "python"}


def page_at(path: Path) -> Page:
    found = BLOCK.findall(path.read_text())
    return Page(path, tuple(Block(*parts) for parts in found))


def programs(need: str) -> list[object]:
    pages = [page_at(path) for path in PAGES]
    return [
        pytest.param(page, id=str(page.path.relative_to(ROOT)))
        for page in pages
        if page.needs and need in (page.needs - {""} or {""})
    ]


def run_page(page: Page, names: dict[str, object], *, compare: bool = True) -> None:
    """Executes the page's blocks as if they stood in one file, `program.py`."""
    namespace: dict[str, object] = {"__name__": "program", **names}
    line, printed = 0, io.StringIO()
    try:
        for block in page.blocks:
            if block.language == "python":
                source = "\n" * line + block.text
                code = compile(source, "program.py", "exec", dont_inherit=True)
                lines = source.splitlines(keepends=True)  # where inspect finds them
                linecache.cache["program.py"] = (len(source), None, lines, "program.py")
                line += block.text.count("\n") + 1
                with contextlib.redirect_stdout(printed):
                    exec(code, namespace)
            elif block.language == "text" and printed.getvalue():
                if compare:
                    assert printed.getvalue().rstrip() == block.text.rstrip()
                printed.seek(0)
                printed.truncate()
    finally:
        fc.set_default_backend(None)
        for value in namespace.values():
            if isinstance(value, fc.Session):
                value.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", programs(""))
def test_the_programs_of_a_page_do_what_it_says(page: Page) -> None:
    run_page(page, {})


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.parametrize("page", programs("smollm2"))
def test_the_programs_of_a_page_run_on_the_embedded_model(page: Page) -> None:
    run_page(page, {}, compare=False)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a server with a test model; it must end well."""
    wanted = f"ipc://{tmp_path}/s.sock"
    tmp_path.chmod(0o700)
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    server = subprocess.Popen(
        [sys.executable, "-m", "furcate", "serve", "--model", "test:context", "--address", wanted],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == f"furcate: serving test:context at {wanted}\n"
        yield wanted
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(timeout=30)
        server.stdout.close()
    assert status == 0


@pytest.mark.slow
@pytest.mark.parametrize("page", programs("server"))
def test_the_programs_of_a_page_run_on_a_server(page: Page, address: str) -> None:
    run_page(page, {"address": address})


# Links and tables --------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The names that headings get on the web."""
    headings = HEADING.findall(FENCED.sub("", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(FENCED.sub("", path.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name} links to {link!r}"
        assert target.is_relative_to(ROOT), f"{path.name} links out of the repository: {link!r}"
        if anchor:
            assert anchor in anchors(target), f"{path.name} links to {link!r}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    """Paths in backquotes that begin with a folder of the repository; `<name>` stands for any."""
    folders = "lang|runtime|kernels|src|tests|docs|examples"
    for name in re.findall(rf"`((?:{folders})/[\w./*<>-]*)`", path.read_text()):
        pattern = re.sub(r"<\w+>", "*", name).rstrip("/")
        assert list(ROOT.glob(pattern)), f"{path.name} names {name!r}"


def generator() -> ModuleType:
    path = ROOT / "docs" / "generate_reference.py"
    spec = importlib.util.spec_from_file_location("generate_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_reference_are_those_of_the_code() -> None:
    for path, text in generator().pages().items():
        assert path.read_text() == text, "run `python docs/generate_reference.py`"


def test_the_reference_knows_every_parameter_of_gen() -> None:
    text = (ROOT / "docs" / "reference" / "language.md").read_text()
    section = text.split("## Parameters of `gen`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(inspect.signature(fc.gen).parameters)


# The repository's own words ----------------------------------------------------------------------


def texts() -> list[Path]:
    """Text files under version control, or all where there is no version control."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = listed.stdout.decode().split("\0") if listed.returncode == 0 else []
    paths = [ROOT / name for name in names if name] or [*ROOT.rglob("*.md"), *ROOT.rglob("*.py")]
    return [p for p in paths if p.is_file() and not p.is_symlink() and p.suffix in TEXTS]


def test_no_text_speaks_of_one_machine_or_of_what_is_left_to_do() -> None:
    homes = "/" + "(?:work|home|root|Users)/" + r"\w"
    hosts = r"\b(?:pypi|files)\.python" + r"hosted\.org|https?://[\w.-]*(?:artifactory|/simple\b)"
    later = r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"
    forbidden = re.compile(f"{homes}|{hosts}|{later}")
    for path in texts():
        found = forbidden.search(path.read_text(errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)} says {found and found[0]!r}"

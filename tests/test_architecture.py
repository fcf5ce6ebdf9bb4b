"""The import directions of docs/design/architecture.md, and other rules that only a test keeps."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "furcate"

# Inside runtime, a layer may import those below it and its own.
LAYERS: list[tuple[str, ...]] = [
    ("launch",),
    ("server",),
    ("mock", "testing"),
    ("graph",),
    ("scheduler",),
    ("engine",),
    ("model",),
    ("attention", "cache", "constrain", "sample"),
    ("transport", "tokenize"),
    ("log",),
    ("config",),
    ("flags", "clock", "progress", "memory"),
]
HALVES = {"lang", "runtime", "kernels", "protocol"}
MAY_IMPORT = {
    "protocol": {"protocol"},
    "lang": {"lang", "protocol"},
    "kernels": {"kernels"},
    "runtime": {"runtime", "kernels", "protocol"},
}
HEAVY = {"torch", "zmq", "transformers"}
DANGEROUS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}


def modules() -> list[Path]:
    found = [p for half in ("lang", "runtime", "kernels") for p in (ROOT / half).rglob("*.py")]
    return sorted([*found, *PACKAGE.rglob("*.py")])


def name_of(path: Path) -> str:
    base = PACKAGE if path.is_relative_to(PACKAGE) else ROOT
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[tuple[str, bool]]:
    """Absolute names that a module imports, inside `furcate`, and whether at its top level."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                assert node.level == 1, f"{path}: relative imports go one dot up at most"
                stem = ".".join(["furcate", *package, *filter(None, [node.module])])
            else:
                stem = node.module or ""
            found.append((stem, id(node) in top))
            found += [(f"{stem}.{alias.name}", id(node) in top) for alias in node.names]
    return found


def half(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "furcate" and parts[1] in HALVES else ""


def layer(part: str) -> int | None:
    return next((i for i, names in enumerate(LAYERS) if part in names), None)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_what_its_place_allows(path: Path) -> None:
    name = name_of(path)
    own = name.split(".")[0]
    for target, _ in imports(path):
        assert target.split(".")[0] not in HALVES, f"{name}: `import {target}` makes a second copy"
        other = half(target)
        if own in MAY_IMPORT and other:
            inprocess = name in {"lang.backend.inprocess", "lang.backend.mock"} and (
                target == "furcate.runtime" or target.startswith("furcate.runtime.launch")
            )
            assert other in MAY_IMPORT[own] or inprocess, f"{name} may not import {target}"
        if own == "runtime" and other == "runtime" and target.count(".") >= 2:
            mine, theirs = (
                layer(name.split(".")[1] if "." in name else ""),
                layer(target.split(".")[2]),
            )
            if mine is not None and theirs is not None:
                same = name.split(".")[1] == target.split(".")[2]
                assert theirs > mine or same, f"{name} may not import {target}: it lies above"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_no_module_can_execute_what_it_reads(path: Path) -> None:
    tree = ast.parse(path.read_text())
    roots = {target.split(".")[0] for target, _ in imports(path)}
    assert not roots & DANGEROUS
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            text = ast.unparse(called)
            assert text not in {"eval", "exec", "__import__"}, f"{path}:{node.lineno} calls {text}"
            assert not text.endswith((".recv_pyobj", ".send_pyobj", "torch.load", "yaml.load"))


def test_protocol_needs_only_the_standard_library_and_msgspec() -> None:
    for path in sorted((PACKAGE / "protocol").glob("*.py")):
        for target, _ in imports(path):
            root = target.split(".")[0]
            assert root in {*sys.stdlib_module_names, "msgspec", "furcate"}, (
                f"{path.name}: {target}"
            )


def test_only_transport_and_the_channel_know_zeromq() -> None:
    for path in modules():
        name = name_of(path)
        if name.startswith(("runtime.transport", "lang.backend")):
            continue
        assert all(target.split(".")[0] != "zmq" for target, _ in imports(path)), name


def test_time_comes_from_the_clock() -> None:
    for path in modules():
        name = name_of(path)
        if name.startswith("runtime.") and name != "runtime.clock":
            text = ast.unparse(ast.parse(path.read_text()))
            assert "time.time(" not in text, f"{name} reads the wall clock"


@pytest.mark.slow
def test_importing_furcate_loads_nothing_heavy() -> None:
    code = f"import sys, furcate; print(sorted({HEAVY!r} & sys.modules.keys()))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src"
    )
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["lang", "runtime", "kernels"])
def test_the_links_are_relative(name: str) -> None:
    link = PACKAGE / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"../../{name}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_file_is_one_concept(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500, "look for the second responsibility"

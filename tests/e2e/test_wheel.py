"""What a user installs: the wheel made from the sdist, outside the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import furcate as fc

@fc.function
def greet(s, name):
    s += "Hello " + name + fc.gen("rest", max_tokens=4)

if __name__ == "__main__":
    print("said", len(greet.run("Ada", seed=1)["rest"]) > 0)
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist alone."""
    folder = tmp_path_factory.mktemp("dist")
    checkout = folder / "checkout"
    checkout.mkdir()
    files = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, files):
        source, target = ROOT / name, checkout / name
        if source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.readlink())
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, checkout, cwd=folder)
    return folder


def test_neither_sdist_nor_wheel_holds_links(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        assert not [m.name for m in sdist.getmembers() if m.issym() or m.islnk()]
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        modes = {info.filename: info.external_attr >> 28 for info in wheel.infolist()}
        assert not [name for name, mode in modes.items() if mode == 0o12]
        names = set(modes)
    assert {
        "furcate/py.typed",
        "furcate/lang/__init__.py",
        "furcate/runtime/scheduler/scheduler.py",
        "furcate/kernels/linear/__init__.py",
    } <= names
    assert not [name for name in names if name.startswith(("lang/", "runtime/", "kernels/"))]
    # Kernels are compiled where they are installed.
    sources = run("git", "ls-files", "kernels", cwd=ROOT).splitlines()
    assert {f"furcate/{name}" for name in sources} <= names


def test_the_wheel_runs_a_program_outside_the_checkout(built: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    site = Path(
        run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path).strip()
    )
    # The dependencies are those of this environment, without furcate itself.
    dependencies = tmp_path / "dependencies"
    dependencies.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "furcate" not in entry.name:
            (dependencies / entry.name).symlink_to(entry)
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    wheel = next(built.glob("*.whl"))
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel, cwd=tmp_path
    )
    loaded = run(
        python,
        "-c",
        "import furcate, sys; print({'torch', 'zmq'} & sys.modules.keys())",
        cwd=tmp_path,
    )
    assert loaded.strip() == "set()"
    where = run(python, "-c", "import furcate; print(furcate.__file__)", cwd=tmp_path)
    assert str(site) in where
    (tmp_path / "program.py").write_text(PROGRAM)
    said = run(
        tmp_path / "env" / "bin" / "furcate",
        "run",
        "--model",
        "test:context",
        "program.py",
        cwd=tmp_path,
    )
    assert "said True" in said

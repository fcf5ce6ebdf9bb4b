"""The command line: what it prints, with which status it ends, and what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import furcate
from furcate.runtime.model import catalog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

SOURCES = Path(furcate.__file__).parent.parent
ENVIRON = {
    **os.environ,
    "FURCATE_KV_BYTES": "1MiB",
    "FURCATE_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]),
}


def run(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    result = subprocess.run(
        [sys.executable, "-m", "furcate", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**ENVIRON, **environ},
        check=False,
    )
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    return result


def message_of(result: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """The one message of a failure."""
    assert result.returncode == status, result
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("furcate: error: ")
    return result.stderr


@pytest.fixture
def program(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "program.py"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["serve", "--help"], ["run", "--help"], ["models", "list"], ["kernels", "list"]],
)
def test_help_and_lists_load_no_tensors(arguments: list[str]) -> None:
    code = (
        "import sys; from furcate.__main__ import main; sys.argv = ['furcate', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'transformers', 'zmq'} & set(sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=ENVIRON,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"furcate {furcate.__version__}\n"


def test_every_option_has_its_help_line() -> None:
    from furcate.runtime.config import config_flags

    shown = run("serve", "--help", COLUMNS="200").stdout
    for flag in config_flags():
        assert flag.option in shown
        said = flag.help.split(".")[0].replace("`", "")
        assert said[:60] in shown


def test_a_listed_model_keeps_its_path_in_one_line(tmp_path: Path) -> None:
    cache = tmp_path / ("deep" * 30)
    file = cache / "furcate" / "models" / catalog.CATALOG["smollm2"].file_name
    file.parent.mkdir(parents=True)
    with file.open("wb") as sparse:
        sparse.truncate(catalog.CATALOG["smollm2"].num_bytes)
    lines = run("models", "list", XDG_CACHE_HOME=str(cache), COLUMNS="40").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "smollm2"]
    assert lines[1].endswith(str(file))


# Bad input ---------------------------------------------------------------------------------------


def test_a_program_that_does_not_exist() -> None:
    message = message_of(run("run", "nowhere.py"))
    assert message == (
        "furcate: error: the program 'nowhere.py' does not exist; name a Python file\n"
    )


def test_a_folder_is_no_program(tmp_path: Path) -> None:
    assert "is a folder" in message_of(run("run", tmp_path))


def test_an_address_where_nobody_listens(program, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/nobody.sock"
    message = message_of(run("run", program("print('never')"), "--connect", address))
    assert address in message
    assert "is `furcate serve` running?" in message


def test_an_address_that_is_none(program) -> None:
    message = message_of(run("run", "--connect", "http://127.0.0.1:1", program("")))
    assert "'http://127.0.0.1:1' is no address of a server" in message


def test_a_port_where_nobody_listens(program) -> None:
    message = message_of(run("run", "--connect", "tcp://127.0.0.1:1", program("")))
    assert "no server at 'tcp://127.0.0.1:1': nobody listens there" in message


@pytest.mark.parametrize("command", ["run", "serve"])
def test_an_unknown_model(program, tmp_path: Path, command: str) -> None:
    rest = [program("print('never')")] if command == "run" else []
    socket = ["--address", f"ipc://{tmp_path}/s.sock"] if command == "serve" else []
    message = message_of(run(command, "--model", "nope", *socket, *rest))
    assert "'nope'" in message
    assert "smollm2" in message


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_truncated_model_file(program, tmp_path: Path, command: str) -> None:
    model = tmp_path / "broken.gguf"
    model.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(10))
    rest = [program("print('never')")] if command == "run" else []
    socket = ["--address", f"ipc://{tmp_path}/s.sock"] if command == "serve" else []
    assert "broken.gguf" in message_of(run(command, "--model", str(model), *socket, *rest))
    assert not list(tmp_path.glob("s.sock*"))


def test_a_first_pull_without_network(tmp_path: Path) -> None:
    environ = {
        "XDG_CACHE_HOME": str(tmp_path),
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_TIMEOUT": "1",
    }
    result = run("models", "pull", "smollm2", **environ)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    message = result.stderr.splitlines()[-1]
    assert message.startswith("furcate: error: model 'smollm2' cannot be downloaded")
    assert "check the network" in message
    assert "Connection refused" in message
    assert not list(tmp_path.rglob("*.gguf"))


def test_two_servers_on_one_socket(tmp_path: Path) -> None:
    from furcate.runtime.transport.lock import SocketLock

    lock = SocketLock(tmp_path / "s.sock")
    message = message_of(
        run("serve", "--model", "test:context", "--address", f"ipc://{tmp_path}/s.sock")
    )
    assert f"another server listens at '{tmp_path}/s.sock' (process {os.getpid()})" in message
    lock.release()


def test_a_value_out_of_range_and_an_unknown_variable(tmp_path: Path) -> None:
    assert "--max-rows must be at least 1, got 0" in message_of(run("serve", "--max-rows", "0"))
    message = message_of(run("serve", FURCATE_MAXROWS="3"))
    assert "did you mean 'FURCATE_MAX_ROWS'?" in message


def test_a_socket_folder_that_is_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    message = message_of(run("serve", "--socket-folder", tmp_path / "open"))
    assert "chmod 700" in message


# Programs ----------------------------------------------------------------------------------------


def test_a_program_runs_as_python_would_run_it(program) -> None:
    path = program(
        "import sys, furcate as fc\n"
        "@fc.function\n"
        "def hello(s):\n"
        "    s += 'Hello'\n"
        "    s += fc.gen('more', max_tokens=4, temperature=0)\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv[1:], len(hello.run()['more']) > 0, __file__ == sys.argv[0])\n"
    )
    result = run("run", "--model", "test:context", path, "--verbose", "x", "--", "-y")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "['--verbose', 'x', '--', '-y'] True True\n"
    assert result.stderr == ""


def test_the_status_of_a_program_is_passed_on(program) -> None:
    result = run("run", "--model", "test:context", program("import sys; sys.exit(7)"))
    assert result.returncode == 7
    assert result.stderr == ""


def test_ctrl_c_ends_a_running_program_with_one_line(program) -> None:
    path = program(
        "import furcate as fc\n"
        "@fc.function\n"
        "def endless(s):\n"
        "    s += 'go' + fc.gen('text', max_tokens=4000, ignore_eos=True)\n"
        "print('running', flush=True)\n"
        "while True: endless.run()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "furcate", "run", "--model", "test:endless", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRON,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=5)
    assert process.returncode == 130
    assert printed == "furcate: interrupted\n"


def test_an_exception_of_the_program_keeps_its_traceback_from_its_own_first_line(program) -> None:
    path = program("def f():\n    return {}['x']\n\nf()\n")
    result = run("run", "--model", "test:context", path)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert "KeyError: 'x'" in result.stderr
    assert "runpy" not in result.stderr


def test_a_furcate_error_is_one_message_with_the_line_it_came_from(program) -> None:
    path = program("import furcate as fc\nfc.gen('x', max_tokens=-5)\n")
    message = message_of(run("run", "--model", "test:context", path))
    assert "-5" in message
    assert "program.py:2" in message


def test_debug_shows_the_traceback_too(program) -> None:
    path = program("import furcate as fc\nfc.gen('x', max_tokens=-5)\n")
    result = run("run", "--model", "test:context", path, "--debug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "furcate: error: " in result.stderr

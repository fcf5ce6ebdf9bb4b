"""The demo: `furcate serve` in processes of its own, and twenty tickets extracted over ZeroMQ.

    python tests/e2e/demo.py

Prints what examples/extract_json.py prints. The exit status is not 0 unless the server started,
the program printed twenty valid tickets, and the server stopped cleanly. `Server` is shared with
the tests beside this file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "extract_json.py"
SUCCESS = "20 valid tickets of 20 e-mails"
START_S = 120.0
PROGRAM_S = 600.0
STOP_S = 15.0


class DemoFailed(Exception):
    """What did not work, in words for whoever runs the demo."""


def environment() -> dict[str, str]:
    """This process's own, with the sources of this checkout first."""
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


class Server:
    """`furcate serve` with its socket in a folder of its own, as a context manager.

    `address` is there once it serves. Leaving the block stops it; `exit_status` is then its own.
    """

    def __init__(self, model: str = "smollm2", *options: str, start_s: float = START_S) -> None:
        self.exit_status: int | None = None
        self._command = [sys.executable, "-m", "furcate", "serve", "--model", model, *options]
        self._start_s = start_s
        self._line = ""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="furcate-")  # its mode is 0700
        socket = ["--address", f"ipc://{self._folder.name}/serve.sock"]
        self.process = subprocess.Popen(
            [*self._command, *socket], stdout=subprocess.PIPE, text=True, env=environment()
        )
        try:
            self.address = self._wait_for_address()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _wait_for_address(self) -> str:
        reader = threading.Thread(target=self._read_line, daemon=True)
        reader.start()
        reader.join(self._start_s)
        if reader.is_alive():
            raise DemoFailed(f"the server has not started within {self._start_s:g} s")
        if not self._line:  # the end of its output: it is ending
            raise DemoFailed(f"the server ended with status {self.process.wait(STOP_S)}")
        return self._line.split()[-1]

    def _read_line(self) -> None:
        assert self.process.stdout is not None
        self._line = self.process.stdout.readline()

    def _stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.exit_status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._folder.cleanup()


def run_program(program: Path, address: str) -> str:
    """What the program printed; raises DemoFailed where it did not end well."""
    command = [sys.executable, "-m", "furcate", "run", str(program), "--connect", address]
    try:
        ran = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env=environment(), timeout=PROGRAM_S
        )
    except subprocess.TimeoutExpired:
        raise DemoFailed(f"{program.name} did not end within {PROGRAM_S:g} s") from None
    if ran.returncode != 0:
        raise DemoFailed(f"{program.name} ended with status {ran.returncode}")
    return ran.stdout


def demonstrate(model: str) -> None:
    server = Server(model)
    with server:
        print(f"Serving {model} at {server.address}.\n", flush=True)
        printed = run_program(EXAMPLE, server.address)
        print(printed, flush=True)
    if server.exit_status != 0:
        raise DemoFailed(f"the server stopped with status {server.exit_status}, not 0")
    if SUCCESS not in printed:
        raise DemoFailed(f"the output does not say {SUCCESS!r}")


def main() -> int:
    model = sys.argv[1] if len(sys.argv) > 1 else "smollm2"
    try:
        demonstrate(model)
    except DemoFailed as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    print("demo: everything worked.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

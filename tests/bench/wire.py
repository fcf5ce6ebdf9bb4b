"""What a connection costs: a program without a model's work, over each kind of socket.

`python tests/bench/wire.py [ipc] [tcp] [keys]`: microseconds of one program after the other, and of
one among many whose deltas are streamed at once.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import furcate as fc

NUM_RUNS = 2_000
NUM_STREAMS = 64
NUM_TOKENS = 200
NUM_ROUNDS = 5


@fc.function
def nothing(s: fc.ProgramState) -> None:
    s += "x"


@fc.function
def much(s: fc.ProgramState) -> None:
    s += "x"
    forks = s.fork(NUM_STREAMS)
    forks += fc.gen("a", max_tokens=NUM_TOKENS, ignore_eos=True)


def one_after_the_other(backend: fc.Session) -> float:
    begun = time.perf_counter()
    for _ in range(NUM_RUNS):
        nothing.run(backend=backend)
    return (time.perf_counter() - begun) / NUM_RUNS * 1e6


def streamed(backend: fc.Session) -> float:
    begun = time.perf_counter()
    state = much.run(backend=backend, stream=True)
    num_events = sum(1 for _ in state.events())
    return (time.perf_counter() - begun) / num_events * 1e6


def measure(kind: str, folder: Path) -> None:
    command = [sys.executable, "-m", "furcate", "serve", "--model", "test:context"]
    address = f"ipc://{folder}/serve.sock"
    options = ["--address", address, "--max-rows", str(NUM_STREAMS)]
    given: dict[str, Path] = {}
    if kind != "ipc":
        options += ["--listen", "tcp://127.0.0.1:0"]
    if kind == "keys":
        subprocess.run([*command[:3], "keys", "new", str(folder)], check=True, capture_output=True)
        options += ["--server-key", f"{folder}/server.secret", "--client-keys", f"{folder}/clients"]
        given = {"server_key": folder / "server.public", "key": folder / "client.secret"}
    server = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        for _ in range(1 if kind == "ipc" else 2):
            address = server.stdout.readline().split()[-1]
        with fc.connect(address, **given) as backend:
            for name, figure in (("program", one_after_the_other), ("delta", streamed)):
                found = [figure(backend) for _ in range(NUM_ROUNDS)]
                spread = f"{min(found):.1f} to {max(found):.1f}"
                print(f"{kind:5} {name:8} {statistics.median(found):8.1f} us  ({spread})")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    for kind in sys.argv[1:] or ["ipc", "tcp", "keys"]:
        with tempfile.TemporaryDirectory() as folder:
            measure(kind, Path(folder))

"""A real server over tcp: keys, a network that breaks, clients that do not read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.fakes.tcp_proxy import TcpProxy

import furcate as fc
from furcate.errors import EngineLost, ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

SOURCES = Path(fc.__file__).parent.parent
ENVIRON = {
    **os.environ,
    "FURCATE_KV_BYTES": "16MiB",
    "FURCATE_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]),
}


def furcate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "furcate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRON, timeout=30)


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        time.sleep(0.005)


class Serving:
    """`furcate serve --listen`; `address` is the one over tcp."""

    def __init__(self, folder: Path, listen: str, *options: str | Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.local = f"ipc://{folder}/serve.sock"
        command = [sys.executable, "-m", "furcate", "serve", "--model", "test:context"]
        addresses = ["--address", self.local, "--listen", listen]
        self.process = subprocess.Popen(
            [*command, *addresses, *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRON,
        )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline() for _ in range(2)]
        assert lines[0] == f"furcate: serving test:context at {self.local}\n"
        self.address = lines[1].split()[-1]
        self.port = int(self.address.rpartition(":")[2])

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    servers: list[Serving] = []

    def start(listen: str = "tcp://127.0.0.1:0", *options: str | Path) -> Serving:
        servers.append(Serving(tmp_path / "sockets", listen, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@fc.function
def story(s: fc.ProgramState, topic: str = "rain") -> None:
    s += "Tell me about " + topic + ": "
    forks = s.fork(3)
    forks += fc.gen("part", max_tokens=60)
    forks.join()
    s += fc.gen("end", max_tokens=60)


def streamed(backend: fc.Session, seed: int) -> list[tuple[int, str]]:
    state = story.run(backend=backend, seed=seed, stream=True)
    texts: dict[int, str] = {}
    for event in state.events():
        texts[event.branch] = texts.get(event.branch, "") + event.delta
    state.sync()
    return sorted(texts.items())


def test_with_keys_a_program_runs_over_the_network(serve, tmp_path) -> None:
    made = furcate("keys", "new", tmp_path / "keys")
    assert made.returncode == 0
    assert "--client-keys" in made.stderr
    assert [Path(line).name for line in made.stdout.split()] == [
        "server.secret",
        "server.public",
        "client.secret",
        "client.public",
    ]
    keys = tmp_path / "keys"
    server = serve(
        "tcp://*:0",
        "--server-key",
        keys / "server.secret",
        "--client-keys",
        keys / "clients",
    )
    address = f"tcp://127.0.0.1:{server.port}"
    with (
        fc.connect(server.local) as near,
        fc.connect(address, server_key=keys / "server.public", key=keys / "client.secret") as far,
    ):
        assert story.run(backend=near, seed=5)["end"] == story.run(backend=far, seed=5)["end"]
    assert furcate("keys", "add", keys, "bob").returncode == 0
    fc.connect(address, server_key=keys / "server.public", key=keys / "bob.secret").close()
    program = tmp_path / "program.py"
    program.write_text(
        "import furcate as fc\n"
        "@fc.function\n"
        "def ask(s):\n    s += 'x' + fc.gen('a', max_tokens=4)\n"
        "print(len(ask.run()['a']))\n"
    )
    options = ["--server-key", keys / "server.public", "--key", keys / "client.secret"]
    ran = furcate("run", "--connect", address, *options, program)
    assert (ran.returncode, ran.stdout.strip().isdigit()) == (0, True)
    refused = furcate("run", "--connect", address, program)
    assert refused.returncode == 1
    assert "it wants keys" in refused.stderr


def test_without_keys_nothing_listens_to_the_network(tmp_path) -> None:
    refused = furcate("serve", "--model", "test:context", "--listen", "tcp://0.0.0.0:0")
    assert refused.returncode == 1
    assert "furcate keys new FOLDER" in refused.stderr


def test_a_port_that_is_taken_ends_the_server_with_the_remedy(serve, tmp_path) -> None:
    address = serve().address
    folder = tmp_path / "others"
    folder.mkdir(mode=0o700)
    here = ["--address", f"ipc://{folder}/serve.sock", "--listen", address]
    refused = furcate("serve", "--model", "test:context", *here)
    assert refused.returncode == 1
    assert "Address already in use; name another port with --listen" in refused.stderr
    assert list(folder.iterdir()) == []


def test_calls_that_run_programs_do_not_wait_for_each_other(serve) -> None:
    server = serve("tcp://127.0.0.1:0", "--max-programs", "8")

    @fc.function
    def inner(s: fc.ProgramState) -> None:
        s += "x" + fc.gen("a", max_tokens=2)

    with fc.connect(server.address) as backend:

        def ask(question: str) -> str:
            return str(inner.run(backend=backend)["a"])

        @fc.function
        def outer(s: fc.ProgramState) -> None:
            s += "y" + fc.gen("b", max_tokens=2)
            s.call(ask, s.ref("b"))

        states = outer.run_batch([()] * 50, backend=backend)
        assert all(state.ok for state in states)


def test_a_network_that_breaks_in_the_middle_changes_no_stream(serve) -> None:
    server = serve()
    with fc.connect(server.local) as backend:
        expected = [streamed(backend, seed) for seed in range(3)]
    proxy = TcpProxy(server.port, cut_after=800)
    with fc.connect(f"tcp://127.0.0.1:{proxy.port}") as backend:
        assert [streamed(backend, seed) for seed in range(3)] == expected
        assert proxy.num_connections > 2
    proxy.close()


def test_a_server_that_was_started_anew_meanwhile_is_lost_and_no_hang(serve) -> None:
    first = serve()
    proxy = TcpProxy(first.port)
    backend = fc.connect(f"tcp://127.0.0.1:{proxy.port}")
    story.run(backend=backend)
    first.process.kill()
    first.process.communicate()
    serve(f"tcp://127.0.0.1:{first.port}")
    with pytest.raises(ProgramError) as caught:
        story.run(backend=backend)
    assert isinstance(caught.value.__cause__, EngineLost)
    assert caught.value.__cause__.retryable
    backend.close()
    proxy.close()


def test_a_server_that_is_stopped_says_so_at_once(serve) -> None:
    server = serve()
    backend = fc.connect(server.address)
    server.process.terminate()
    began_s = time.monotonic()

    def run_on() -> None:
        while True:
            story.run(backend=backend)

    with pytest.raises(ProgramError) as caught:
        run_on()
    assert isinstance(caught.value.__cause__, EngineLost)
    assert time.monotonic() - began_s < 5
    backend.close()


SLOW_CLIENT = """
import sys, threading, furcate as fc
MUCH = dict(max_tokens=300, ignore_eos=True, return_logprob=True, top_logprobs_num=5)
@fc.function
def much(s):
    s += "x" * 100
    for _ in range(25):
        forks = s.fork(10)
        forks += fc.gen("a", **MUCH)
backend = fc.connect(sys.argv[1])
states = [much.run(backend=backend, stream=True) for _ in range(2)]
for thread in threading.enumerate():
    if thread.name == "furcate-program":  # the bodies
        thread.join()
backend.ask("info")  # and the server has them whole
print("there", flush=True)
for state in states:
    try:
        list(state.events()); state.sync()
        print("finished")
    except fc.ProgramError as error:
        print(type(error.__cause__).__name__)
"""


def test_a_client_that_is_stopped_harms_itself_alone(serve, tmp_path) -> None:
    server = serve("tcp://127.0.0.1:0", "--held-bytes", "64KiB", "--kv-bytes", "256MiB")
    script = tmp_path / "slow.py"
    script.write_text(SLOW_CLIENT)
    front = psutil.Process(server.process.pid)
    slow = subprocess.Popen(
        [sys.executable, script, server.local], stdout=subprocess.PIPE, text=True, env=ENVIRON
    )
    try:
        assert slow.stdout is not None
        assert slow.stdout.readline() == "there\n"
        slow.send_signal(signal.SIGSTOP)
        with fc.connect(server.address) as backend:
            before = front.memory_info().rss
            for seed in range(5):
                assert story.run(backend=backend, seed=seed).ok
            until(lambda: backend.ask("info")["programs"] == 0, 30)
            assert front.memory_info().rss - before < 64 * 2**20
        slow.send_signal(signal.SIGCONT)
        said = slow.communicate(timeout=20)[0].split()
        assert said == ["Overloaded"] * 2
    finally:
        slow.kill()
        slow.communicate()


def test_ten_thousand_programs_flow_through_a_narrow_window(serve) -> None:
    server = serve("tcp://127.0.0.1:0", "--max-programs", "300")

    @fc.function
    def tiny(s: fc.ProgramState, number: int) -> None:
        s += f"{number} "
        s += fc.gen("a", max_tokens=1)

    with fc.connect(server.address) as backend:
        states = tiny.run_batch([(n,) for n in range(10_000)], backend=backend)
        assert all(state.ok for state in states)

"""A real server: its processes, its files, and what happens when one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import zmq

import furcate as fc
from furcate.errors import EngineLost, ProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

SOURCES = Path(fc.__file__).parent.parent
ENVIRON = {
    **os.environ,
    "FURCATE_KV_BYTES": "1MiB",
    "FURCATE_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]),
}
START_S = 30.0
PROMISE_S = 2.0  # how long anything may take to notice a death
FILES = ["serve.sock", "serve.sock.engine0", "serve.sock.engine0.flights", "serve.sock.lock"]


def until(condition: Callable[[], object], timeout_s: float = PROMISE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Serving:
    """`furcate serve`, and what it printed. Ended and checked for left-overs by `close`."""

    def __init__(self, folder: Path, model: str, *options: str) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        self.address = f"ipc://{folder}/serve.sock"
        command = [sys.executable, "-m", "furcate", "serve", "--model", model]
        self.process = subprocess.Popen(
            [*command, "--address", self.address, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRON,
        )

    def wait_until_ready(self) -> Serving:
        assert self.process.stdout is not None
        line: list[str] = []
        reader = threading.Thread(target=lambda: line.append(self.process.stdout.readline()))
        reader.start()
        reader.join(START_S)
        assert line, "the server printed nothing in time"
        assert line[0] == f"furcate: serving {self.model_of(line[0])} at {self.address}\n", (
            line,
            self.process.communicate(),
        )
        return self

    @staticmethod
    def model_of(line: str) -> str:
        return line.split()[2] if len(line.split()) > 2 else "?"

    @property
    def engine(self) -> psutil.Process:
        (child,) = psutil.Process(self.process.pid).children()
        return child

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PROMISE_S + 1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    servers: list[Serving] = []

    def start_one(model: str, *options: str) -> Serving:
        servers.append(Serving(tmp_path / "sockets", model, *options))
        return servers[-1]

    yield start_one
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """For tests that leave it as it was."""
    server = Serving(tmp_path_factory.mktemp("shared") / "sockets", "test:context")
    yield server.wait_until_ready()
    server.close()


@fc.function
def chatter(s: fc.ProgramState, topic: str) -> None:
    s += "Tell me about " + topic + ": "
    s += fc.gen("answer", max_tokens=24)
    s += "\nIn short: "
    s += fc.gen("short", max_tokens=8, temperature=0.0)


@fc.function
def spelled(s: fc.ProgramState) -> None:
    s += "Well? "
    s += fc.gen("word", regex="yes|no")


@fc.function
def endless(s: fc.ProgramState, prompt: str = "go", max_tokens: int = 4000) -> None:
    s += prompt
    s += fc.gen("text", max_tokens=max_tokens, ignore_eos=True)


def test_a_server_shows_nothing_to_others_and_leaves_nothing_behind(start) -> None:
    server = start("test:context").wait_until_ready()
    assert server.files == FILES
    assert server.folder.stat().st_mode & 0o777 == 0o700
    for name in FILES:
        assert (server.folder / name).stat().st_mode & 0o777 == 0o600
    tree = [psutil.Process(server.process.pid), server.engine]
    assert [c for process in tree for c in process.net_connections("inet")] == []
    engine = server.engine.pid
    begun = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - begun < PROMISE_S
    assert server.files == []
    assert not is_alive(engine)
    assert server.process.communicate() == ("", "")


def test_ctrl_c_ends_a_server_like_sigterm(start) -> None:
    server = start("test:context").wait_until_ready()
    engine = server.engine.pid
    assert server.stop(signal.SIGINT) == 0
    assert server.files == []
    assert not is_alive(engine)


def test_a_server_can_be_stopped_while_it_is_loading(start) -> None:
    server = start("test:context")
    until(lambda: "serve.sock.engine0" in server.files, START_S)
    assert server.stop() == 0
    assert server.files == []
    assert psutil.Process().children() == []


def test_a_server_can_be_stopped_while_its_engine_is_replaced(start) -> None:
    server = start("test:context").wait_until_ready()
    first = server.engine.pid
    server.engine.kill()
    front = psutil.Process(server.process.pid)
    until(lambda: any(child.pid != first for child in front.children()))
    assert server.stop() == 0
    assert server.files == []
    until(lambda: not psutil.Process().children())


def test_a_program_gives_the_same_in_process_and_over_the_wire(server) -> None:
    with fc.connect(server.address) as wire:
        states = [chatter.run(topic=t, backend=wire, seed=7) for t in ("bees", "ants")]
        over_the_wire = [s.text() for s in states]
    with fc.Engine("test:context", kv_bytes="1MiB", threads=1) as engine:
        states = [chatter.run(topic=t, backend=engine, seed=7) for t in ("bees", "ants")]
        in_process = [s.text() for s in states]
    assert over_the_wire == in_process
    assert over_the_wire[0] != over_the_wire[1]


def test_idle_processes_use_no_processor(server) -> None:
    with fc.connect(server.address) as wire:
        chatter.run(topic="bees", backend=wire, seed=7)
        processes = [psutil.Process(server.process.pid), server.engine]
        before = [sum(process.cpu_times()[:2]) for process in processes]
        begun = time.monotonic()
        time.sleep(3)  # it is the passing of time that is measured
        elapsed = time.monotonic() - begun
        after = [sum(process.cpu_times()[:2]) for process in processes]
    for used in (late - early for early, late in zip(before, after, strict=True)):
        # The clock of processor time ticks each 10 ms.
        assert used <= 0.01 * elapsed + 0.01


def test_a_server_that_is_stopped_ends_what_runs_with_a_retryable_error(start) -> None:
    server = start("test:endless").wait_until_ready()
    wire = fc.connect(server.address)
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            endless.run(backend=wire)
        except ProgramError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: server.engine.cpu_percent(0.05) > 20, START_S)
    assert server.stop() == 0
    thread.join(PROMISE_S)
    assert isinstance(outcome[0], ProgramError)
    assert isinstance(outcome[0].cause, EngineLost)
    assert "the server has been stopped" in str(outcome[0].cause)
    wire.close()
    assert server.files == []


def test_without_replay_a_killed_engine_ends_every_run_with_a_retryable_error(start) -> None:
    server = start("test:endless", "--no-replay").wait_until_ready()
    wire = fc.connect(server.address)
    outcomes: list[BaseException | None] = [None, None]

    def run(index: int) -> None:
        try:
            endless.run(backend=wire)
        except ProgramError as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: server.engine.cpu_percent(0.05) > 20, START_S)
    engine = server.engine
    engine.kill()
    for thread in threads:
        thread.join(PROMISE_S)
    for outcome in outcomes:
        assert isinstance(outcome, ProgramError)
        assert isinstance(outcome.cause, EngineLost)
        assert "killed by SIGKILL" in str(outcome.cause)
        assert outcome.cause.retryable
    assert server.process.wait(PROMISE_S) == 1
    _, printed = server.process.communicate()
    assert printed == (
        "furcate: error: the engine process has ended: killed by SIGKILL; "
        "start `furcate serve` again\n"
    )
    assert server.files == []
    with pytest.raises(ProgramError) as later:
        endless.run(backend=wire)
    assert isinstance(later.value.cause, EngineLost)
    wire.close()


def test_a_killed_front_takes_the_engine_with_it_and_clients_are_told(start) -> None:
    server = start("test:endless").wait_until_ready()
    engine = server.engine.pid
    wire = fc.connect(server.address)
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            endless.run(backend=wire)
        except ProgramError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: server.engine.cpu_percent(0.05) > 20, START_S)
    server.process.kill()
    thread.join(PROMISE_S)
    assert isinstance(outcome[0], ProgramError)
    assert isinstance(outcome[0].cause, EngineLost)
    until(lambda: not is_alive(engine))
    wire.close()
    server.process.communicate()
    # What the dead server left behind is in nobody's way.
    successor = start("test:context").wait_until_ready()
    assert successor.stop() == 0
    assert successor.files == []


def test_a_killed_client_frees_its_pages_within_two_seconds(start, tmp_path: Path) -> None:
    # Room for 512 tokens: a program that wants 450 leaves none for another.
    server = start("test:endless", "--kv-bytes", "8KiB").wait_until_ready()
    code = (
        "import sys, furcate as fc\n"
        "@fc.function\n"
        "def endless(s):\n"
        "    s += 'x' * 50\n"
        "    s += fc.gen('text', max_tokens=400, ignore_eos=True)\n"
        "print('running', flush=True)\n"
        "with fc.connect(sys.argv[1]) as wire:\n"
        "    while True:\n"
        "        endless.run(backend=wire)\n"
    )
    victim = subprocess.Popen(
        [sys.executable, "-c", code, server.address],
        stdout=subprocess.PIPE,
        env=ENVIRON,
    )
    try:
        until(lambda: server.engine.cpu_percent(0.05) > 20, START_S)
        victim.kill()
        until(lambda: server.engine.cpu_percent(0.1) < 5)
        with fc.connect(server.address) as wire:
            state = endless.run(prompt="y" * 50, max_tokens=400, backend=wire, timeout=20)
            assert len(state["text"]) == 400
    finally:
        victim.kill()
        victim.communicate()


@pytest.mark.parametrize("victim", ["engine", "front", "nobody"])
def test_the_process_that_compiles_constraints_never_outlives_the_server(start, victim) -> None:
    server = start("test:context").wait_until_ready()
    with fc.connect(server.address) as wire:
        assert spelled.run(backend=wire)["word"] in ("yes", "no")
    engine = server.engine
    (compiler,) = engine.children()
    if victim == "engine":
        engine.kill()
    elif victim == "front":
        server.process.kill()
    else:
        assert server.stop() == 0
    until(lambda: not is_alive(compiler.pid) and not is_alive(engine.pid))


def test_garbage_from_one_client_harms_no_other(server) -> None:
    context = zmq.Context()
    vandal = context.socket(zmq.DEALER)
    vandal.connect(server.address)
    with fc.connect(server.address) as wire:
        for garbage in (b"", b"\x00", os.urandom(1000), b"\x91" * 200_000):
            vandal.send(garbage)
            chatter.run(topic="bees", backend=wire, seed=7)
    vandal.close(0)
    context.term()
    assert server.process.poll() is None

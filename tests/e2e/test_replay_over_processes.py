"""The engine process is killed again and again while programs run; nobody can tell from them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import furcate as fc
from furcate.errors import CrashSuspect, EngineLost, ProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SERVER = Path(__file__).parent / "killing_server.py"
SOURCES = Path(fc.__file__).parent.parent
ENVIRON = {
    **os.environ,
    "FURCATE_KV_BYTES": "4MiB",
    "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]),
}
AT_ONCE = 4
TURNS = 5
# An engine is ended after so many reports. Between two regexes a program makes 45 of them, so no
# node runs in two ends in a row, not even one whose regex takes its time to be compiled.
EVERY = 280


@fc.function
def explore(s: fc.ProgramState, topic: str) -> None:
    """Forks, choices, constraints, samples, joins."""
    s += f"Let us talk about {topic}. "
    s += fc.gen("opening", max_tokens=8, stop=["q"])
    for turn in range(TURNS):
        views = s.fork(3)
        for view in views:
            view += f" View {turn}: "
            view += fc.gen("text", max_tokens=6)
            view += fc.select("mood", ["good", "bad", "so so"])
        first = views[0]
        first += fc.gen("two", n=2, max_tokens=4)
        views.join()
        s += " In short: " + views[1].ref("text") + " "
        s += fc.gen(f"number{turn}", regex="[0-9]{1,3}")
        s += fc.gen(f"rest{turn}", max_tokens=5, temperature=0.0)


@contextmanager
def serving(
    folder: Path,
    kills: int,
    every: int,
    model: str,
    restarts: int | None = None,
    ends_by_itself: bool = False,
) -> Iterator[tuple[str, list[str]]]:
    """The address, and in the end what the server printed."""
    folder.mkdir(mode=0o700)
    address = f"ipc://{folder}/serve.sock"
    numbers = map(str, (kills, every, kills if restarts is None else restarts))
    command = [sys.executable, str(SERVER), *numbers, address, model]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRON
    )
    printed: list[str] = []
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n", server.communicate()
        yield address, printed
        if not ends_by_itself:
            server.terminate()
        for text in server.communicate(timeout=10):
            printed += text.splitlines()
        assert server.returncode == 0, f"the server ended with {server.returncode}"
    finally:
        server.kill()
        server.communicate()


def run_one(backend: object, index: int) -> list[object]:
    """Everything that a program says, and for each other one what came while it ran."""
    is_streamed = index % 2 == 0
    state = explore.run(topic=f"topic {index}", seed=index, backend=backend, stream=is_streamed)
    came: dict[tuple[object, object, object], str] = {}
    if is_streamed:
        for event in state.events():
            key = (event.branch, event.var, event.sample)
            came[key] = came.get(key, "") + event.delta
    names = ["opening", *(f"{name}{turn}" for turn in range(TURNS) for name in ("number", "rest"))]
    usage = state.usage
    return [state.text(), [state[n] for n in names], came, usage.prompt, usage.completion]


def run_all(backend: object, count: int) -> list[list[object]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda index: run_one(backend, index), range(count)))


def say_the_same(
    tmp_path: Path, model: str, kv_bytes: str, num_programs: int, num_kills: int
) -> Sequence[str]:
    """Undisturbed in this process, and on a server whose engine is killed; what that said last."""
    with fc.Engine(model, kv_bytes=kv_bytes, threads=1) as engine:
        expected = run_all(engine, num_programs)
    with serving(tmp_path / "sockets", num_kills, EVERY, model) as (address, last):
        with fc.connect(address) as wire:
            said = run_all(wire, num_programs)
    assert said == expected
    return last


def test_fifty_programs_say_the_same_while_the_engine_is_killed_twenty_times(tmp_path) -> None:
    last = say_the_same(tmp_path, "test:context", "4MiB", num_programs=50, num_kills=20)
    assert "killed 20" in last


@pytest.mark.exhaustive
@pytest.mark.smollm2
def test_programs_on_smollm2_say_the_same_while_the_engine_is_killed(tmp_path) -> None:
    last = say_the_same(tmp_path, "smollm2", "256MiB", num_programs=8, num_kills=3)
    assert "killed 3" in last


@fc.function
def echo(s: fc.ProgramState, prompt: str) -> None:
    s += prompt
    s += fc.gen("text", max_tokens=40, ignore_eos=True)


def test_only_the_program_that_ends_the_engine_fails(tmp_path) -> None:
    with fc.Engine("test:context", kv_bytes="4MiB", threads=1) as engine:
        expected = [echo.run(prompt=f"p{i}", seed=i, backend=engine)["text"] for i in range(6)]
    with serving(tmp_path / "sockets", 0, 0, "test:fatal", restarts=5) as (address, _):
        with fc.connect(address) as wire, ThreadPoolExecutor(7) as pool:
            runs = [pool.submit(echo.run, prompt=f"p{i}", seed=i, backend=wire) for i in range(6)]
            culprit = pool.submit(echo.run, prompt="fatal", backend=wire)
            assert [run.result()["text"] for run in runs] == expected
            with pytest.raises(ProgramError) as failure:
                culprit.result()
            assert isinstance(failure.value.cause, CrashSuspect)
            assert not failure.value.cause.retryable
            assert "killed by SIGKILL" in str(failure.value.cause)
            assert echo.run(prompt="p0", seed=0, backend=wire)["text"] == expected[0]


def test_the_server_ends_with_an_error_when_too_many_engines_have(tmp_path) -> None:
    folder = tmp_path / "sockets"
    server = serving(folder, 3, EVERY, "test:context", restarts=2, ends_by_itself=True)
    address, last = server.__enter__()
    with fc.connect(address) as wire, pytest.raises(ProgramError) as failure:
        run_all(wire, 20)
    with pytest.raises(AssertionError, match="server ended with 1"):
        server.__exit__(None, None, None)
    assert isinstance(failure.value.cause, EngineLost)
    assert "more than 2 times within 60 s" in str(failure.value.cause)
    assert "killed by SIG" in last[-1]

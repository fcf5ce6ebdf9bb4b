"""Engines in turn: each a process that loads once, works when it is its turn and is halted between.

Only figures from one run are compared, and only as ratios. Knows no engine but by its command.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PEERS", "Contestant", "Failed", "compare", "peer_command", "rates_of_draw"]

DRIVERS = Path(__file__).resolve().parent / "peers"
PEERS = ("transformers", "vllm", "openvino", "llama.cpp")
LAST_WORDS = 400  # characters of what a driver said before it failed

Figures = dict[str, Any]


class Failed(Exception):
    """A driver that ended or did not answer with JSON."""


def peer_command(name: str, folder: Path, work: Path) -> list[str]:
    """How to call the peer's driver with its own environment, whose parts are in `folder`."""
    hf, gguf = str(folder / "hf"), str(folder / "smollm2.gguf")
    server = str(folder / "llamacpp" / "build" / "bin" / "llama-server")
    python, driver, arguments = {
        "transformers": ("convert", "drive_transformers.py", [hf]),
        "vllm": ("vllm", "drive_vllm.py", [hf]),
        "openvino": ("openvino", "drive_openvino.py", [gguf]),
        "llama.cpp": ("convert", "drive_llamacpp.py", [server, gguf]),
    }[name]
    return [str(folder / python / "bin/python"), str(DRIVERS / driver), *arguments, str(work)]


class Contestant:
    """A driver's process, halted except in its turns, with all that it has started."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.peak_rss_mb = 0
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        try:
            self.loaded = self._answer()
            self._halt()
        except BaseException:
            self.close()
            raise

    def turn(self, question: Mapping[str, object]) -> Figures:
        assert self._process.stdin is not None
        os.killpg(self._process.pid, signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            answer = self._answer()
        except BrokenPipeError:
            raise self._failure() from None
        self._halt()
        return answer

    def close(self) -> None:
        """Ends it, and whatever it has started, the hard way where it does not go by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            os.killpg(self._process.pid, signal.SIGCONT)
            self._process.stdin.close()
            self._process.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all gone
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> Figures:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer: Figures = json.loads(line)
        except ValueError:
            raise self._failure() from None
        self.peak_rss_mb = max(self.peak_rss_mb, self._rss_mb())
        return answer

    def _failure(self) -> Failed:
        words = self._log.read_text(errors="replace")[-LAST_WORDS:]
        return Failed(f"{self.name} gave no answer; its last words: {words!r}")

    def _halt(self) -> None:
        os.killpg(self._process.pid, signal.SIGSTOP)

    def _rss_mb(self) -> int:
        """Peaks of its processes in sum; pages that they share count once for each."""
        first = psutil.Process(self._process.pid)
        total = 0
        for process in [first, *first.children(recursive=True)]:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                continue  # it has ended
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1])
        return round(total / 1024)


def rates_of_draw(
    kind: str, draw: Sequence[Mapping[str, Any]], answer: Mapping[str, Any], num_valid: int | None
) -> Figures:
    """What a peer's answer to a turn comes to, in the units of our own figures. `kind` is what
    tokens a second counts, or `programs`."""
    seconds = answer["seconds"]
    if kind == "programs":
        return {
            "programs_per_s": round(len(draw) / seconds, 3),
            "tokens_per_s": round(answer["num_output"] / seconds, 1),
        }
    if kind == "input":
        num_counted = sum(len(request["ids"]) for request in draw)
    else:
        num_counted = sum(map(len, answer["outputs"]))
    figures = {"tokens_per_s": round(num_counted / seconds, 1)}
    if num_valid is not None:
        figures |= {"valid": num_valid, "valid_per_s": round(num_valid / seconds, 2)}
    return figures


@dataclass
class Standing:
    """An engine's draws of one workload, in the order in which they were made."""

    draws: list[Figures] = field(default_factory=list)
    facts: Figures = field(default_factory=dict)  # load time, memory, agreement


def compare(metric: str, ours: Sequence[float], peers: Mapping[str, Standing]) -> Figures:
    """Medians, and ours over the best of the others'."""
    lines = {}
    for name, standing in peers.items():
        values = [draw[metric] for draw in standing.draws]
        rates = {key: [draw[key] for draw in standing.draws] for key in standing.draws[0]}
        lines[name] = {"median": median(values), **rates, **standing.facts}
    figures: Figures = {"metric": metric, "median": median(ours), "peers": lines}
    best = max(lines, key=lambda name: lines[name]["median"], default=None)
    if best is not None:
        figures["best_peer"] = best
        at_best = lines[best]["median"]
        figures["ratio"] = round(median(ours) / at_best, 3) if at_best else None
    return figures

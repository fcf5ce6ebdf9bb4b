"""`make bench`: one line of JSON a workload, several draws each with a cold prefix cache.

    python tests/bench/run.py [--workload NAME]... [--draws 3] [--scale 1.0] [--peers vllm,openvino]

Each workload runs in a process of its own, so that its load time and peak memory are its own. With
peers, engines take turns draw by draw, and who is not in turn is halted. `tokens_per_s` counts
output tokens, for `prefill` and `fewshot` input tokens; figures with a list have one element a
draw. docs/concepts/benchmarks.md says what each figure means.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import typer
from tests.bench.ceilings import Rates, Shape, least_seconds, parse_rates, shape_of
from tests.bench.contest import (
    PEERS,
    Contestant,
    Failed,
    Standing,
    compare,
    peer_command,
    rates_of_draw,
)
from tests.bench.measure import NUM_CHECKED, NUM_FIRST, WORKLOADS, count_valid, lists_of
from tests.bench.scripts import work_file
from tests.bench.tape import Work
from tests.bench.workloads import TokenWorkload

from furcate.runtime import launch
from furcate.runtime.server.text import TEST_PREFIX, fetch_model, load_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.bench.contest import Figures

__all__ = ["Contest", "default_peers", "rates_here"]

BENCH = Path(__file__).resolve().parent
CHECKOUT = BENCH.parent.parent
RATES_S = 300.0


class Contest:
    """A run: our engine, the peers and the reference over the same draws."""

    def __init__(
        self,
        names: Sequence[str],
        model: str,
        draws: int,
        scale: float,
        rates: Callable[[], Rates | None] = lambda: None,
    ) -> None:
        config = launch.configure({"model": model})
        fetch_model(config.model)
        self.model, self.draws, self.scale = model, draws, scale
        self._measure_rates = rates  # again before and after each workload; the best counts
        self.rates: Rates | None = None
        self.names = list(names)
        self.peers: dict[str, Contestant] = {}
        self.reference: Contestant | None = None
        self.failures: dict[str, str] = {}
        self._shape: Shape | None = None
        self._resources = contextlib.ExitStack()
        folder = self._resources.enter_context(tempfile.TemporaryDirectory())
        self.folder = Path(folder)
        self.work_path = self.folder / "work.json"
        self.work = work_file(load_text(config.model).codec, names, draws, scale)
        self.work_path.write_text(json.dumps(self.work))
        self.gguf: Path | None = None
        if not model.startswith(TEST_PREFIX):
            from furcate.runtime.model.catalog import resolve

            self.gguf = resolve(model)
            self._shape = shape_of(self.gguf)

    def add_peer(self, name: str, command: Sequence[str]) -> None:
        """A peer that does not load is told of and left out."""
        try:
            peer = Contestant(name, command, self.folder / f"{name}.log")
        except Failed as failure:
            self._fail(name, failure)
            return
        self.peers[name] = self._resources.enter_context(peer)

    def add_reference(self, python: str) -> None:
        assert self.gguf is not None
        command = [python, str(BENCH / "reference.py"), str(self.gguf), str(self.work_path)]
        log = self.folder / "reference.log"
        self.reference = self._resources.enter_context(Contestant("reference", command, log))
        if not self.reference.loaded["same_tokenizer"]:
            raise Failed("our tokenizer and that of transformers give other ids for some text")

    def close(self) -> None:
        self._resources.close()

    def lines(self) -> Iterator[Figures]:
        for name in self.names:
            self._note_rates()
            command = [sys.executable, str(BENCH / "ours.py"), name, self.model, str(self.scale)]
            with Contestant("furcate", command, self.folder / "furcate.log") as ours:
                yield self._workload(name, ours)

    def _workload(self, name: str, ours: Contestant) -> Figures:
        rows: list[Figures] = []
        standings: dict[str, Standing] = {}
        for draw in range(self.draws):
            turns = [ours, *self.peers.values()]
            for engine in turns if draw % 2 == 0 else reversed(turns):
                if engine is ours:
                    rows.append(ours.turn({"workload": name, "draw": draw}))
                    continue
                figures = self._peer_turn(engine, name, draw)
                if figures is not None:
                    standings.setdefault(engine.name, Standing()).draws.append(figures)
        standings = {
            peer: standing
            for peer, standing in standings.items()
            if len(standing.draws) == self.draws
        }
        agreement = {
            "furcate": self._agreement([c for row in rows[:1] for c in row.get("checked", ())])
        }
        for peer, standing in standings.items():
            checked = [c for draw in standing.draws for c in draw.pop("checked", ())]
            standing.facts = {
                "load_s": self.peers[peer].loaded["load_s"],
                "peak_rss_mb": self.peers[peer].peak_rss_mb,
            }
            agreement[peer] = self._agreement(checked)
        metric = _metric(name)
        line: Figures = {"workload": name, "model": self.model, "scale": self.scale}
        line |= compare(metric, [row[metric] for row in rows], standings)
        self._note_rates()
        line |= self._ceiling(metric, rows, name)
        if self.reference is not None:
            line["agreement"] = {k: share for k, share in agreement.items() if share is not None}
        if self.failures:
            line["failed"] = dict(self.failures)
        line |= lists_of(rows)
        return line | {"load_s": ours.loaded["load_s"], "peak_rss_mb": ours.peak_rss_mb}

    def _note_rates(self) -> None:
        found = self._measure_rates()
        if found is not None:
            self.rates = found if self.rates is None else self.rates.best(found)

    def _peer_turn(self, peer: Contestant, name: str, draw: int) -> Figures | None:
        try:
            answer = peer.turn({"workload": name, "draw": draw})
        except Failed as failure:
            self._fail(peer.name, failure)
            del self.peers[peer.name]
            return None
        if "skipped" in answer:
            return None
        requests = self.work["workloads"][name]["draws"][draw]
        workload = WORKLOADS[name]
        kind = workload.counted if isinstance(workload, TokenWorkload) else "programs"
        schema = requests[0].get("schema")
        num_valid = count_valid(schema, answer["texts"]) if schema else None
        figures = rates_of_draw(kind, requests, answer, num_valid)
        if draw == 0 and kind != "programs" and not schema:
            pairs = zip(requests, answer["outputs"], strict=True)
            checked = [[r["ids"], output[:NUM_FIRST]] for r, output in pairs]
            figures["checked"] = checked[:NUM_CHECKED]
        return figures

    def _fail(self, name: str, failure: Failed) -> None:
        self.failures[name] = str(failure)
        typer.echo(str(failure), err=True)

    def _agreement(self, cases: list[object]) -> float | None:
        if self.reference is None or not cases:
            return None
        share: float | None = self.reference.turn({"cases": cases})["agreement"]
        return share

    def _ceiling(self, metric: str, rows: Sequence[Figures], name: str) -> Figures:
        """In the units of the metric; a median, as the figure that it stands beside."""
        if self.rates is None or self._shape is None:
            return {}
        ceilings = []
        for row in rows:
            least_s = least_seconds(Work(**row["work"]), self._shape, self.rates)
            count = row["tokens_per_s"] * row["seconds"]
            if metric != "tokens_per_s":
                count = len(self.work["workloads"][name]["draws"][0])
            ceilings.append(count / least_s)
        ceiling = median(ceilings)
        reached = median(row[metric] for row in rows)
        return {
            "ceiling": round(ceiling, 2),
            "share_of_ceiling": round(reached / ceiling, 3),
            "rates": {unit: float(f"{rate:.3g}") for unit, rate in asdict(self.rates).items()},
        }


def _metric(name: str) -> str:
    if not isinstance(WORKLOADS[name], TokenWorkload):
        return "programs_per_s"
    return "valid_per_s" if name == "json" else "tokens_per_s"


def rates_here() -> Rates | None:
    """The peaks that `furcate kernels bench` measures now; None where it cannot."""
    command = [sys.executable, "-m", "furcate", "kernels", "bench", "--op", "probe", "--json"]
    paths = {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "src")])}
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=RATES_S,
            env=os.environ | paths,
            check=True,
        )
        return parse_rates(ran.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        typer.echo(f"no ceilings: {error}", err=True)
        return None


def default_peers(choice: str, folder: Path) -> list[str]:
    """`1` means all but llama.cpp, which takes long to build, unless it is there."""
    if choice == "1":
        has_server = (folder / "llamacpp" / "build" / "bin" / "llama-server").exists()
        return [name for name in PEERS if name != "llama.cpp" or has_server]
    names = [name for name in choice.split(",") if name]
    for name in names:
        if name not in PEERS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(PEERS)}")
    return names


def _peers_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "furcate" / "peers"


def main(
    workload: Annotated[list[str] | None, typer.Option(help="One of them; repeatable.")] = None,
    model: Annotated[str, typer.Option(help="As for furcate serve.")] = "smollm2",
    draws: Annotated[int, typer.Option(min=1, help="Draws of each workload.")] = 3,
    scale: Annotated[float, typer.Option(min=0.001, help="Of the number of requests.")] = 1.0,
    peers: Annotated[str, typer.Option(help="1, or some of their names with commas.")] = "",
    peers_folder: Annotated[Path | None, typer.Option(help="Where they are kept.")] = None,
    llamacpp: Annotated[bool, typer.Option(help="With llama.cpp, built if need be.")] = False,
    rates: Annotated[str, typer.Option(help="As q8=1e12,bf16=1e12,bandwidth=4e10.")] = "",
    ceilings: Annotated[bool, typer.Option(help="Measure the machine's rates.")] = True,
    reference: Annotated[bool, typer.Option(help="Compare with transformers in fp32.")] = True,
) -> None:
    """Measures the workloads, all of them unless some are named."""
    names = workload or list(WORKLOADS)
    for name in names:
        if name not in WORKLOADS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(WORKLOADS)}")
    folder = peers_folder or _peers_folder()
    chosen = default_peers(peers, folder)
    if llamacpp and "llama.cpp" not in chosen:
        chosen.append("llama.cpp")
    if chosen:
        if model != "smollm2":
            raise typer.BadParameter("the peers are set up for smollm2 alone")
        subprocess.run([str(BENCH / "peers" / "setup.sh"), str(folder), *chosen], check=True)
    is_real = not model.startswith(TEST_PREFIX)
    given = parse_rates(rates) if rates else None

    def known() -> Rates | None:
        return given if given is not None or not (is_real and ceilings) else rates_here()

    contest = Contest(names, model, draws, scale, known)
    try:
        if is_real and reference:
            python = folder / "convert" / "bin" / "python"  # comes with the peers
            if python.exists():
                contest.add_reference(str(python))
            else:
                typer.echo("no reference: set the peers up with PEERS=1 once", err=True)
        for name in chosen:
            contest.add_peer(name, peer_command(name, folder, contest.work_path))
        for line in contest.lines():
            typer.echo(json.dumps(line))
    except Failed as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(1) from None
    finally:
        contest.close()


if __name__ == "__main__":
    typer.run(main)

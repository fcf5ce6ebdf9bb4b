"""`make bench`: one line of JSON a workload, three draws each with a cold prefix cache.

    python tests/bench/run.py [--workload NAME]... [--model smollm2] [--draws 3] [--scale 1.0]

Each workload runs in a process of its own, so that its load time and peak memory are its own. A
draw's figures are printed only if its first results are the same alone, after it, as they were
inside it. `tokens_per_s` counts output tokens, for `prefill` and `fewshot` input tokens; figures
with a list have one element a draw.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import jsonschema_rs
import typer
from tests.bench.engines import ProgramEngine, TokenEngine, cool
from tests.bench.programs import PROGRAM_WORKLOADS, ProgramWorkload
from tests.bench.workloads import TOKEN_WORKLOADS, TokenRequest, TokenWorkload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.tape import Tape

    from furcate.protocol.message import Usage

__all__ = ["measure"]

WORKLOADS: dict[str, TokenWorkload | ProgramWorkload] = {
    workload.name: workload for workload in (*TOKEN_WORKLOADS, *PROGRAM_WORKLOADS)
}
NUM_CHECKED = 2  # results of a draw that are compared with those of a run alone

Figures = dict[str, Any]


class Mismatch(Exception):
    """A result that is not the same alone: the draw's figures are worth nothing."""


def measure(name: str, model: str, draws: int = 3, scale: float = 1.0) -> Figures:
    """One workload in this process."""
    workload = WORKLOADS[name]
    started_s = time.perf_counter()
    if isinstance(workload, TokenWorkload):
        with TokenEngine(model) as engine:
            load_s = time.perf_counter() - started_s
            rows = [_token_draw(workload, engine, seed, scale) for seed in range(draws)]
    else:
        with ProgramEngine(model) as session:
            load_s = time.perf_counter() - started_s
            rows = [_program_draw(workload, session, seed, scale) for seed in range(draws)]
    figures: Figures = {"workload": name, "model": model, "scale": scale}
    figures["median_tokens_per_s"] = median(row["tokens_per_s"] for row in rows)
    for key in rows[0]:
        figures[key] = [row[key] for row in rows]
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return figures | {"load_s": round(load_s, 2), "peak_rss_mb": round(peak_kib / 1024)}


def _token_draw(workload: TokenWorkload, engine: TokenEngine, seed: int, scale: float) -> Figures:
    requests = workload.requests(engine.codec, seed, scale)
    _check_cold(cool(engine.scheduler).tree_tokens)
    started_s = time.perf_counter()
    outputs = engine.run(requests)
    seconds = time.perf_counter() - started_s
    figures = _figures(engine.tape, seconds)
    num_input = sum(len(request.ids) for request in requests)
    num_counted = sum(map(len, outputs)) if workload.counted == "output" else num_input
    figures["tokens_per_s"] = round(num_counted / seconds, 1)
    if requests[0].schema is not None:
        figures["valid"] = _num_valid(requests, outputs, engine)
        figures["valid_per_s"] = round(figures["valid"] / seconds, 2)
    for request, output in list(zip(requests, outputs, strict=True))[:NUM_CHECKED]:
        _check_same(workload.name, seed, engine.run([request])[0], output)
    return figures


def _program_draw(
    workload: ProgramWorkload, session: ProgramEngine, seed: int, scale: float
) -> Figures:
    items = workload.items(session.codec, seed, scale)
    session.wait_until_idle()
    _check_cold(cool(session.scheduler).tree_tokens)
    session.tape.clear()
    num_messages, num_bytes = session.num_messages, session.num_bytes_sent or 0
    started_s = time.perf_counter()
    states = workload.program.run_batch(items, backend=session, seed=1_000 * seed)
    returned = [state.ret_value for state in states]
    seconds = time.perf_counter() - started_s
    session.wait_until_idle()
    figures = _figures(session.tape, seconds)
    figures["tokens_per_s"] = round(figures["completion"] / seconds, 1)
    figures["programs_per_s"] = round(len(items) / seconds, 3)
    figures["messages"] = session.num_messages - num_messages
    figures["bytes"] = (session.num_bytes_sent or 0) - num_bytes
    for index in range(min(NUM_CHECKED, len(items))):
        alone = workload.program.run(*items[index], backend=session, seed=1_000 * seed + index)
        _check_same(workload.name, seed, alone.ret_value, returned[index])
    return figures


def _figures(tape: Tape, seconds: float) -> Figures:
    usage, num_unique = tape.usage, tape.num_unique
    return {
        "seconds": round(seconds, 3),
        "computed_per_unique": round(usage.computed / num_unique, 4),
        "unique": num_unique,
        **_counts(usage),
    }


def _counts(usage: Usage) -> Figures:
    kinds = ("computed", "reused", "same_step", "forced", "drafted", "decoded", "completion")
    return {kind: getattr(usage, kind) for kind in kinds}


def _num_valid(
    requests: Sequence[TokenRequest], outputs: Sequence[Sequence[int]], engine: TokenEngine
) -> int:
    validator = jsonschema_rs.validator_for(json.loads(requests[0].schema or "{}"))
    valid = 0
    for output in outputs:
        try:
            valid += validator.is_valid(json.loads(engine.codec.decode(output)))
        except ValueError:  # cut off: no JSON at all
            continue
    return valid


def _check_cold(num_cached: int) -> None:
    if num_cached:
        raise Mismatch(f"the prefix cache still holds {num_cached} tokens")


def _check_same(name: str, seed: int, alone: object, inside: object) -> None:
    if alone != inside:
        raise Mismatch(f"{name}, draw {seed}: {inside!r} in the draw is {alone!r} alone")


def main(
    workload: Annotated[list[str] | None, typer.Option(help="One of them; repeatable.")] = None,
    model: Annotated[str, typer.Option(help="As for furcate serve.")] = "smollm2",
    draws: Annotated[int, typer.Option(min=1, help="Draws of each workload.")] = 3,
    scale: Annotated[float, typer.Option(min=0.001, help="Of the number of requests.")] = 1.0,
) -> None:
    """Measures the workloads, all of them unless some are named."""
    names = workload or list(WORKLOADS)
    for name in names:
        if name not in WORKLOADS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(WORKLOADS)}")
    if len(names) == 1:
        typer.echo(json.dumps(measure(names[0], model, draws, scale)))
        return
    options = ["--model", model, "--draws", str(draws), "--scale", str(scale)]
    for name in names:
        command = [sys.executable, __file__, "--workload", name, *options]
        if subprocess.run(command, check=False).returncode != 0:
            raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

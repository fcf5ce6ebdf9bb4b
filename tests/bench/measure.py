"""One workload in this process: draws with a cold prefix cache, their figures, their checks.

A draw's figures count only if its first results are the same alone, after it, as inside it.
"""

from __future__ import annotations

import json
import resource
import time
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

import jsonschema_rs
from tests.bench.engines import ProgramEngine, TokenEngine, cool
from tests.bench.programs import PROGRAM_WORKLOADS, ProgramWorkload
from tests.bench.workloads import TOKEN_WORKLOADS, TokenWorkload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.bench.tape import Tape

    from furcate.protocol.message import Usage

__all__ = ["WORKLOADS", "Figures", "Mismatch", "Ours", "check_same", "count_valid", "lists_of"]

WORKLOADS: dict[str, TokenWorkload | ProgramWorkload] = {
    workload.name: workload for workload in (*TOKEN_WORKLOADS, *PROGRAM_WORKLOADS)
}
NUM_CHECKED = 2  # results of a draw that are compared with those of a run alone
NUM_FIRST = 8  # tokens of each of them that are shown to the reference

Figures = dict[str, Any]


class Mismatch(Exception):
    """A result that is not the same alone: the draw's figures are worth nothing."""


class Ours:
    """An engine loaded for one workload. Of a draw's figures, `work` and `checked` are not for
    printing: what there was to compute, and prompts with the first tokens of their outputs."""

    def __init__(self, name: str, model: str, scale: float = 1.0) -> None:
        started_s = time.perf_counter()
        self.workload = WORKLOADS[name]
        self.scale = scale
        is_tokens = isinstance(self.workload, TokenWorkload)
        self._engine = TokenEngine(model) if is_tokens else ProgramEngine(model)
        self.load_s = round(time.perf_counter() - started_s, 2)

    def draw(self, seed: int) -> Figures:
        if isinstance(self.workload, TokenWorkload):
            assert isinstance(self._engine, TokenEngine)
            return _token_draw(self.workload, self._engine, seed, self.scale)
        assert isinstance(self._engine, ProgramEngine)
        return _program_draw(self.workload, self._engine, seed, self.scale)

    def __enter__(self) -> Ours:
        self._engine.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.__exit__(kind, error, trace)


def peak_rss_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def lists_of(rows: Sequence[Figures]) -> Figures:
    """Each figure with an element a draw, and the median of the rate."""
    figures: Figures = {"median_tokens_per_s": median(row["tokens_per_s"] for row in rows)}
    for key in rows[0]:
        if key not in ("work", "checked"):
            figures[key] = [row[key] for row in rows]
    return figures


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
    figures["checked"] = []
    if requests[0].schema is not None:
        texts = [engine.codec.decode(output) for output in outputs]
        figures["valid"] = count_valid(requests[0].schema, texts)
        figures["valid_per_s"] = round(figures["valid"] / seconds, 2)
    else:
        first = list(zip(requests, outputs, strict=True))[:NUM_CHECKED]
        figures["checked"] = [[list(r.ids), list(output[:NUM_FIRST])] for r, output in first]
    for request, output in list(zip(requests, outputs, strict=True))[:NUM_CHECKED]:
        check_same(workload.name, seed, engine.run([request])[0], output)
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
        check_same(workload.name, seed, alone.ret_value, returned[index])
    return figures


def _figures(tape: Tape, seconds: float) -> Figures:
    usage, work = tape.usage, tape.work()
    return {
        "seconds": round(seconds, 3),
        "computed_per_unique": round(usage.computed / work.tokens, 4),
        "unique": work.tokens,
        **_counts(usage),
        "work": asdict(work),
    }


def _counts(usage: Usage) -> Figures:
    kinds = ("computed", "reused", "same_step", "forced", "drafted", "decoded", "completion")
    return {kind: getattr(usage, kind) for kind in kinds}


def count_valid(schema: str, texts: Sequence[str]) -> int:
    """The texts that are what the schema says, by a validator that no engine uses."""
    validator = jsonschema_rs.validator_for(json.loads(schema))
    valid = 0
    for text in texts:
        try:
            valid += validator.is_valid(json.loads(text))
        except ValueError:  # cut off: no JSON at all
            continue
    return valid


def _check_cold(num_cached: int) -> None:
    if num_cached:
        raise Mismatch(f"the prefix cache still holds {num_cached} tokens")


def check_same(name: str, seed: int, alone: object, inside: object) -> None:
    if alone != inside:
        raise Mismatch(f"{name}, draw {seed}: {inside!r} in the draw is {alone!r} alone")

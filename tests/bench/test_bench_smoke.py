"""The benchmark and the soak run at tiny scale on a model without weights; no figure decides."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.bench import measure, run, soak
from tests.bench.engines import ProgramEngine, TokenEngine
from tests.bench.programs import PROGRAM_WORKLOADS
from tests.bench.workloads import TOKEN_WORKLOADS

from furcate.runtime.tokenize.byte_level import ByteTokenizer

MODEL = "test:context"
TINY = 0.03
OPTIONS = {"kv_bytes": 2**20, "threads": 1}
CODEC = ByteTokenizer()
SHAPES = {
    "single": (1, 128, 128),
    "prefill": (8, 1024, 1),
    "fewshot": (64, 1088, 1),
    "shared": (48, 576, 32),
}


@pytest.mark.slow  # the first to need the corpus
@pytest.mark.parametrize("name", SHAPES)
def test_a_token_workload_has_the_shape_that_it_is_compared_by(name: str) -> None:
    (workload,) = (workload for workload in TOKEN_WORKLOADS if workload.name == name)
    requests = workload.requests(CODEC, seed=0)
    number, length, max_tokens = SHAPES[name]
    assert len(requests) == number
    assert {len(request.ids) for request in requests} == {length}
    assert {request.max_tokens for request in requests} == {max_tokens}


@pytest.mark.slow
@pytest.mark.parametrize("workload", TOKEN_WORKLOADS, ids=lambda workload: workload.name)
def test_a_seed_draws_the_same_and_another_seed_something_else(workload) -> None:
    first = workload.requests(CODEC, 1, TINY)
    assert workload.requests(CODEC, 1, TINY) == first
    assert workload.requests(CODEC, 2, TINY) != first


@pytest.mark.slow
@pytest.mark.parametrize("workload", TOKEN_WORKLOADS, ids=lambda workload: workload.name)
def test_a_token_workload_computes_no_token_twice(workload) -> None:
    requests = workload.requests(CODEC, 0, 0.1)
    with TokenEngine(MODEL, **OPTIONS) as engine:
        outputs = engine.run(requests)
        assert len(outputs) == len(requests)
        assert all(outputs)
        assert engine.tape.usage.computed <= 1.02 * engine.tape.num_unique


@pytest.mark.slow
@pytest.mark.parametrize("workload", PROGRAM_WORKLOADS, ids=lambda workload: workload.name)
def test_a_program_workload_computes_hardly_a_token_twice(workload) -> None:
    items = workload.items(CODEC, 0, 0.1)
    with ProgramEngine(MODEL, **OPTIONS) as session:
        states = workload.program.run_batch(items, backend=session, seed=0)
        assert all(state.ret_value for state in states)
        session.wait_until_idle()
        assert session.tape.usage == sum((s.usage for s in states[1:]), states[0].usage)
        assert session.tape.usage.computed <= 1.02 * session.tape.num_unique


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fewshot", "judge"])
def test_measuring_fills_every_figure_of_a_line(name: str) -> None:
    with measure.Ours(name, MODEL, TINY) as ours:
        figures = measure.lists_of([ours.draw(seed) for seed in range(2)])
    assert json.loads(json.dumps(figures)) == figures
    assert "work" not in figures
    lists = {key: value for key, value in figures.items() if isinstance(value, list)}
    assert {"computed_per_unique", "reused", "same_step", "forced", "drafted"} <= set(lists)
    assert {"decoded", "seconds", "tokens_per_s"} <= set(lists)
    assert {len(value) for value in lists.values()} == {2}
    assert "median_tokens_per_s" in figures
    assert ("messages" in figures) == ("bytes" in figures) == (name == "judge")


def test_a_result_that_differs_alone_spoils_the_draw() -> None:
    with pytest.raises(measure.Mismatch, match=r"plain, draw 2: \[1\] in the draw is \[2\] alone"):
        measure.check_same("plain", 2, [2], [1])


@pytest.mark.slow
def test_the_command_prints_a_line_of_json_and_names_unknown_workloads() -> None:
    script = [sys.executable, run.__file__, "--model", MODEL, "--draws", "1"]
    options = ["--scale", str(TINY), "--workload"]
    ran = subprocess.run([*script, *options, "single"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    (line,) = map(json.loads, ran.stdout.splitlines())
    assert line["workload"] == "single"
    assert {"load_s", "peak_rss_mb", "median"} <= set(line)
    assert "ratio" not in line
    ran = subprocess.run([*script, *options, "dobule"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "single" in ran.stderr


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_short_soak_leaves_nothing_behind() -> None:
    with ProgramEngine(MODEL, kv_bytes=soak.KV_BYTES) as session:
        rounds = soak.run_rounds(600, 60.0, session)
    assert [r.num_programs for r in rounds] == [500, 600]
    assert rounds[0].num_threads == rounds[1].num_threads
    assert rounds[0].num_files == rounds[1].num_files


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_twenty_thousand_programs_leave_nothing_behind_and_memory_flat() -> None:
    with ProgramEngine(MODEL, kv_bytes=soak.KV_BYTES) as session:
        rounds = soak.run_rounds(20_000, 800.0, session)
    assert rounds[-1].num_programs == 20_000
    assert soak.slope(rounds) <= soak.MAX_SLOPE


def test_the_slope_of_memory_is_what_a_thousand_programs_add() -> None:
    rounds = [soak.Round(n, 7_000 + 3 * n, 1, 1) for n in range(500, 5_001, 500)]
    assert soak.slope(rounds) == pytest.approx(3_000)
    assert soak.slope(rounds[:1]) == 0.0

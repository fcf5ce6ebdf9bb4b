"""Ratios, ceilings and turns, with drivers that are no engines; and that a peer's client asks for
what our programs ask for."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from tests.bench import ceilings, contest, exposed, host_time, plot, run
from tests.bench.ceilings import Rates, Shape
from tests.bench.contest import Contestant, Failed, Standing
from tests.bench.engines import ProgramEngine, TokenEngine
from tests.bench.peers.calls import CLIENTS, Call, Reply
from tests.bench.programs import PROGRAM_WORKLOADS
from tests.bench.scripts import script
from tests.bench.tape import Work
from tests.bench.unique import count_contexts, count_unique
from tests.bench.workloads import TokenRequest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.programs import ProgramWorkload

MODEL = "test:context"
FAKE = """
import sys, time
sys.path.insert(0, {drivers!r})
from calls import Reply
from turns import SteppedEngine, serve

class Fake(SteppedEngine):
    def __init__(self):
        super().__init__()
        self.open = []

    def submit(self, key, call):
        self.open.append((key, call))

    def step(self):
        print("engines print all sorts of things")
        time.sleep(0.001)
        replies = [
            (key, Reply(call.ids[-1:] * call.max_tokens, "{{}}")) for key, call in self.open
        ]
        self.open.clear()
        return replies

serve(Fake)
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    path = tmp_path / "fake.py"
    path.write_text(FAKE.format(drivers=str(contest.DRIVERS)))
    return path


@pytest.mark.slow
def test_a_peer_takes_its_turns_and_is_compared_with_by_medians(fake: Path) -> None:
    names = ["single", "json", "tree", "judge", "react", "chat"]
    held = run.Contest(names, MODEL, draws=2, scale=0.01)
    try:
        held.add_peer("fake", [sys.executable, str(fake), str(held.work_path)])
        lines = {line["workload"]: line for line in held.lines()}
    finally:
        held.close()
    assert list(lines) == names
    for line in lines.values():
        peer = line["peers"]["fake"]
        assert len(peer[line["metric"]]) == 2
        assert peer["peak_rss_mb"] > 0
        assert "load_s" in peer
        assert line["best_peer"] == "fake"
    assert lines["single"]["ratio"] == pytest.approx(
        lines["single"]["median"] / lines["single"]["peers"]["fake"]["median"], abs=1e-3
    )
    assert lines["json"]["peers"]["fake"]["valid"] == [0, 0]
    assert lines["json"]["ratio"] is None, "nothing is a multiple of none"


@pytest.mark.slow
def test_a_driver_that_fails_is_left_out_with_its_last_words(tmp_path: Path) -> None:
    held = run.Contest(["single"], MODEL, draws=1, scale=0.01)
    try:
        held.add_peer("gone", [sys.executable, "-c", "raise SystemExit('no such model')"])
        (line,) = held.lines()
    finally:
        held.close()
    assert line["peers"] == {}
    assert "no such model" in line["failed"]["gone"]
    with pytest.raises(Failed, match="silent gave no answer"):
        Contestant("silent", [sys.executable, "-c", ""], tmp_path / "log")


def test_a_ratio_is_that_of_the_medians_to_the_best_peer() -> None:
    slow = Standing([{"tokens_per_s": value} for value in (10.0, 1_000.0, 20.0)])
    fast = Standing([{"tokens_per_s": value} for value in (50.0, 40.0, 60.0)], {"load_s": 3.0})
    line = contest.compare("tokens_per_s", [100.0, 110.0, 1.0], {"slow": slow, "fast": fast})
    assert (line["best_peer"], line["ratio"], line["median"]) == ("fast", 2.0, 100.0)
    assert line["peers"]["slow"]["median"] == 20.0
    assert line["peers"]["fast"] == {"median": 50.0, "tokens_per_s": [50.0, 40.0, 60.0]} | {
        "load_s": 3.0
    }
    assert "ratio" not in contest.compare("tokens_per_s", [1.0], {})


def test_a_peers_rates_count_what_ours_count() -> None:
    draw = [{"ids": [1] * 30}, {"ids": [1] * 10}]
    answer = {"seconds": 2.0, "outputs": [[5, 6], [7]], "num_output": 9}
    assert contest.rates_of_draw("input", draw, answer, None) == {"tokens_per_s": 20.0}
    assert contest.rates_of_draw("output", draw, answer, 1) == {
        "tokens_per_s": 1.5,
        "valid": 1,
        "valid_per_s": 0.5,
    }
    assert contest.rates_of_draw("programs", draw, answer, None) == {
        "tokens_per_s": 4.5,
        "programs_per_s": 1.0,
    }


def test_the_ceiling_is_the_operations_or_the_longest_chain() -> None:
    shape = Shape(2, 4, 8, layer_weights=1_000, head_weights=500, num_bytes=3_000)
    rates = Rates(products=1e6, attention=1e5, bandwidth=1e6)
    wide = Work(tokens=100, contexts=50, logits=10, chain_steps=1, chain_prompt=10)
    products_s = 2 * (100 * 1_000 + 10 * 500) / 1e6
    assert ceilings.least_seconds(wide, shape, rates) == pytest.approx(
        products_s + 4 * 2 * 4 * 8 * 50 / 1e5
    )
    long = Work(tokens=100, contexts=0, logits=0, chain_steps=99, chain_prompt=10)
    assert ceilings.least_seconds(long, shape, rates) == pytest.approx(0.02 + 99 * 0.003)


def test_rates_are_read_from_pairs_and_from_the_kernels_bench() -> None:
    assert ceilings.parse_rates("q8=3e12,bf16=2e12,bandwidth=4e10") == Rates(3e12, 2e12, 4e10)
    peaks = {"flops": {"bf16": 2e12, "fp32": 1e12}, "bandwidth": 4e10}
    text = json.dumps({"tier": "x", "peaks": peaks, "cases": []}, indent=2)
    assert ceilings.parse_rates(text) == Rates(2e12, 2e12, 4e10)
    assert Rates(1.0, 5.0, 2.0).best(Rates(3.0, 4.0, 2.0)) == Rates(3.0, 5.0, 2.0)
    with pytest.raises(ValueError, match="no object"):
        ceilings.parse_rates("{}")


def test_contexts_are_counted_over_the_nodes_of_the_trie() -> None:
    sequences = [[1, 2, 3], [1, 2, 4, 5], [1, 2]]
    assert count_unique(sequences) == 5
    assert count_contexts(sequences) == 1 + 2 + 3 + 3 + 4
    assert count_contexts([]) == count_unique([]) == 0


@pytest.mark.slow
def test_a_tape_tells_the_longest_chain_of_forwards() -> None:
    workload = next(each for each in run.WORKLOADS.values() if each.name == "single")
    with TokenEngine(MODEL, kv_bytes=2**20, threads=1) as engine:
        engine.run(workload.requests(engine.codec, 0))
        assert engine.tape.work() == Work(
            tokens=255, contexts=255 * 128, logits=128, chain_steps=127, chain_prompt=128
        )


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.parametrize("workload", PROGRAM_WORKLOADS, ids=lambda workload: workload.name)
def test_a_client_with_our_outputs_asks_for_our_sequences(workload: ProgramWorkload) -> None:
    with ProgramEngine("smollm2") as session:
        args = workload.items(session.codec, 0, 0.01)[0]
        if workload.name == "react":
            args = (args[0][:400], args[1][:2])
        assert workload.program.run(*args, backend=session, seed=0).ret_value
        session.wait_until_idle()
        codec, calls = session.codec, session.tape.calls()
    unasked = [(list(before), list(done.ids)) for before, done in calls]

    async def ask(call: Call) -> Reply:
        same = [each for each in unasked if each[0] == call.ids]
        if not same and workload.name == "judge":  # texts that are joined are tokenized anew
            text = codec.decode(call.ids)
            same = [each for each in unasked if codec.decode(each[0]) == text]
        assert same, codec.decode(call.ids)
        found = same[0]
        unasked.remove(found)
        assert call.is_constrained or len(found[1]) == call.max_tokens
        return Reply(found[1], codec.decode(found[1]))

    asyncio.run(CLIENTS[workload.name](script(workload.name, args, codec), ask, 0))
    assert not unasked


@pytest.mark.slow
def test_host_time_is_told_by_stage() -> None:
    with TokenEngine(MODEL, kv_bytes=2**20, threads=1) as engine:
        figures = host_time.profile(engine, 2)
    stages = figures["stages"]
    assert isinstance(stages, dict)
    assert {"plan", "commit", "executor.submit", "other"} <= set(stages)
    assert 0 < float(str(figures["host"])) < float(str(figures["step"]))


@pytest.mark.slow
def test_exposed_host_time_is_told_with_overlap_and_without() -> None:
    with TokenEngine(MODEL, kv_bytes=2**20, threads=1) as engine:
        figures = exposed.measure(engine, 2, rounds=1)
        outputs = engine.run([TokenRequest((65, 66), 3)])
    for name in ("no overlap", "overlap"):
        found = figures[name]
        assert isinstance(found, dict)
        assert float(found["exposed"]) < 1
        assert float(found["tokens_per_s"]) > 0
    assert len(outputs[0]) == 3  # the engine is as it was


def test_a_plot_has_a_bar_for_each_engine_and_workload(tmp_path: Path) -> None:
    peers = {"vllm": {"median": 50.0}, "openvino": {"median": 25.0}}
    line = {"workload": "plain", "metric": "tokens_per_s", "median": 100.0, "peers": peers}
    lines = [line | {"best_peer": "vllm", "ceiling": 120.0}, line | {"workload": "json"}]
    source, target = tmp_path / "results.jsonl", tmp_path / "bench.svg"
    source.write_text("".join(json.dumps(each) + "\n" for each in lines))
    subprocess.run([sys.executable, plot.__file__, str(source), str(target)], check=True)
    drawing = ElementTree.parse(target)
    bars = [e for e in drawing.iter() if e.get("class") in {"furcate", "vllm", "openvino"}]
    assert len([e for e in bars if e.tag.endswith("rect")]) == 2 * 3 + 3  # with the legend

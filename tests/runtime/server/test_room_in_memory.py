"""Models that do not fit are refused before they are loaded, with the number that would work."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from furcate.errors import CapacityError
from furcate.runtime.config import resolve
from furcate.runtime.memory import available_bytes
from furcate.runtime.server.room import GIB, MIB, Room, check_room, room_for

if TYPE_CHECKING:
    from pathlib import Path

transformers = pytest.importorskip("transformers")
ROOM = Room(3 * GIB, GIB // 2, {"bf16": 1024}, "fp32")


def test_weights_and_pages_that_fit_are_let_through() -> None:
    check_room(ROOM, GIB, 4 * GIB, "m")
    check_room(ROOM, 1 << 50, None, "m")


def test_pages_that_do_not_fit_are_told_with_how_many_would() -> None:
    message = r"--kv-bytes 2048MiB: of 4\.0 GiB .* 'm' take 3\.0 GiB; --kv-bytes 1024MiB would fit"
    with pytest.raises(CapacityError, match=message):
        check_room(ROOM, 2 * GIB, 4 * GIB, "m")


def test_weights_that_do_not_fit_are_told_with_what_they_need() -> None:
    message = r"'m' needs 3\.5 GiB .*, and 3\.0 GiB are available; --matmul bf16 takes half of it"
    with pytest.raises(CapacityError, match=message):
        check_room(ROOM, MIB, 3 * GIB, "m")


# What is available -------------------------------------------------------------------------------


def _group(folder: Path, limit: str, used: int, files: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {files}\n")
    return folder


def test_the_tighter_of_machine_and_group_counts(tmp_path: Path) -> None:
    machine = tmp_path / "meminfo"
    machine.write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    assert available_bytes(machine, tmp_path) == 50 * 1024
    group = _group(tmp_path, "40000", 30_000, 10_000)
    assert available_bytes(machine, group) == 20_000
    assert available_bytes(machine, _group(tmp_path, "max", 30_000, 0)) == 50 * 1024
    assert available_bytes(tmp_path / "none", _group(tmp_path, "10", 30, 5)) == 0
    assert available_bytes(tmp_path / "none", tmp_path / "none") is None


# What loading takes ------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from furcate.kernels.library import Pool, load
from furcate.runtime.model.catalog import cache_home
from furcate.runtime.model.load import load_model, load_native_model

def status():
    lines = [line.split() for line in open("/proc/self/status") if line.endswith(" kB\\n")]
    return {words[0]: int(words[1]) * 1024 for words in lines}

path, kernels = Path(sys.argv[1]), sys.argv[2]
pool = Pool(load("auto", cache_home() / "kernels"), 1)
open("/proc/self/clear_refs", "w").write("5")  # the peak begins here
before = status()["VmRSS:"]
native = kernels == "native"
model = load_native_model(path, pool, "fp32") if native else load_model(path, "float32")
print(status()["VmHWM:"] - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 MB of weights in float32, in shards."""
    folder = tmp_path_factory.mktemp("large")
    config = transformers.LlamaConfig(
        vocab_size=8_000,
        hidden_size=768,
        intermediate_size=2_048,
        num_hidden_layers=10,
        num_attention_heads=12,
        num_key_value_heads=4,
    )
    transformers.LlamaForCausalLM(config).float().save_pretrained(folder, max_shard_size="60MB")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["reference", "native"])
def test_loading_takes_the_weights_and_one_matrix_at_the_most(large: Path, kernels: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(large), kernels]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    config = resolve({"matmul": "fp32"}, {})
    room = room_for(large, config, "avx512" if kernels == "native" else None)
    assert room.weights > 290 * 10**6
    shard = max(file.stat().st_size for file in large.glob("*.safetensors"))
    assert int(out) <= room.weights + max(shard, room.passing) + 24 * MIB  # allocators, threads
    assert int(out) >= room.weights * 0.9

"""Models of the hub: what is fetched, what is used without a network, and why something is not."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.fakes.hub_server import HubServer, Refusal, served_hub

from furcate.errors import ModelError
from furcate.runtime.model import hub as hub_module
from furcate.runtime.model.catalog import Catalog, can_be_pulled
from furcate.runtime.model.hub import Hub, HubName, hub_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from furcate.runtime.progress import Advance

REPO = "org/tiny"
NAME = HubName(REPO, None, None)
WEIGHTS = bytes(range(256)) * 64
FILES = {
    "README.md": b"no part of a model",
    "config.json": b"{}",
    "tokenizer.json": b"{ }",
    "generation_config.json": b"{  }",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickled",
    "onnx/model.onnx": b"another format",
}
SHARDS = {"model-1.safetensors": b"one" * 100, "model-2.safetensors": b"two" * 100}
INDEX = json.dumps({"weight_map": dict(zip("abc", [*SHARDS, *SHARDS], strict=False))}).encode()


@pytest.fixture(scope="module")
def _server() -> Iterator[HubServer]:
    with served_hub() as server:
        yield server


@pytest.fixture
def server(_server: HubServer) -> HubServer:
    for table in (_server.refusals, _server.breaks_after, _server.claimed_sizes):
        table.clear()
    _server.sent.clear()
    _server.repositories = {REPO: dict(FILES)}
    return _server


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return Hub(server.endpoint, tmp_path / "cache")


def pull(hub: Hub, name: HubName = NAME) -> Path:
    return hub.pull(name, lambda message: None)


# Names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Qwen/Qwen3-0.6B", HubName("Qwen/Qwen3-0.6B", None, None)),
        ("org/name@v1.2", HubName("org/name", "v1.2", None)),
        ("org/name:Q4_K_M", HubName("org/name", None, "Q4_K_M")),
        ("org/name@refs/pr/1:Q8_0", HubName("org/name", "refs/pr/1", "Q8_0")),
    ],
)
def test_a_name_has_a_repository_a_revision_and_a_quantization(text: str, name: HubName) -> None:
    assert hub_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text", ["smollm2", "./org/name", "/org/name", "../name", "a/b/c", "a/b.gguf", "~/name", ""]
)
def test_a_path_or_an_alias_is_no_name_of_the_hub(text: str) -> None:
    assert hub_name(text) is None


def test_a_folder_that_is_there_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert can_be_pulled("org/tiny")
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    assert not can_be_pulled("org/tiny")
    (tmp_path / "org" / "tiny" / "config.json").write_text("{}")
    assert str(Catalog(folder=tmp_path).resolve("org/tiny")) == "org/tiny"


# Fetching ----------------------------------------------------------------------------------------


def test_only_what_a_model_is_read_from_is_fetched(hub: Hub) -> None:
    folder = pull(hub)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_model_that_is_here_is_used_without_the_hub(hub: Hub, server: HubServer) -> None:
    models = Catalog({}, hub=hub)
    assert hub.cached(NAME) is None
    with pytest.raises(ModelError, match=r"'org/tiny' is not here.*furcate models pull org/tiny"):
        models.resolve(REPO)
    folder = models.ensure(REPO)
    server.repositories.clear()
    assert models.ensure(REPO) == models.resolve(REPO) == folder


def test_shards_are_fetched_by_their_index(hub: Hub, server: HubServer) -> None:
    rest = {"config.json": b"{}", "model.safetensors.index.json": INDEX}
    server.repositories[REPO] = {**SHARDS, **rest, "other.safetensors": b"x"}
    folder = pull(hub)
    assert {path.name for path in folder.iterdir()} == {*SHARDS, *rest}
    (folder / "model-2.safetensors").unlink()
    assert hub.cached(NAME) is None
    assert pull(hub) == hub.cached(NAME) == folder


def test_a_shard_that_the_repository_has_not_is_named(hub: Hub, server: HubServer) -> None:
    rest = {"config.json": b"{}", "model.safetensors.index.json": INDEX}
    server.repositories[REPO] = {**SHARDS, **rest}
    del server.repositories[REPO]["model-2.safetensors"]
    with pytest.raises(
        ModelError, match=r"index names 'model-2.safetensors', and there is no such"
    ):
        pull(hub)


def test_a_revision_is_a_model_of_its_own(hub: Hub, server: HubServer) -> None:
    commit = server.commit(REPO)
    at_commit = NAME._replace(revision=commit)
    assert pull(hub, at_commit).name == commit
    assert hub.cached(at_commit) is not None
    assert hub.cached(NAME._replace(revision="other")) is None
    with pytest.raises(ModelError, match="'org/tiny' has no revision 'other'"):
        pull(hub, NAME._replace(revision="other"))


def test_pulling_again_fetches_the_newest(hub: Hub, server: HubServer) -> None:
    first = pull(hub)
    server.repositories[REPO]["model.safetensors"] = b"better"
    second = pull(hub)
    assert second != first
    assert hub.cached(NAME) == second
    assert (second / "model.safetensors").read_bytes() == b"better"


def test_a_download_that_broke_off_goes_on_where_it_stopped(
    hub: Hub, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1_000)
    server.breaks_after["model.safetensors"] = 5_000
    folder = pull(hub)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [begin for name, begin in server.sent if name == "model.safetensors"] == [0, 5_000]


def test_bars_fill_by_what_is_missing(hub: Hub, server: HubServer) -> None:
    bars: list[tuple[str, int, list[int]]] = []

    @contextmanager
    def bar(label: str, total: int) -> Iterator[Advance]:
        bars.append((label, total, []))
        yield bars[-1][2].append

    hub.pull(NAME, lambda message: None, bar)
    assert [(label, total) for label, total, _ in bars] == [(REPO, 9), (REPO, len(WEIGHTS))]
    assert [sum(amounts) for _, _, amounts in bars] == [9, len(WEIGHTS)]
    bars.clear()
    hub.pull(NAME, lambda message: None, bar)
    assert [(total, sum(amounts)) for _, total, amounts in bars] == [(0, 0), (0, 0)]


# GGUF --------------------------------------------------------------------------------------------

QUANTIZED = {"Tiny.Q4_K_M.gguf": b"four", "Tiny-Q8_0.gguf": b"eight", "Tiny-IQ8_0.gguf": b"other"}


def test_one_gguf_file_is_chosen_by_its_quantization(hub: Hub, server: HubServer) -> None:
    server.repositories[REPO] = dict(QUANTIZED)
    name = NAME._replace(quantization="q8_0")
    assert hub.cached(name) is None
    path = pull(hub, name)
    assert path.read_bytes() == b"eight"
    assert hub.cached(name) == path
    assert hub.cached(NAME._replace(quantization="Q4_K_M")) is None


@pytest.mark.parametrize(
    ("files", "quantization", "message"),
    [
        (QUANTIZED, None, r"name one of them .* org/tiny:IQ8_0; there are IQ8_0, Q8_0, Q4_K_M"),
        (QUANTIZED, "Q2_K", "org/tiny:Q2_K is no file there; there are IQ8_0, Q8_0, Q4_K_M"),
        (FILES, "Q2_K", "is no file there; there are no GGUF files"),
        ({"a-Q8_0.gguf": b"", "b-Q8_0.gguf": b""}, "Q8_0", "is one of 'a-Q8_0.gguf', 'b-Q8_0"),
        ({"a-Q8_0-00001-of-00002.gguf": b""}, "Q8_0", "is split over 1 files, .*--merge"),
    ],
)
def test_a_gguf_file_that_cannot_be_chosen_is_told_with_what_there_is(
    hub: Hub, server: HubServer, files: dict[str, bytes], quantization: str | None, message: str
) -> None:
    server.repositories[REPO] = dict(files)
    with pytest.raises(ModelError, match=message):
        pull(hub, NAME._replace(quantization=quantization))


# What goes wrong ---------------------------------------------------------------------------------


def test_pickled_weights_are_refused_before_anything_is_fetched(
    hub: Hub, server: HubServer
) -> None:
    del server.repositories[REPO]["model.safetensors"]
    with pytest.raises(ModelError, match=r"pickled weights \('pytorch_model.bin'\), which are nev"):
        pull(hub)
    assert server.sent == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": b""}, "has neither 'model.safetensors' nor 'model.safetensors.index.json'"),
        ({"model.safetensors": b""}, "has weights and no 'config.json'"),
    ],
)
def test_a_repository_without_a_model_is_told(
    hub: Hub, server: HubServer, files: dict[str, bytes], message: str
) -> None:
    server.repositories[REPO] = files
    with pytest.raises(ModelError, match=message):
        pull(hub)


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (Refusal(404, "RepoNotFound"), "there is no model 'org/tiny' on the hub, or it is private"),
        (
            Refusal(403, "GatedRepo"),
            "is gated: accept its terms at https.*org/tiny, then set HF_TO",
        ),
        (Refusal(418, "Teapot"), "the hub did not give 'org/tiny': "),
    ],
)
def test_a_refusal_of_the_hub_says_what_to_do(
    hub: Hub, server: HubServer, refusal: Refusal, message: str
) -> None:
    server.refusals[REPO] = refusal
    with pytest.raises(ModelError, match=message):
        pull(hub)


def test_a_disk_without_room_is_told_before_the_download(
    hub: Hub, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.claimed_sizes["model.safetensors"] = 9_000_000_000
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda path: usage(2, 1, 1_000_000_000))
    with pytest.raises(ModelError, match=r"takes 9\.0 GB, and .*/cache' has room for 1\.0 GB"):
        pull(hub)
    assert "model.safetensors" not in dict(server.sent)


def test_a_hub_that_nobody_answers_for_is_told(tmp_path: Path) -> None:
    nobody = Hub("http://127.0.0.1:1", tmp_path)
    with pytest.raises(ModelError, match=r"fetching 'org/tiny' broke off \(ConnectError"):
        pull(nobody)

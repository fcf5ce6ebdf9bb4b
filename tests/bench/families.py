"""Every model family against transformers, as the table of docs/reference/models.md.

`python tests/bench/families.py` makes a tiny random checkpoint of each, compares logits, greedy
tokens and the bits of chunks, asks what keeps native kernels from it, and writes the table.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.fakes.families import FAMILIES, VOCAB_SIZE
from tests.fakes.native_models import Row, logits_of

from furcate.runtime.model.load import load_model, why_not_native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.families import TinyFamily

    from furcate.runtime.model.base import LanguageModel

__all__ = ["Result", "measure", "table"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "models.md"
MARK = re.compile(r"(<!-- measured: families -->\n).*?(<!-- end of table -->)", re.DOTALL)
PROMPT, NEW_TOKENS, CHUNK = 270, 64, 37


class Result(NamedTuple):
    name: str
    difference: float  # of float32 logits, the largest, relative to the largest logit
    num_equal: int  # greedy tokens before the first other one
    has_same_bits: bool  # in chunks and as a whole
    missing: str | None  # to native kernels


def measure(name: str, family: TinyFamily, folder: Path) -> Result:
    reference = family.model()
    family.save(folder, reference)
    model = load_model(folder, "float32")
    model.allocate(64, 16)
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, PROMPT).astype(np.int32)
    (found,) = logits_of(model, [Row(ids, 0, range(20))])
    with torch.no_grad():
        expected = reference(torch.from_numpy(ids).long()[None]).logits[0].numpy()
    starts = range(0, PROMPT, CHUNK)
    parts = [logits_of(model, [Row(ids[n : n + CHUNK], n, range(20, 40))])[0] for n in starts]
    return Result(
        name=name,
        difference=float(np.abs(found - expected).max() / np.abs(expected).max()),
        num_equal=_num_equal(reference, model, ids[:20]),
        has_same_bits=bool(np.array_equal(np.concatenate(parts), found)),
        missing=why_not_native(folder),
    )


def _num_equal(reference: torch.nn.Module, model: LanguageModel, prompt: np.ndarray) -> int:
    ids = torch.from_numpy(prompt).long()[None]
    expected = reference.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
    )[0, len(prompt) :].tolist()
    for number, (mine, theirs) in enumerate(zip(_greedy(model, prompt), expected, strict=False)):
        if mine != theirs:
            return number
    return len(expected)


def _greedy(model: LanguageModel, prompt: np.ndarray) -> Iterator[int]:
    row = Row(prompt, 0, range(10))
    while True:
        token = int(logits_of(model, [row])[0][-1].argmax())
        yield token
        row = Row(np.array([token], np.int32), row.begin + len(row.ids), range(10))


def table(results: list[Result]) -> str:
    lines = [
        "| Checkpoint | Largest difference of logits | Equal greedy tokens | Chunks | Native |",
        "| --- | --- | --- | --- | --- |",
    ]
    for result in results:
        bits = "same bits" if result.has_same_bits else "other bits"
        native = "yes" if result.missing is None else f"no: {result.missing}"
        lines.append(
            f"| {result.name} | {result.difference:.0e} | {result.num_equal} of {NEW_TOKENS} | "
            f"{bits} | {native} |"
        )
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    results = []
    for name, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(name, family, Path(folder)))
    written = table(results)
    print(written)
    PAGE.write_text(MARK.sub(lambda found: found[1] + written + found[2], PAGE.read_text()))


if __name__ == "__main__":
    main()

"""How near a way of computing a model is to the same weights in float32.

    python tests/bench/accuracy.py [--model smollm2] [--matmul auto] [--kernels auto]
        [--kv-dtype auto] [--threads 1] [--tokens 20000] [--seed 0]

Prints one line of JSON: perplexities of the benchmark's text in windows of 1,024 tokens, the KL
divergence from the float32 distributions, and how often the likeliest token is the same. The exit
status is not 0 where the perplexity is more than MAX_CHANGE from that of float32.

Both models compute the same tokens in step, a chunk of a window at a time: the logits of a whole
text have no room in memory. What is compared is anything with `allocate` and `forward`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import numpy as np
import torch
import typer
from tests.bench.corpus import Corpus

from furcate.errors import UsageError
from furcate.runtime import launch
from furcate.runtime.model.catalog import ensure
from furcate.runtime.model.decoder import DecoderModel, load_decoder
from furcate.runtime.model.gguf import read_header
from furcate.runtime.model.llama import config_from_gguf
from furcate.runtime.model.load import load_model, load_native_model
from furcate.runtime.model.weights import GGUFTensors
from furcate.runtime.scheduler.plan import StepPlan
from furcate.runtime.server.kernels import choose_library, make_pool, reference_dtype
from furcate.runtime.server.text import load_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from furcate.kernels.structures import KVType
    from furcate.runtime.config import Config
    from furcate.runtime.engine.batch import Model

__all__ = ["Accuracy", "Comparison", "compare", "exact_model", "model_of"]

WINDOW = 1024
CHUNK = 256  # tokens of one forward, all with logits
PAGE_SIZE = 16
ROWS_AT_ONCE = 64  # distributions in double precision at a time
MAX_CHANGE = 0.005


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of a model that is tested, against the reference, over `tokens` predicted tokens."""

    tokens: int
    reference_perplexity: float
    perplexity: float
    change: float  # of the perplexity, relative
    change_error: float  # standard error of `change`, of the paired differences
    kl_mean: float  # nats a token, of the reference from the tested
    kl_p99: float
    kl_max: float
    top1: float  # share of tokens for which both have the same likeliest one

    @property
    def is_near(self) -> bool:
        return abs(self.change) <= MAX_CHANGE


class Comparison:
    """Collects pairs of logits; keeps three numbers of each predicted token."""

    def __init__(self) -> None:
        self._reference_nll: list[torch.Tensor] = []
        self._nll: list[torch.Tensor] = []
        self._kl: list[torch.Tensor] = []
        self._num_same = 0

    def add(self, reference: torch.Tensor, tested: torch.Tensor, targets: torch.Tensor) -> None:
        """Logits [L, vocab_size] of both, and the token that follows in the text. [L]"""
        self._num_same += int((reference.argmax(-1) == tested.argmax(-1)).sum())
        for start in range(0, len(targets), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            log_p = torch.log_softmax(reference[rows].double(), -1)
            log_q = torch.log_softmax(tested[rows].double(), -1)
            at = targets[rows, None]
            self._reference_nll.append(-log_p.gather(1, at)[:, 0])
            self._nll.append(-log_q.gather(1, at)[:, 0])
            self._kl.append((log_p.exp() * (log_p - log_q)).sum(-1))

    def result(self) -> Accuracy:
        reference, nll, kl = map(torch.cat, (self._reference_nll, self._nll, self._kl))
        difference = nll - reference
        ratio = math.exp(difference.mean().item())
        return Accuracy(
            tokens=len(nll),
            reference_perplexity=math.exp(reference.mean().item()),
            perplexity=math.exp(nll.mean().item()),
            change=ratio - 1,
            change_error=ratio * difference.std(correction=0).item() / math.sqrt(len(nll)),
            kl_mean=kl.mean().item(),
            kl_p99=kl.quantile(0.99).item(),
            kl_max=kl.max().item(),
            top1=self._num_same / len(nll),
        )


def compare(
    reference: Model, tested: Model, ids: Sequence[int], window: int = WINDOW, chunk: int = CHUNK
) -> Accuracy:
    """Both on the same text, cut into windows that know nothing of one another. `allocate` is
    called here."""
    num_pages = -(-window // PAGE_SIZE)
    for model in (reference, tested):
        model.allocate(num_pages, PAGE_SIZE)
    comparison = Comparison()
    for start in range(0, len(ids) - 1, window):
        text = ids[start : start + window]
        for begin in range(0, len(text) - 1, chunk):
            # The last token of a window predicts nothing that is in it.
            part = text[begin : min(begin + chunk, len(text) - 1)]
            targets = torch.tensor(text[begin + 1 : begin + 1 + len(part)])
            plan = StepPlan(step=1, budget_tokens=len(part))
            plan.add_row(part, begin, np.arange(num_pages, dtype=np.int32), len(part))
            batch = plan.batch()
            comparison.add(reference.forward(batch), tested.forward(batch), targets)
    return comparison.result()


def exact_model(path: Path) -> DecoderModel:
    """What the others are compared with: dequantised weights, torch, float32 throughout."""
    file = read_header(path)
    config = config_from_gguf(file)
    return load_decoder(config, GGUFTensors(file), torch.float32)


def model_of(config: Config) -> Model:
    """The model on the kernels and numbers that an engine of that configuration would use."""
    path = ensure(config.model.name)
    library = choose_library(config.engine)
    if library is None:
        return load_model(path, reference_dtype(config))
    if config.cache.kv_dtype == "fp32":
        raise UsageError("--kv-dtype fp32 needs --kernels reference")
    kv_type: KVType = "int8" if config.cache.kv_dtype == "int8" else "bf16"
    pool = make_pool(config.engine, library)
    return load_native_model(path, pool, config.model.matmul, kv_type)


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")


def main(
    model: Annotated[str, typer.Option(help="Name or path of a model.")] = "smollm2",
    matmul: Annotated[str, typer.Option(help="As of the server, of what is tested.")] = "auto",
    kernels: Annotated[str, typer.Option(help="As of the server.")] = "auto",
    kv_dtype: Annotated[str, typer.Option(help="As of the server.")] = "auto",
    threads: Annotated[int, typer.Option(help="Of torch and of the native kernels.", min=1)] = 1,
    tokens: Annotated[int, typer.Option(help="Length of the text.", min=2)] = 20_000,
    seed: Annotated[int, typer.Option(help="Draws another piece of the text.")] = 0,
) -> None:
    torch.set_num_threads(threads)
    options = {"model": model, "matmul": matmul, "kernels": kernels}
    config = launch.configure({**options, "kv_dtype": kv_dtype, "threads": threads})
    ids = Corpus(load_text(config.model).codec, seed).ids(tokens)
    started_s = time.perf_counter()
    accuracy = compare(exact_model(ensure(model)), model_of(config), ids)
    figures = {name: _rounded(value) for name, value in asdict(accuracy).items()}
    figures["seconds"] = round(time.perf_counter() - started_s, 1)
    print(json.dumps({**options, "kv_dtype": kv_dtype, "near": accuracy.is_near, **figures}))
    raise typer.Exit(0 if accuracy.is_near else 1)


if __name__ == "__main__":
    typer.run(main)

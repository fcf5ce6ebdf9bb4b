"""A whole step of SmolLM2-135M's shape, with draws of all rows, and what draws asked for late add.

The model's layers are stored as Q4_1 and its table as Q8_0; the work is reading and multiplying
them, not the cache.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from furcate.kernels.bench import BenchCase
from furcate.kernels.paged_attention.native import Shape

from .example import Model, ModelShape, StepRows, build_model, greedy

if TYPE_CHECKING:
    from furcate.kernels.library import Library, Pool

    from .native import ForwardExecutor

__all__ = ["cases"]

PAGES_PER_ROW, CONTEXT = 16, 200  # tokens of each row that are there already
ROW_COUNTS = (1, 8, 32)
PROMPT = 512
SHAPE = ModelShape(
    num_layers=30,
    hidden_size=576,
    ffn_size=1536,
    vocab_size=49_152,
    heads=Shape(num_heads=9, kv_heads=3, head_dim=64, page_size=16, num_pages=512),
)


def cases(library: Library, pool: Pool) -> list[BenchCase]:
    model = Model.random(SHAPE, "Q4_1", "Q8_0")
    executor = build_model(pool, model)
    found = []
    for count in ROW_COUNTS:
        step = StepRows.of([[1]] * count, [CONTEXT] * count, PAGES_PER_ROW)
        kinds = {"draws": partial(_run, executor, step, count, 0)}
        kinds["late draws"] = partial(_run, executor, step, 0, count)
        for kind, run in kinds.items():
            found.append(_case(f"{count} rows of a token, {kind}", run, model, count, count))
    prompt = StepRows.of([[1] * PROMPT], [0], -(-PROMPT // SHAPE.heads.page_size))
    run = partial(_run, executor, prompt, 1, 0)
    found.append(_case(f"a prompt of {PROMPT} tokens", run, model, PROMPT, 1))
    return found


def _run(executor: ForwardExecutor, step: StepRows, num_draws: int, num_late: int) -> None:
    seq = executor.submit(step, greedy(range(num_draws)))
    if num_late:
        executor.draw(seq, greedy(range(num_late)))
    executor.wait(seq)


def _case(
    name: str, run: partial[None], model: Model, num_tokens: int, num_logits: int
) -> BenchCase:
    num_bytes = sum(part.data.nbytes for layer in model.layers for part in layer)
    head = SHAPE.vocab_size * SHAPE.hidden_size
    flops = 2.0 * (num_tokens * SHAPE.num_layers * _layer_size() + num_logits * head)
    return BenchCase(name, run, flops, float(num_bytes + model.table.data.nbytes), "q8")


def _layer_size() -> int:
    """Weights of a layer."""
    inner = SHAPE.qkv_size + SHAPE.q_size + 3 * SHAPE.ffn_size
    return SHAPE.hidden_size * inner

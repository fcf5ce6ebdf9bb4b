"""How fast a workload could be at best: its work over the rates of the machine.

The work is what a tape says is needed, whoever does it. Knows no engine. A share above 1 is
possible where weights fit a cache that is faster than the memory that was measured.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.tape import Work

__all__ = ["Rates", "Shape", "least_seconds", "parse_rates", "shape_of"]


@dataclass(frozen=True, slots=True)
class Rates:
    """A second: operations of products, of attention, and bytes read."""

    products: float
    attention: float
    bandwidth: float

    def best(self, other: Rates) -> Rates:
        """What a machine has done once it can do: a busy moment lowers a measurement, and no moment
        raises it."""
        return Rates(
            max(self.products, other.products),
            max(self.attention, other.attention),
            max(self.bandwidth, other.bandwidth),
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides its cost."""

    num_layers: int
    num_heads: int
    head_dim: int
    layer_weights: int  # parameters of the products of all layers
    head_weights: int
    num_bytes: int  # that a step reads: each weight once


def shape_of(path: Path) -> Shape:
    """Of a llama-like GGUF file. An embedding that is also the head is read as the head."""
    from furcate.runtime.model.gguf import read_header

    header = read_header(path)
    tensors = header.tensors.values()
    kind = header.metadata["general.architecture"]

    def number(key: str) -> int:
        return int(str(header.metadata[f"{kind}.{key}"]))

    layers = [t for t in tensors if t.name.startswith("blk.") and len(t.shape) == 2]
    names = {tensor.name: tensor for tensor in tensors}
    head = names.get("output.weight", names["token_embd.weight"])
    heads = number("attention.head_count")
    return Shape(
        num_layers=number("block_count"),
        num_heads=heads,
        head_dim=number("embedding_length") // heads,
        layer_weights=sum(_size(tensor.shape) for tensor in layers),
        head_weights=_size(head.shape),
        num_bytes=sum(tensor.num_bytes for tensor in [*layers, head]),
    )


def _size(shape: tuple[int, ...]) -> int:
    rows, columns = shape
    return rows * columns


def least_seconds(work: Work, shape: Shape, rates: Rates) -> float:
    """The operations of all, or the longest chain: its prompt, then one read of the weights for
    each token."""
    products = 2 * (work.tokens * shape.layer_weights + work.logits * shape.head_weights)
    attention = 4 * shape.num_layers * shape.num_heads * shape.head_dim * work.contexts
    everything = products / rates.products + attention / rates.attention
    prompt = 2 * work.chain_prompt * shape.layer_weights / rates.products
    chain = prompt + work.chain_steps * shape.num_bytes / rates.bandwidth
    return max(everything, chain)


def parse_rates(text: str) -> Rates:
    """From `q8=1.2e12,bf16=1e12,bandwidth=45e9`, or from the JSON of the kernels' bench, in which
    an object tells `flops` by unit and a `bandwidth`. Products run in the fastest unit, attention
    in bf16."""
    if re.match(r"\w+=", text):
        pairs = (pair.split("=") for pair in text.split(","))
        return _rates({name: float(value) for name, value in pairs})
    found = _peaks(json.loads(text))
    if found is None:
        raise ValueError("these rates have no object with flops and a bandwidth")
    return _rates(found)


def _peaks(value: object) -> dict[str, float] | None:
    if not isinstance(value, dict):
        return None
    flops, bandwidth = value.get("flops"), value.get("bandwidth")
    if isinstance(flops, dict) and bandwidth is not None:
        return {**{unit: float(rate) for unit, rate in flops.items()}, "bandwidth": bandwidth}
    return next((found for part in value.values() if (found := _peaks(part))), None)


def _rates(rates: dict[str, float]) -> Rates:
    units = [rates[name] for name in ("q8", "bf16", "fp32") if name in rates]
    return Rates(max(units), rates.get("bf16", max(units)), rates["bandwidth"])

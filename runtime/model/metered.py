"""Tensors on their way into a model, counted for those who watch. Knows names and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from .weights import RawTensor, TensorSource

__all__ = ["MeteredTensors"]


class MeteredTensors:
    """Another source's tensors. `seen` gets the number of values of each, the first time."""

    def __init__(self, source: TensorSource, seen: Callable[[int], None]) -> None:
        self._source = source
        self._seen = seen
        self._names: set[str] = set()

    def read(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._source.read(name, shape)
        self._count(name, shape)
        return tensor

    def raw(self, name: str, shape: tuple[int, ...]) -> RawTensor | None:
        stored = self._source.raw(name, shape)
        if stored is not None:
            self._count(name, shape)
        return stored

    def _count(self, name: str, shape: tuple[int, ...]) -> None:
        if name in self._names:
            return
        self._names.add(name)
        count = 1
        for size in shape:
            count *= size
        self._seen(count)

"""Memory for gathered keys and values, kept from call to call.

Fresh blocks of megabytes come from the operating system page by page, which costs more than to
fill them. A scratch belongs to one thread at a time.
"""

from __future__ import annotations

import torch

__all__ = ["Scratch"]


class Scratch:
    """Named buffers that grow to the largest size asked for; their contents are the asker's."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def take(self, name: str, num_elements: int, dtype: torch.dtype) -> torch.Tensor:
        """A flat tensor of `num_elements`, not initialised, valid until the name is taken again."""
        buffer = self._buffers.get((name, dtype))
        if buffer is None or buffer.numel() < num_elements:
            # A tensor born in inference mode could not be written outside of it.
            with torch.inference_mode(False):
                buffer = torch.empty(num_elements, dtype=dtype)
            self._buffers[name, dtype] = buffer
        return buffer[:num_elements]

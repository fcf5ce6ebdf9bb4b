"""The seed of one generation: a pure function of where it stands in its program.

Nothing of batches, times or deltas goes into it, so sampling depends on none of them.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["generation_seed"]

MASK = 2**64 - 1


def generation_seed(seed: int, path: Sequence[int], ordinal: int, sample: int = 0) -> int:
    """64 bits of H(seed, branch path, ordinal of the Gen or Select on its branch, sample index)."""
    words = [seed & MASK, len(path), *path, ordinal, sample]
    digest = hashlib.blake2b(struct.pack(f"<{len(words)}Q", *words), digest_size=8).digest()
    return int.from_bytes(digest, "little")

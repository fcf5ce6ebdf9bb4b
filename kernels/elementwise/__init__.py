"""What stands between products, native: `kernels/include/elementwise.h` is the contract.

Rows of activations written as float32, bfloat16 or int8 with a scale for every 32 values; rows
normalised; rotary positions; rows of stored embedding matrices expanded; gates of feed-forward
layers. An executor calls these inside its own jobs; `native.py` is the Python side for tests and
benchmarks.

The specifications: `reference.py` here for quantised rows, `kernels/rms_norm`, `kernels/rope` and
`kernels/silu_mul`, and `kernels/linear/blocks.py` for what stored blocks mean. Sums of squares are
made in another order than torch's, and e**x is this project's own: those results agree to some
units in the last place, all others bit for bit. All tiers give the same bits.
"""

from __future__ import annotations

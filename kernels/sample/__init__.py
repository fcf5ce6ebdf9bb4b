"""Draws of tokens from rows of logits, and log-probabilities: `kernels/include/sample.h` is the
contract, the Python sampler in `runtime/sample` the specification.

Greedy draws, masks, bans, ties, top-k and min-p, and rows that cannot be drawn from agree with it
exactly. A draw with a temperature inverts sums of weights, and those here differ from torch's in
their last bits: one draw in many thousands meets the difference. Results of this kernel depend on
the row alone: they are the same in every tier, on any number of threads, and beside any other rows.

`native.py` is the Python side; `reference.py` is the same in double precision, for `check.py`.
"""

from __future__ import annotations

"""A whole forward as a list of native operations, and the thread that runs one step after another.

A program is made once, by `ForwardBuilder`: operations on buffers that hold a row a token. A step
brings token ids, positions, page tables and which tokens need logits; the executor's thread runs
the program over it on the pool's threads, without Python. What each operation computes is said by
the headers in kernels/include.

A step brings its draws and scores with it, or has draws asked for while it runs; the next step may
read their tokens. `example.py` is a small model for the check and the benchmark.
"""

from __future__ import annotations

__all__: list[str] = []

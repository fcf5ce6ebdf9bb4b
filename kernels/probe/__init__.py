"""What the machine does at best on the threads of a pool, measured: the roof that kernels are held
against, and what the pool itself costs. Not used by a running engine.

`native.py` times the loops of `cpu.cpp`; there is no reference, the loops compute nothing.
"""

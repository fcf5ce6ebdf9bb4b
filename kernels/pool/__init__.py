"""The threads that kernels run on: `kernels/include/pool.h` is the contract.

A pool is made once by whoever owns the device and handed to every call; `kernels/library.py` holds
the Python side. This folder knows no operation.
"""

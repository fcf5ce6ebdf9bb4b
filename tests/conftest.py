"""What all tests share."""

from __future__ import annotations

import signal

import torch

# One thread: the suite shares its cores with the processes that it starts.
torch.set_num_threads(1)

# A shell lets what it starts in the background ignore Ctrl-C, and so would what tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

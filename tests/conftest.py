"""One thread for torch: the suite shares its cores with the processes that it starts."""

from __future__ import annotations

import torch

torch.set_num_threads(1)

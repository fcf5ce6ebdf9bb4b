"""transformers on the CPU: bf16, static batches. Usage: drive_transformers.py MODEL_FOLDER WORK"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch
from calls import Call, Reply
from transformers import AutoModelForCausalLM
from turns import Engine, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 16


class Transformers(Engine):
    can_constrain = False
    can_run_programs = False

    def __init__(self) -> None:
        model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
        self.model = model.eval()

    async def complete(self, calls: Sequence[Call]) -> list[Reply]:
        batches = [calls[begin : begin + BATCH] for begin in range(0, len(calls), BATCH)]
        return [Reply(ids) for batch in batches for ids in self._batch(batch)]

    @torch.inference_mode()
    def _batch(self, calls: Sequence[Call]) -> list[list[int]]:
        longest = max(len(call.ids) for call in calls)
        ids = torch.zeros(len(calls), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, call in enumerate(calls):
            ids[row, longest - len(call.ids) :] = torch.tensor(call.ids)
            mask[row, longest - len(call.ids) :] = 1
        num_new = calls[0].max_tokens
        output = self.model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=num_new,
            min_new_tokens=num_new,
            do_sample=False,
            pad_token_id=0,
        )
        return output[:, longest:].tolist()


if __name__ == "__main__":
    serve(Transformers)

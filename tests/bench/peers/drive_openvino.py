"""OpenVINO GenAI on the CPU, straight from the GGUF file.

drive_openvino.py MODEL.gguf WORK
"""

from __future__ import annotations

import sys

import numpy as np
import openvino as ov
import openvino_genai as genai
from calls import Call, Reply
from turns import SteppedEngine, serve


class OpenVINO(SteppedEngine):
    """Its continuous batching; the prefix cache cannot be emptied, but no draw repeats another."""

    def __init__(self) -> None:
        super().__init__()
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = 2  # GiB
        scheduler.enable_prefix_caching = True
        scheduler.max_num_seqs = 64
        scheduler.dynamic_split_fuse = True
        self.pipeline = genai.ContinuousBatchingPipeline(sys.argv[1], scheduler, "CPU")
        self.tokenizer = self.pipeline.get_tokenizer()
        self._open: dict[int, tuple[object, bool]] = {}

    def submit(self, key: int, call: Call) -> None:
        config = genai.GenerationConfig()
        config.max_new_tokens = call.max_tokens
        config.ignore_eos = not call.is_constrained
        config.do_sample = call.temperature > 0
        if config.do_sample:
            config.temperature = call.temperature
            config.rng_seed = call.seed
        if call.schema:
            config.structured_output_config = genai.StructuredOutputConfig(json_schema=call.schema)
        elif call.regex or call.choices:
            regex = call.regex or "|".join(call.choices)
            config.structured_output_config = genai.StructuredOutputConfig(regex=regex)
        ids = ov.Tensor(np.asarray([call.ids], np.int64))
        handle = self.pipeline.add_request(key, ids, config)
        self._open[key] = (handle, call.is_constrained)

    def step(self) -> list[tuple[int, Reply]]:
        self.pipeline.step()
        replies = []
        for key, (handle, is_constrained) in list(self._open.items()):
            if handle.get_status() == genai.GenerationStatus.RUNNING:
                continue
            (done,) = handle.read_all()
            ids = list(done.generated_ids)
            if done.finish_reason == genai.GenerationFinishReason.STOP and ids:
                ids.pop()  # the end of the sequence
            text = self.tokenizer.decode(ids) if is_constrained else ""
            replies.append((key, Reply(ids, text)))
            del self._open[key]
        return replies


if __name__ == "__main__":
    serve(OpenVINO)

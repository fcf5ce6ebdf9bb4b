"""vLLM on the CPU: bf16, prefix cache, all cores. Usage: drive_vllm.py MODEL_FOLDER WORK"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# by default vLLM leaves one core to its front end; on few cores that would halve it
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{(os.cpu_count() or 1) - 1}")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from calls import Call, Reply
from turns import SteppedEngine, serve


class VLLM(SteppedEngine):
    """Calls go to the engine's own queue as a server would put them there."""

    def __init__(self) -> None:
        super().__init__()
        from vllm import LLM, SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        self._sampling, self._structured = SamplingParams, StructuredOutputsParams
        self._final = RequestOutputKind.FINAL_ONLY
        self.llm = LLM(
            sys.argv[1],
            dtype="bfloat16",
            max_model_len=4096,
            enable_prefix_caching=True,
            max_num_seqs=64,
        )
        warm = SamplingParams(max_tokens=8, temperature=0.0)
        self.llm.generate([{"prompt_token_ids": [1] * 32}], warm, use_tqdm=False)

    def submit(self, key: int, call: Call) -> None:
        structured = None
        if call.schema:
            structured = self._structured(json=call.schema)
        elif call.regex:
            structured = self._structured(regex=call.regex)
        elif call.choices:
            structured = self._structured(choice=list(call.choices))
        params = self._sampling(
            max_tokens=call.max_tokens,
            temperature=call.temperature,
            seed=call.seed if call.temperature else None,
            ignore_eos=structured is None,
            structured_outputs=structured,
            output_kind=self._final,
        )
        prompt = {"prompt_token_ids": call.ids}
        self.llm.llm_engine.add_request(str(key), prompt, params)

    def step(self) -> list[tuple[int, Reply]]:
        replies = []
        for output in self.llm.llm_engine.step():
            if output.finished:
                done = output.outputs[0]
                ids = list(done.token_ids)
                if done.finish_reason == "stop" and ids:
                    ids.pop()  # the end of the sequence
                key = output.request_id.split("-")[0]  # it may append to what it was given
                replies.append((int(key), Reply(ids, done.text)))
        return replies

    def cool(self) -> None:
        self.llm.reset_prefix_cache()


if __name__ == "__main__":  # its processes import this file
    serve(VLLM)

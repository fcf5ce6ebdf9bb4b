"""What outputs are worth: the share of tokens that the fp32 model of transformers nearly chose.

    python tests/bench/reference.py MODEL.gguf WORK

Reads lines `{"cases": [[prompt, output], ...]}` of token ids and answers each with a line
`{"tokens": ..., "agreement": ...}`. A token agrees if its logit is within TOLERANCE of the largest:
near ties fall one way or the other with the number type. The first line of all tells whether the
tokenizer of transformers gives the ids of the work file. Knows nothing of furcate.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

TOLERANCE = 0.5


def main(model_path: Path, work_path: Path) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    begin_s = time.perf_counter()
    file = {"gguf_file": model_path.name}
    work = json.loads(work_path.read_text())
    tokenizer = AutoTokenizer.from_pretrained(model_path.parent, **file)
    _cut_digits(tokenizer)
    same = all(
        tokenizer.encode(text, add_special_tokens=False) == ids
        for text, ids in zip(work["texts"], work["ids"], strict=True)
    )
    model = AutoModelForCausalLM.from_pretrained(
        model_path.parent, dtype=torch.float32, **file, **_dequantized()
    ).eval()
    loaded = {"load_s": round(time.perf_counter() - begin_s, 2), "same_tokenizer": same}
    print(json.dumps(loaded), file=answers, flush=True)
    for line in sys.stdin:
        agreed = total = 0
        for prompt, output in json.loads(line)["cases"]:
            with torch.inference_mode():
                ids = torch.tensor([[*prompt, *output[:-1]]])
                logits = model(ids, logits_to_keep=len(output)).logits[0]
            chosen = logits[torch.arange(len(output)), torch.tensor(output)]
            agreed += int((chosen >= logits.max(-1).values - TOLERANCE).sum())
            total += len(output)
        answer = {"tokens": total, "agreement": round(agreed / total, 4) if total else None}
        print(json.dumps(answer), file=answers, flush=True)


def _cut_digits(tokenizer: object) -> None:
    """A tokenizer made from a GGUF file has lost this step: the file names the rule `smollm`, which
    cuts digits one by one as the model's own tokenizer does."""
    from tokenizers import pre_tokenizers

    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)


def _dequantized() -> dict[str, object]:
    """Newer versions keep the blocks as they are unless they are told to expand them."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))

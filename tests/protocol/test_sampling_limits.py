"""check_sampling: the defaults pass, and each value out of its range is named with the range."""

from __future__ import annotations

import pytest

from furcate.errors import UsageError
from furcate.protocol.sampling import Sampling, check_sampling


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (Sampling(max_tokens=-5), "max_tokens must be from 0 .*got -5"),
        (Sampling(min_tokens=200), "min_tokens must be at most max_tokens .128.*200"),
        (Sampling(n=0), "n must be from 1 to 16, got 0"),
        (Sampling(n=17), "n must be from 1 to 16, got 17"),
        (Sampling(temperature=float("nan")), "temperature .*nan"),
        (Sampling(temperature=float("inf")), "temperature .*inf"),
        (Sampling(top_p=0.0), "top_p must be above 0 and at most 1, got 0.0"),
        (Sampling(top_p=float("nan")), "top_p"),
        (Sampling(top_k=0), "top_k must be -1"),
        (Sampling(min_p=1.5), "min_p"),
        (Sampling(frequency_penalty=-3.0), "frequency_penalty"),
        (Sampling(presence_penalty=3.0), "presence_penalty"),
        (Sampling(repetition_penalty=0.0), "repetition_penalty"),
        (Sampling(logprobs=21), "logprobs must be from 0 to 20"),
        (Sampling(prompt_logprobs=-1), "prompt_logprobs"),
        (Sampling(seed=2**64), "seed must fit in 64 bits"),
        (Sampling(stop=("",)), "1 to 256 characters"),
        (Sampling(stop=("x" * 257,)), "1 to 256 characters"),
        (Sampling(stop=("x",) * 17), "at most 16 stop strings"),
        (Sampling(logit_bias={1: float("nan")}), "logit_bias of token 1"),
        (Sampling(logit_bias={1: 101.0}), "logit_bias of token 1"),
        (Sampling(logit_bias={-1: 0.0}), "negative token id -1"),
        (Sampling(logit_bias=dict.fromkeys(range(1025), 0.0)), "1024"),
    ],
)
def test_a_value_out_of_its_range_is_named(sampling: Sampling, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_sampling(sampling)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(max_tokens=0, temperature=0.0, top_k=1, top_p=1.0, min_p=1.0),
        Sampling(seed=-(2**63), n=16, stop=("x" * 256,) * 16, logprobs=0, prompt_logprobs=20),
        Sampling(logit_bias={0: 100.0, 2**31 - 1: -100.0}, repetition_penalty=10.0),
    ],
)
def test_the_ends_of_the_ranges_are_allowed(sampling: Sampling) -> None:
    check_sampling(sampling)

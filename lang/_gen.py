"""`gen`: generated text or a typed value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from furcate.errors import UsageError, ValidationFailed

from ._check import Check, Checking, checking_of
from ._expr import Expr
from ._output import Output, choice_output, output_of
from ._sampling import Keywords, collect
from ._select import SelectExpr, build_select, check_name
from ._thinking import ReasoningOption, Thinking, thinking_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from furcate.protocol.graph import ChoicesMethod

__all__ = ["GenExpr", "gen", "gen_int", "gen_string"]


@dataclass(frozen=True, slots=True)
class GenExpr(Expr):
    """`sampling` holds only what the call itself said."""

    name: str | None
    output: Output
    sampling: Keywords = field(default_factory=dict)
    save_stop: str | None = None
    checking: Checking | None = None
    thinking: Thinking | None = None


def gen(
    name: str | None = None,
    max_tokens: int | None = None,
    *,
    max_new_tokens: int | None = None,
    min_tokens: int | None = None,
    min_new_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    repetition_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    ignore_eos: bool | None = None,
    seed: int | None = None,
    return_logprob: bool | None = None,
    logprob_start_len: int | None = None,
    top_logprobs_num: int | None = None,
    return_text_in_logprobs: bool | None = None,
    dtype: type | str | None = None,
    choices: Sequence[str] | None = None,
    choices_method: ChoicesMethod | None = None,
    regex: str | None = None,
    json_schema: str | Mapping[str, object] | type | None = None,
    type: object = None,
    check: Check | None = None,
    retries: int | None = None,
    save_stop: str | None = None,
    reasoning: ReasoningOption = None,
    max_thinking: int | None = None,
) -> Expr:
    """Generates text, appends it, and stores it as `name`.

    A parameter left out is taken from `run(...)`, and else from the defaults of `Sampling`: 128
    tokens, temperature 1.0. `stop` strings and what the patterns of `stop_regex` match end the text
    and are not part of it; `save_stop` names a variable that gets what has ended it, "" where
    nothing of the kind did. `n` above 1 makes the variable a list, which `state.samples(name)` is
    in any case; the text goes on with the first.

    At most one of these shapes the output: `regex`; `json_schema` (JSON text, a dict or a type; the
    variable is the text); `dtype` (int, float, bool or str; the variable stays a str); `type` (any
    type that pydantic can describe; the variable is a value of it, never half of one: an output
    that was cut is Truncated, one that does not fit is ValidationFailed). `type=str` is free text,
    a Literal or Enum of strings yields the bare string, any other type is generated as JSON.

    `check` is called with the value, in this process: True or None accepts it; False, a text that
    says what is wrong, or an error refuses it. Up to `retries` other outputs, drawn anew from the
    same prefix, then take the place of one that was refused or cut or does not fit its type; after
    the last the node fails. What follows waits for the check, and so does the text of a stream.

    `reasoning` keeps what the model thinks before it answers apart from the answer: the variable
    `name_reasoning_content` gets that, and all else that is said here about the output is about the
    answer. "auto" where the model begins to think by itself, True in any case; both know the
    markers of the models that have some, a pair of strings names others. `max_thinking` tokens of
    `max_tokens` at most are thought, then the answer begins.

    `choices` makes it a `select`; `type` then reads the chosen text.

    `return_logprob=True` puts log-probabilities in `state.get_meta_info(name)`: with
    `top_logprobs_num` alternatives, from prompt position `logprob_start_len` on, and with texts if
    `return_text_in_logprobs`.
    """
    check_name(name)
    check_stop_name(save_stop, name)
    sampling = collect(
        {
            "max_tokens": max_tokens,
            "max_new_tokens": max_new_tokens,
            "min_tokens": min_tokens,
            "min_new_tokens": min_new_tokens,
            "n": n,
            "stop": stop,
            "stop_token_ids": stop_token_ids,
            "stop_regex": stop_regex,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "frequency_penalty": frequency_penalty,
            "presence_penalty": presence_penalty,
            "repetition_penalty": repetition_penalty,
            "logit_bias": logit_bias,
            "ignore_eos": ignore_eos,
            "seed": seed,
            "return_logprob": return_logprob,
            "logprob_start_len": logprob_start_len,
            "top_logprobs_num": top_logprobs_num,
            "return_text_in_logprobs": return_text_in_logprobs,
        }
    )
    if choices is None:
        if choices_method is not None:
            raise UsageError(f"choices_method={choices_method!r} has no effect without choices")
        output = output_of(dtype, regex, json_schema, type)
        checking = checking_of(check, retries, output)
        thinking = thinking_of(reasoning, max_thinking)
        return GenExpr(name, output, sampling, save_stop, checking, thinking)
    shapes: dict[str, object] = {"dtype": dtype, "regex": regex, "json_schema": json_schema}
    shapes |= {"save_stop": save_stop, "check": check, "retries": retries}
    shapes |= {"reasoning": reasoning or None, "max_thinking": max_thinking}
    useless = [key for key, value in (sampling | shapes).items() if value is not None]
    useless = [key for key in useless if key != "temperature"]
    if useless:
        raise UsageError(f"{useless[0]} has no effect with choices: drop it")
    expr = build_select(name, choices, temperature, choices_method, False, choice_output(type))
    _check_readable(expr, type)
    return expr


def gen_int(
    name: str | None = None,
    max_tokens: int | None = None,
    *,
    max_new_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    repetition_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    ignore_eos: bool | None = None,
    seed: int | None = None,
    return_logprob: bool | None = None,
    logprob_start_len: int | None = None,
    top_logprobs_num: int | None = None,
    return_text_in_logprobs: bool | None = None,
    save_stop: str | None = None,
) -> Expr:
    """`gen(dtype=int)`: digits with an optional sign; the variable stays a str."""
    return gen(dtype=int, **locals())


def gen_string(
    name: str | None = None,
    max_tokens: int | None = None,
    *,
    max_new_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    repetition_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    ignore_eos: bool | None = None,
    seed: int | None = None,
    return_logprob: bool | None = None,
    logprob_start_len: int | None = None,
    top_logprobs_num: int | None = None,
    return_text_in_logprobs: bool | None = None,
    save_stop: str | None = None,
) -> Expr:
    """`gen(dtype=str)`: words in double quotes, which are part of the variable."""
    return gen(dtype=str, **locals())


def _check_readable(expr: SelectExpr, as_type: object) -> None:
    """Each choice must be a value of the type, or its being chosen could only fail."""
    if expr.output.parse is None:
        return
    for choice in expr.choices:
        try:
            expr.output.parse(choice)
        except ValidationFailed as error:
            raise UsageError(f"the choice {choice!r} does not fit type={as_type!r}") from error


def check_stop_name(save_stop: object, name: str | None) -> None:
    """What ended an output needs a name of its own."""
    if save_stop is None:
        return
    if not isinstance(save_stop, str) or not save_stop:
        raise UsageError(f"save_stop must be the name of a variable, got {save_stop!r}")
    if save_stop == name:
        raise UsageError(f"save_stop={save_stop!r} is the name of the output too: use another")

"""The workloads as data for drivers in other environments: all text is token ids.

A program becomes a script: the ids between its calls, by name, as `peers/calls.py` reads them. What
they are is tested: a client that gets our outputs asks for the same sequences as our programs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.bench.corpus import docstrings
from tests.bench.programs import ACTION, DIMENSIONS, GRADES, PROGRAM_WORKLOADS, RATINGS
from tests.bench.workloads import TOKEN_WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from furcate.runtime.tokenize.base import TextCodec

__all__ = ["script", "work_file"]

GBNF = (
    r'root ::= ("search" | "look" | "add") "[" letter letter? letter? letter? letter? letter? '
    r'letter? letter? "]"' + "\nletter ::= [a-z]"
)
DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
NUM_TEXTS = 200  # on which tokenizers are compared

Ids = list[int]


def work_file(codec: TextCodec, names: Iterable[str], draws: int, scale: float) -> dict[str, Any]:
    """What drivers read: each workload's draws, and texts with their ids to compare tokenizers."""
    wanted = set(names)
    workloads: dict[str, Any] = {}
    for tokens in TOKEN_WORKLOADS:
        if tokens.name in wanted:
            every = [tokens.requests(codec, seed, scale) for seed in range(draws)]
            workloads[tokens.name] = {
                "draws": [
                    [
                        {"ids": list(r.ids), "max_tokens": r.max_tokens, "schema": r.schema}
                        for r in requests
                    ]
                    for requests in every
                ]
            }
    for programs in PROGRAM_WORKLOADS:
        if programs.name in wanted:
            workloads[programs.name] = {
                "draws": [
                    [script(programs.name, args, codec) for args in programs.items(codec, s, scale)]
                    for s in range(draws)
                ]
            }
    texts = list(docstrings()[:NUM_TEXTS])
    return {"workloads": workloads, "texts": texts, "ids": codec.encode_batch(texts)}


def script(name: str, args: tuple[Any, ...], codec: TextCodec) -> dict[str, Any]:
    return {"tree": _tree, "judge": _judge, "react": _react, "chat": _chat}[name](codec, *args)


def _tree(codec: TextCodec, question: str) -> dict[str, Any]:
    begin = f"{_turn('system', DEFAULT_SYSTEM)}{_ask('Propose a plan. Question: ' + question)}"
    return {
        "begin": _ids(codec, begin),
        "carry out": _ids(codec, _END + _ask("Carry out the plan step by step.")),
        "rate": _ids(codec, _END + _ask("Rate this solution from 1 to 5.")),
        "ratings": {rating: codec.encode(rating) for rating in RATINGS},
        "final": _ids(codec, _END + _ask("Now state only the final answer.")),
    }


def _judge(codec: TextCodec, article: str) -> dict[str, Any]:
    begin = _turn("system", "You are a strict, impartial judge.")
    dimensions = {
        name: _ids(codec, _ask(f"Judge the {name}: reasons, then a verdict."))
        for name in DIMENSIONS
    }
    return {
        "begin": _ids(codec, begin + _turn("user", "Article:\n" + article)),
        "dimensions": DIMENSIONS,
        **dimensions,
        "verdict": codec.encode("\nVerdict:"),
        "verdicts": {f" {grade}": codec.encode(f" {grade}") for grade in GRADES},
        "grades": {grade: codec.encode(grade) for grade in GRADES},
        "notes": _ids(codec, "<|im_start|>user\nNotes:\n"),
        "between notes": codec.encode("\n"),
        "overall": _ids(codec, "\nOverall?" + _END + "<|im_start|>assistant\n"),
    }


def _react(codec: TextCodec, rules: str, results: list[str]) -> dict[str, Any]:
    begin = _turn("system", "Use the tools.\n" + rules)
    return {
        "begin": _ids(codec, begin + _ask("Find out what the rules are about.")),
        "action": codec.encode("\n"),
        "regex": ACTION,
        "gbnf": GBNF,
        "results": [_ids(codec, _END + _ask("Result: " + result)) for result in results],
    }


def _chat(codec: TextCodec, questions: list[str]) -> dict[str, Any]:
    begin = _turn("system", "You are a helpful assistant.")
    pieces = [(_END if number else begin) + _ask(q) for number, q in enumerate(questions)]
    return {"questions": [_ids(codec, piece) for piece in pieces]}


# As ChatML writes it. Text of the corpus holds no markers.

_END = "<|im_end|>\n"


def _turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}{_END}"


def _ask(text: str) -> str:
    return _turn("user", text) + "<|im_start|>assistant\n"


def _ids(codec: TextCodec, text: str) -> Ids:
    ids: Ids = []
    for part in re.split(r"(<\|im_start\|>|<\|im_end\|>)", text):
        ids += [codec.control(part)] if part.startswith("<|im_") else codec.encode(part)
    return ids

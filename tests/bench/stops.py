"""What it costs to follow an output for its stops, by the token.

    python tests/bench/stops.py

Tokens of four bytes; each output once at a quarter of its length and once whole: the time of a
token must not grow. The last two patterns are as bad as patterns can be.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from pathlib import Path

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from furcate.runtime.scheduler.stops import StopMatcher

TOKEN_BYTES = 4
DRAWS = 5
CASES: dict[str, tuple[str, ...]] = {
    "two strings": (),
    "one pattern": (r"\n\nQ(uestion)?\s*:",),
    "two patterns": (r"(?i)zzstop\w+\.", r"\n#{9,}"),
    "always open": (r"[^\0]*\0",),
    "long and alive": ("a.{1000}\0",),
    "many ways": ("(a.?|ab){400}\0",),
}


def microseconds_a_token(text: bytes, patterns: tuple[str, ...]) -> float:
    matcher = StopMatcher((b"<stop>", b"\n\n\n\n\n"), patterns)
    start = time.perf_counter()
    for at in range(0, len(text), TOKEN_BYTES):
        matcher.push(text[at : at + TOKEN_BYTES])
        assert matcher.safe_length <= len(matcher.text)
    return (time.perf_counter() - start) / (len(text) / TOKEN_BYTES) * 1e6


def main() -> None:
    log = Path(__file__).resolve().parent.parent.parent / "docs" / "log.md"
    prose = log.read_bytes()[:40_000]
    letters = random.Random(1)
    hostile = bytes(letters.choice(b"ab") for _ in range(40_000))
    for name, patterns in CASES.items():
        text = hostile if name in ("long and alive", "many ways") else prose
        shown = {}
        for part, size in {"quarter": len(text) // 4, "whole": len(text)}.items():
            draws = [microseconds_a_token(text[:size], patterns) for _ in range(DRAWS)]
            shown[part] = round(statistics.median(draws), 2)
        print(json.dumps({"stops": name, "us_a_token": shown}))


if __name__ == "__main__":
    main()

"""Draws the lines of a contest as bars: each engine's rate over that of the best peer.

    python tests/bench/plot.py results.jsonl docs/images/bench.svg

A small mark shows the ceiling. Colours follow the reader's light or dark scheme. Lines without
peers are left out. Knows nothing of how lines are made.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

ENGINES = ("furcate", "vllm", "openvino", "llama.cpp", "transformers")
COLOURS = {
    "furcate": ("#0b6e4f", "#3ecf8e"),
    "vllm": ("#b45309", "#f0a54a"),
    "openvino": ("#2563eb", "#7aa7ff"),
    "llama.cpp": ("#6b7280", "#a1a8b3"),
    "transformers": ("#9d4edd", "#c59bf0"),
}
WIDTH = 760
LEFT = 90  # of the names
RIGHT = 60  # of the figures
BAR = 13
GAP = 14  # between workloads
TOP = 48  # of the legend

Line = dict[str, Any]


def draw(lines: list[Line]) -> str:
    rows = [line for line in lines if line.get("peers")]
    shares = [_shares(line) for line in rows]
    furthest = max(
        (max([*s.values(), _ceiling(line)]) for line, s in zip(rows, shares, strict=True)),
        default=1.0,
    )
    scale = (WIDTH - LEFT - RIGHT) / furthest
    names = [name for name in ENGINES if any(name in share for share in shares)]
    parts = [_legend(names)]
    y = TOP
    for line, share in zip(rows, shares, strict=True):
        height = BAR * len(share)
        parts.append(_text(LEFT - 8, y + height / 2 + 4, line["workload"], "end"))
        for name in names:
            if name not in share:
                continue
            width = max(1.0, share[name] * scale)
            parts.append(_rect(LEFT, y, width, BAR - 2, _class(name)))
            parts.append(
                _text(LEFT + width + 4, y + BAR - 4, f"{share[name]:.2f}", "start", "small")
            )
            y += BAR
        if _ceiling(line):
            x = LEFT + _ceiling(line) * scale
            parts.append(f'<path class="roof" d="M{x:.1f} {y - height - 2}V{y}"/>')
        y += GAP
    one = LEFT + scale
    parts.append(f'<path class="one" d="M{one:.1f} {TOP - 6}V{y - GAP + 4}"/>')
    return _document(parts, y + 6)


def _shares(line: Line) -> dict[str, float]:
    """Of the best peer's rate."""
    medians = {name: peer["median"] for name, peer in line["peers"].items()}
    best = max(medians.values()) or 1.0
    return {name: value / best for name, value in {"furcate": line["median"], **medians}.items()}


def _ceiling(line: Line) -> float:
    best = max(peer["median"] for peer in line["peers"].values()) or 1.0
    return float(line.get("ceiling", 0.0)) / best


def _class(name: str) -> str:
    return name.replace(".", "")


def _legend(names: list[str]) -> str:
    parts, x = [], LEFT
    for name in names:
        parts.append(_rect(x, 10, 11, 11, _class(name)))
        parts.append(_text(x + 16, 20, name, "start"))
        x += 28 + 8 * len(name)
    parts.append(
        _text(LEFT, 37, "rate over that of the best peer; thin line: ceiling", "start", "small")
    )
    return "".join(parts)


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {size} rx="1.5"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def _document(parts: list[str], height: float) -> str:
    light = "".join(f".{_class(n)}{{fill:{c[0]}}}" for n, c in COLOURS.items())
    dark = "".join(f".{_class(n)}{{fill:{c[1]}}}" for n, c in COLOURS.items())
    style = (
        "text{font:12px sans-serif;fill:#1f2328}.small{font-size:10px}"
        ".one{stroke:#8c959f;stroke-dasharray:3 3}.roof{stroke:#1f2328;stroke-width:1.5}"
        f"{light}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.roof{stroke:#e6edf3}"
        f"{dark}}}"
    )
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = "<title>Rates of the engines over that of the best peer, by workload</title>"
    return "\n".join([head, title, f"<style>{style}</style>", *parts, "</svg>"]) + "\n"


def main(source: Path, target: Path) -> None:
    lines = [json.loads(line) for line in source.read_text().splitlines() if line.startswith("{")]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draw(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

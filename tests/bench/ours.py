"""Our engine as a driver like the peers': loads, then draws its workload whenever it is told.

    python tests/bench/ours.py NAME MODEL SCALE

Prints a line of JSON when it has loaded and one for each line `{"workload": ..., "draw": ...}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script: the checkout's packages come first
    ROOT = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.bench.measure import Ours


def main(name: str, model: str, scale: float) -> None:
    with Ours(name, model, scale) as ours:
        print(json.dumps({"load_s": ours.load_s}), flush=True)
        for line in sys.stdin:
            print(json.dumps(ours.draw(json.loads(line)["draw"])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))

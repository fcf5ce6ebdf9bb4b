"""`furcate`, and `python -m furcate`."""

from __future__ import annotations

from furcate.cli.app import app

__all__ = ["main"]


def main() -> None:
    app(prog_name="furcate")


if __name__ == "__main__":
    main()

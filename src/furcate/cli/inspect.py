"""`furcate models inspect`: a model's facts as a page for people, or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .failure import Debug, reporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from furcate.runtime.server.inspection import Inspection, MemoryPlan

__all__ = ["inspect", "show"]

UNITS = ("", "k", "M", "B", "T")
MIB, GIB = 1 << 20, 1 << 30


def inspect(
    name: Annotated[
        str, typer.Argument(help="A name from `furcate models list`, a path, or org/name.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, Debug] = False,
) -> None:
    """Show what a model is, what runs it here and what it takes, without loading it."""
    from rich.console import Console

    from furcate.runtime import launch

    with reporting(debug):
        found = launch.inspect(launch.configure({"model": name}))
        if as_json:
            typer.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        else:
            show(found, Console(highlight=False, soft_wrap=False))


def show(found: Inspection, console: Console) -> None:
    from rich.table import Table

    page = Table.grid(padding=(0, 2))
    page.add_column(style="bold", no_wrap=True)
    page.add_column(overflow="fold")
    for label, text in _rows(found):
        page.add_row(label, text)
    console.print(page, markup=False)
    kv = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("KV cache in", "Bytes a token", "Longest context", "Streams of 4,096"):
        kv.add_column(heading, justify="left" if heading == "KV cache in" else "right")
    for each in found.memory.kv:
        kv.add_row(
            each.dtype,
            f"{each.bytes_per_token:,}",
            _count(each.longest_context),
            _count(each.streams_of_4096),
        )
    console.print()
    console.print(kv)
    if found.unsupported:
        console.print()
        console.print("Not supported", style="bold")
        for each_text in found.unsupported:
            console.print(f"- {each_text}", markup=False)


def _rows(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "Model", found.name
    if found.path != found.name:
        yield "Where", found.path
    extra = "" if found.adds == "—" else f": {found.adds}"
    yield "Architecture", f"{found.architecture} ({found.family}{extra})"
    active = f", {_short(found.active_parameters)} for a token"
    is_mixture = found.active_parameters < found.parameters
    yield "Parameters", _short(found.parameters) + (active if is_mixture else "")
    yield "Layers", f"{found.layers} of {found.hidden_size:,}"
    stored = ", ".join(f"{kind} {_short(count)}" for kind, count in found.stored.items())
    yield "Stored", f"{stored}; {_size(found.file_bytes)}"
    yield "Context", f"{found.context:,} tokens"
    tokens = found.tokenizer
    yield (
        "Tokenizer",
        f"{tokens.kind}, {tokens.vocab_size:,} tokens, {tokens.control_tokens} control",
    )
    if tokens.begins_with is not None:
        yield "Begins with", tokens.begins_with
    yield "Ends with", ", ".join(tokens.ends_with) or "nothing"
    yield "Chat template", _template(found)
    reason = "" if found.why_reference is None else f": {found.why_reference}"
    yield "Runs on", f"{found.kernels}{reason}"
    yield "Memory", _memory(found.memory)


def _template(found: Inspection) -> str:
    if found.template is None:
        return "none"
    roles = ", ".join(found.template.roles)
    reasoning = found.template.reasoning
    return roles + (f"; thinks between {reasoning[0]} and {reasoning[1]}" if reasoning else "")


def _memory(plan: MemoryPlan) -> str:
    available = plan.available_bytes
    room = "" if available is None else f"; {_size(available)} available"
    return f"{_size(plan.weights_bytes)} of weights, {_size(plan.loading_bytes)} to load{room}"


def _short(count: int) -> str:
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}{UNITS[unit]}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB" if num_bytes >= GIB else f"{num_bytes / MIB:.0f} MiB"


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"

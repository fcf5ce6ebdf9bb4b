"""`furcate kernels`: compiling the native kernels, checking them and timing them."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from furcate.errors import BackendError, UsageError

from .failure import FAILED, Debug, reporting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from furcate.kernels.bench import BenchCase, Peaks
    from furcate.kernels.library import Library, Pool

__all__ = ["app"]

app = typer.Typer(help="Compile, check and time the native kernels.", no_args_is_help=True)

Tier = typer.Option(
    help="Instruction set: auto (the best one here), avx512, avx2 or portable.",
    metavar="TIER",
)
Threads = typer.Option(help="Threads to compute on; 0: every core.", min=0)


@app.command()
def build(
    tier: Annotated[
        str, typer.Option(help="auto (the best one here), avx512, avx2, portable or all.")
    ] = "auto",
    debug: Annotated[bool, Debug] = False,
) -> None:
    """Compile the kernels now, so that no start has to."""
    from furcate.kernels.library import available_tiers

    with reporting(debug):
        folder = _folder()
        for name in available_tiers() if tier == "all" else (tier,):
            library = _load(name, folder)
            typer.echo(f"{library.tier}  {library.path}")


@app.command("list")
def list_kernels(debug: Annotated[bool, Debug] = False) -> None:
    """Show what there is: instruction sets, compiler, libraries and operations."""
    from furcate.kernels.build import COMPILERS, TIERS, find_compiler, plan
    from furcate.kernels.library import available_tiers
    from furcate.kernels.operations import has, names

    with reporting(debug):
        folder, here, compiler = _folder(), available_tiers(), find_compiler()
        found = f"none: PATH has none of {', '.join(COMPILERS)}"
        typer.echo(f"compiler  {f'{compiler.path}, {compiler.version}' if compiler else found}")
        typer.echo(f"folder    {folder}\n")
        rows = [("TIER", "THIS PROCESSOR", "LIBRARY")]
        for tier in TIERS:
            built = plan(tier, folder).built() if tier in here else None
            missing = "not built" if tier in here else "-"
            rows.append((tier, "yes" if tier in here else "no", str(built or missing)))
        _table(rows)
        typer.echo()
        rows = [("OPERATION", "CHECK", "BENCH")]
        for name in names():
            has_check, has_bench = has(name, "check"), has(name, "bench")
            rows.append((name, "yes" if has_check else "-", "yes" if has_bench else "-"))
        _table(rows)


@app.command()
def check(
    tier: Annotated[
        str, typer.Option(help="auto (the best one here), avx512, avx2, portable or all.")
    ] = "auto",
    threads: Annotated[int, Threads] = 0,
    debug: Annotated[bool, Debug] = False,
) -> None:
    """Compare every operation with its reference on this machine."""
    from furcate.kernels.library import available_tiers

    wrong = 0
    with reporting(debug):
        for each in available_tiers() if tier == "all" else (tier,):
            with _loaded(each, threads) as (library, pool):
                typer.echo(f"{library.tier}, {pool.num_threads} threads")
                wrong += _check_operations(library, pool)
    if wrong:
        raise typer.Exit(FAILED)


def _check_operations(library: Library, pool: Pool) -> int:
    """How many are wrong."""
    from furcate.kernels.operations import check_of, names

    wrong = 0
    for name in names():
        compare = check_of(name)
        if compare is None:
            typer.echo(f"{name}: no check")
            continue
        mistakes = compare(library, pool)
        typer.echo(f"{name}: {'ok' if not mistakes else 'WRONG'}")
        for mistake in mistakes:
            typer.echo(f"  {mistake}")
        wrong += bool(mistakes)
    return wrong


@app.command()
def bench(
    op: Annotated[str | None, typer.Option(help="This operation alone.")] = None,
    tier: Annotated[str, Tier] = "auto",
    threads: Annotated[int, Threads] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Annotated[bool, Debug] = False,
) -> None:
    """Time the kernels and compare them with what this machine can do at best.

    ROOF is the share of the best possible time that memory and arithmetic allow: 100 % cannot be
    exceeded, except where caches hold the data.
    """
    from furcate.kernels.bench import measure
    from furcate.kernels.operations import names
    from furcate.kernels.probe.native import peaks

    with reporting(debug):
        if op is not None and op not in names():
            raise UsageError(f"op must be one of {', '.join(names())}, got {op!r}")
        with _loaded(tier, threads) as (library, pool):
            roof = peaks(library, pool)
            if not as_json:
                _show_peaks(library, roof)
            timed = []
            for case in _cases(op, library, pool):
                timed.append((case, measure(case)))
                if not as_json:
                    _show_case(*timed[-1], roof)
            if as_json:
                typer.echo(_as_json(library, roof, timed))


def _cases(op: str | None, library: Library, pool: Pool) -> Iterator[BenchCase]:
    from furcate.kernels.operations import cases_of, names

    for name in names() if op is None else (op,):
        cases = cases_of(name)
        yield from cases(library, pool) if cases is not None else ()


def _show_peaks(library: Library, peaks: Peaks) -> None:
    rates = ", ".join(f"{unit} {rate / 1e9:,.0f} GFLOP/s" for unit, rate in peaks.flops.items())
    typer.echo(
        f"{library.tier}, {peaks.num_threads} threads: {rates}, "
        f"memory {peaks.bandwidth / 1e9:.1f} GB/s\n"
    )
    typer.echo(f"{'KERNEL':<66}{'TIME':>12}{'GFLOP/S':>10}{'GB/S':>8}{'ROOF':>7}")


def _show_case(case: BenchCase, seconds: float, peaks: Peaks) -> None:
    from furcate.kernels.bench import roofline

    rates = f"{case.flops / seconds / 1e9:>10,.1f}{case.bytes / seconds / 1e9:>8.1f}"
    share = roofline(case, seconds, peaks)
    typer.echo(f"{case.name:<66}{seconds * 1e6:>9,.1f} us{rates}{share:>7.0%}")


def _as_json(library: Library, peaks: Peaks, timed: Sequence[tuple[BenchCase, float]]) -> str:
    from furcate.kernels.bench import roofline

    cases = [
        {
            "name": case.name,
            "seconds": seconds,
            "flops": case.flops,
            "bytes": case.bytes,
            "unit": case.unit,
            "roofline": roofline(case, seconds, peaks),
        }
        for case, seconds in timed
    ]
    machine = {"flops": peaks.flops, "bandwidth": peaks.bandwidth}
    return json.dumps(
        {
            "tier": library.tier,
            "threads": peaks.num_threads,
            "peaks": machine,
            "cases": cases,
        },
        indent=2,
    )


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _folder() -> Path:
    from furcate.runtime.model.catalog import cache_home

    return cache_home() / "kernels"


def _load(tier: str, folder: Path) -> Library:
    from furcate.kernels.build import BuildFailed, CompilerMissing
    from furcate.kernels.library import load

    try:
        return load(tier, folder)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except (BuildFailed, CompilerMissing) as error:
        raise BackendError(str(error)) from None
    except OSError as error:
        raise BackendError(
            f"the kernels cannot be kept in {str(folder)!r}: {error}; set XDG_CACHE_HOME to a "
            "writable folder"
        ) from error


@contextmanager
def _loaded(tier: str, threads: int) -> Iterator[tuple[Library, Pool]]:
    from furcate.kernels.library import Pool

    library = _load(tier, _folder())
    with Pool(library, threads or len(os.sched_getaffinity(0))) as pool:
        yield library, pool

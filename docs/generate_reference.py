"""Writes the tables of docs/reference from the code: `python docs/generate_reference.py`.

A table stands between two marks in its page; what is around it is written by hand. A test compares
the pages with what this would write. Knows the code's public facts, and no page's prose.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import furcate
from furcate import errors
from furcate.runtime.config import config_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from furcate.runtime.model.family import Family

__all__ = ["PAGES", "pages", "write"]

PAGES = Path(__file__).parent / "reference"
MARK = re.compile(r"(<!-- table: ([\w.]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

MAX_SIGNATURE = 90
NO_TEXT = "—"
WITH_MEMBERS = ("DynamicGroup", "Function", "ProgramState", "Ref", "StateGroup")
# Nobody makes these.
GIVEN = {"DynamicGroup", "Expr", "Function", "ProgramState", "Ref", "Session", "StateGroup"}


def options_table() -> str:
    rows = []
    for flag in config_flags():
        help_text = flag.help + (f" One of {', '.join(flag.choices)}." if flag.choices else "")
        default = NO_TEXT if flag.default is None else f"`{flag.shown_default}`"
        name = f"`{flag.option}`"
        if flag.kind is bool:
            name += f", `--no-{flag.option.removeprefix('--')}`"
        rows.append((name, f"`{flag.variable}`", flag.kind.__name__, default, help_text))
    return table(("Option", "Variable", "Type", "Default", "What it does"), rows)


def errors_table() -> str:
    meanings = dict(re.findall(r"── (\w+) +(\S.*)", errors.__doc__ or ""))
    rows = []
    for name in meanings:
        kind = getattr(errors, name)
        base = kind.__mro__[1].__name__
        retryable = "yes" if kind.retryable else "no"
        rows.append((f"`{name}`", f"`{base}`", f"`{kind.code}`", retryable, meanings[name]))
    return table(("Class", "Kind of", "Code", "Retry", "When"), rows)


def names_table() -> str:
    rows = []
    for name in furcate.__all__:
        public = getattr(furcate, name)
        if inspect.isclass(public) and issubclass(public, Exception):
            continue
        if callable(public):
            shown = name if name in GIVEN else signature_of(name, public)
            rows.append((f"`{shown}`", summary_of(public)))
    return table(("Name", "What it is"), rows)


def families_table() -> str:
    from furcate.runtime.model.registry import FAMILIES  # torch comes with it

    types: dict[Family, list[str]] = {}
    for model_type, family in FAMILIES.items():
        types.setdefault(family, []).append(f"`{model_type}`")
    rows = [(family.title, ", ".join(names), family.adds) for family, names in types.items()]
    return table(("Family", "`model_type`", "What it adds"), rows)


def members_table(kind: type) -> str:
    rows = []
    for name, member in inspect.getmembers_static(kind):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            rows.append((f"`.{name}`", summary_of(member.fget)))
        elif inspect.isfunction(member):
            plain = inspect.unwrap(member)
            rows.append((f"`.{signature_of(name, plain, is_method=True)}`", summary_of(plain)))
    return table(("Member", "What it is"), rows)


def signature_of(name: str, function: Callable[..., object], *, is_method: bool = False) -> str:
    """Parameters with their defaults and without types; the tail of a long list is left out."""
    parameters = list(inspect.signature(function).parameters.values())[is_method:]
    spelled = list(_spelled(parameters))
    while len(", ".join(spelled)) > MAX_SIGNATURE:
        spelled = [*(spelled[:-2] if spelled[-1] == "…" else spelled[:-1]), "…"]
    return f"{name}({', '.join(spelled)})"


def _spelled(parameters: Sequence[inspect.Parameter]) -> Iterator[str]:
    has_star = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            has_star = True
        elif parameter.kind is parameter.KEYWORD_ONLY and not has_star:
            has_star = True
            yield "*"
        default = parameter.default
        text = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))
        yield text if default is parameter.empty else f"{text}={default!r}"


def summary_of(documented: object) -> str:
    """The first sentence of the docstring."""
    text = " ".join((inspect.getdoc(documented) or NO_TEXT).split())
    return re.split(r"(?<=\.)\s(?=[A-Z\"`])", text)[0]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(map(_escaped, cells)) + " |" for cells in (head, *rows)]
    lines.insert(1, "| " + " | ".join(["---"] * len(head)) + " |")
    return "".join(line + "\n" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


TABLES: dict[str, Callable[[], str]] = {
    "options": options_table,
    "errors": errors_table,
    "names": names_table,
    "families": families_table,
}


def tables_of(name: str) -> str:
    """The table of that name in a page's mark."""
    if name in TABLES:
        return TABLES[name]()
    if name not in WITH_MEMBERS:
        raise ValueError(f"there is no table {name!r}; there are {[*TABLES, *WITH_MEMBERS]}")
    return members_table(getattr(furcate, name))


def pages() -> dict[Path, str]:
    """What each page of the reference should say, by its path."""
    return {
        path: MARK.sub(lambda found: found[1] + tables_of(found[2]) + found[3], path.read_text())
        for path in sorted(PAGES.glob("*.md"))
    }


def write() -> None:
    """Brings every page up to date."""
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    write()

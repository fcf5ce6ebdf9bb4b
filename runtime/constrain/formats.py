"""String formats as regular expressions.

The engines' own formats allow the 31st of February, which no parser accepts. These are narrower
than the standards where those are generous: whatever matches is accepted by validators and by
Python's types.
"""

from __future__ import annotations

__all__ = ["ANNOTATION_FORMATS", "FORMAT_PATTERNS"]

_YEAR = r"[1-9][0-9]{3}"
_LEAP_YEAR = r"([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
_DATE = (
    rf"(({_YEAR})-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    r"|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    r"|02-(0[1-9]|1[0-9]|2[0-8]))"
    rf"|{_LEAP_YEAR}-02-29)"
)
_TIME = (
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
_DURATION_TIME = r"T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S)"
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?"
_HOST = rf"({_LABEL}\.){{1,4}}[a-z]{{2,10}}"
_H16 = r"[0-9a-f]{1,4}"
_PATH = r"(/[A-Za-z0-9._~-]{0,60}){0,10}"
_QUERY = r"(\?[A-Za-z0-9._~=&-]{0,200})?"

FORMAT_PATTERNS: dict[str, str] = {
    name: f"^{pattern}$"
    for name, pattern in {
        "date": _DATE,
        "time": _TIME,
        "date-time": f"{_DATE}T{_TIME}",
        "duration": rf"P([0-9]{{1,4}}D({_DURATION_TIME})?|{_DURATION_TIME})",
        "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "uuid1": r"[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "uuid3": r"[0-9a-f]{8}-[0-9a-f]{4}-3[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "uuid4": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "uuid5": r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "email": rf"[a-z0-9_]{{1,20}}([.+-][a-z0-9_]{{1,20}}){{0,3}}@{_HOST}",
        "hostname": _HOST,
        "ipv4": rf"{_BYTE}(\.{_BYTE}){{3}}",
        "ipv6": rf"({_H16}:){{7}}{_H16}",
        "uri": rf"https?://{_HOST}{_PATH}{_QUERY}",
    }.items()
}

# Said by schema generators about values that are strings all the same.
ANNOTATION_FORMATS = frozenset(
    {"binary", "password", "path", "file-path", "directory-path", "float", "double", "int64"}
)

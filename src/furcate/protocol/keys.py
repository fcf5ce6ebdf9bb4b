"""Files with the keys of a server and its clients. Knows what such a file says, not what a key
does."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Literal

from furcate.errors import UsageError

__all__ = ["KeyKind", "key_text", "parse_key", "read_key"]

KeyKind = Literal["public", "secret"]

MAX_FILE_BYTES = 4096
_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")  # Z85 of 32 bytes
_LINE = re.compile(rf"furcate (public|secret) key ({_KEY.pattern})")


def key_text(kind: KeyKind, key: str) -> str:
    """What a file says that holds the key."""
    return f"furcate {kind} key {key}\n"


def parse_key(text: str) -> tuple[KeyKind, str] | None:
    """Kind and key of a file that says this; None where it is no such file."""
    found = _LINE.fullmatch(text.strip())
    if found is None:
        return None
    return "public" if found[1] == "public" else "secret", found[2]


def read_key(source: str | os.PathLike[str], kind: KeyKind, option: str) -> str:
    """The key that `source` is (40 characters, Z85) or that the file of that name holds. `option`
    is what the user wrote it for, for errors. A secret key's file must be its owner's alone."""
    path = Path(source)
    if not path.is_file():
        if isinstance(source, str) and _KEY.fullmatch(source):
            return source
        raise UsageError(
            f"{option} is neither a file nor a key of 40 characters, got {str(source)!r}: "
            "`furcate keys new FOLDER` makes a set"
        )
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            found = parse_key(file.read(MAX_FILE_BYTES))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option}: the key file {str(path)!r} cannot be read: {error}") from error
    if found is None:
        raise UsageError(
            f"{option}: {str(path)!r} holds no key: `furcate keys new FOLDER` makes a set"
        )
    if found[0] != kind:
        raise UsageError(f"{option} must be a {kind} key; {str(path)!r} holds a {found[0]} one")
    if kind == "secret" and mode & 0o077:
        raise UsageError(
            f"{option}: the secret key {str(path)!r} has mode {mode:04o} and must be yours alone: "
            f"run `chmod 600 {path}`"
        )
    return found[1]

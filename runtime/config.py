"""Every option of the runtime, its default and its help; the only reader of FURCATE_ variables.

A component takes its own section, never the whole. Does not know what an option does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

import msgspec

from furcate.errors import UsageError

from .flags import PREFIX, Flag, Scalar, flags_of, nearest, option

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CacheConfig",
    "Config",
    "EngineConfig",
    "LogConfig",
    "ModelConfig",
    "ScheduleConfig",
    "ServerConfig",
    "SessionConfig",
    "config_flags",
    "from_json",
    "resolve",
    "to_json",
]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    name: str = option(
        "smollm2",
        "Model to serve: a name, the path of a .gguf file or of a transformers folder, or a name "
        "of the Hugging Face hub: org/name, org/name@revision, org/name:Q4_K_M.",
        flag="model",
    )
    long_rope: bool = option(
        False,
        "Serve a model with long rope up to its longest context. Positions are then told as in "
        "long texts from the first token on; otherwise contexts end where that would begin.",
    )
    matmul: Literal["auto", "int8", "bf16", "fp32"] = option(
        "auto",
        "Numbers that products are computed in, for every batch size. auto: int8 for weights that "
        "the file stores in blocks, with native kernels; else what this machine computes fastest.",
    )


@dataclass(frozen=True, slots=True)
class CacheConfig:
    page_size: int = option(16, "Tokens in a page of the KV cache.", least=1)
    kv_bytes: int = option(
        2**30, "Memory for the KV cache, such as 512MiB.", least=2**12, unit="bytes"
    )
    eviction: Literal["next-use", "lru"] = option(
        "next-use",
        "What leaves a full KV cache first. next-use: what its programs will not or may not use "
        "again, before what waits for a user or a tool, before what is due; lru: the least "
        "recently used.",
    )
    kv_dtype: Literal["auto", "bf16", "int8", "fp32"] = option(
        "auto",
        "Numbers that keys and values are stored in; auto: bf16, or what the reference computes "
        "in. int8 needs native kernels, fp32 the reference.",
    )


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    max_rows: int = option(64, "Streams that may be in one step.", least=1)
    budget_tokens: int = option(512, "Tokens that one step may compute.", least=1)
    policy: Literal["program", "fcfs", "longest-prefix"] = option(
        "program",
        "Which waiting stream runs next: program: deadlines, fair shares of tenants and programs, "
        "who holds up most; fcfs: the oldest; longest-prefix: of the oldest few, the one with most "
        "in the cache. Priorities come first in each.",
    )
    itl_ms: float = option(
        0.0,
        "Milliseconds that a step may take while somebody is decoding, by cutting prompts into "
        "smaller chunks; 0: as long as its tokens take.",
        least=0,
    )
    overlap: bool = option(
        True, "Plan a step while the one before it runs, where forwards have a thread of their own."
    )
    jump_forward: bool = option(True, "Take tokens that a constraint forces without sampling them.")
    pin_share: float = option(
        0.5, "Share of the KV cache that programs may pin together, up to 1.", least=0
    )
    check_invariants: bool = option(False, "Check every invariant after every step: slow.")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    threads: int = option(
        0,
        "Threads of a forward; 0: every core with native kernels, all but one with the reference.",
        least=0,
    )
    pin_threads: bool = option(False, "Keep each native thread on a core of its own.")
    kernels: Literal["auto", "avx512", "avx2", "portable", "reference"] = option(
        "auto",
        "Kernels to compute with: native ones of an instruction set, compiled at first use, or the "
        "reference in torch; auto takes the best that this machine has.",
    )


@dataclass(frozen=True, slots=True)
class ServerConfig:
    address: str | None = option(None, "Where to listen: ipc:// and the path of a socket.")
    socket_folder: str | None = option(
        None, "Folder for the socket where no address is given; it must be yours alone."
    )
    listen: str | None = option(
        None,
        "Further addresses to listen at, tcp://HOST:PORT, with commas between them; port 0 takes "
        "one that is free. Other than on this machine's own addresses it needs keys.",
    )
    server_key: str | None = option(
        None, "File of the server's secret key, as `furcate keys new` makes it."
    )
    client_keys: str | None = option(
        None, "Folder with the public keys of the clients that are let in over tcp."
    )
    resume_s: float = option(
        30.0,
        "Seconds that a client over tcp is waited for when its connection breaks; its programs "
        "run on meanwhile.",
        least=0,
    )
    held_bytes: int = option(
        16 * 2**20,
        "What is kept for a client that does not read; its programs fail when it is more.",
        least=2**12,
        unit="bytes",
    )
    max_programs: int = option(
        4096, "Programs that one client may have running; further ones wait there.", least=1
    )
    max_program_bytes: int = option(
        256 * 2**20,
        "Text and nodes that the running programs of one client may have together; further "
        "programs wait there.",
        least=2**12,
        unit="bytes",
    )
    replay: bool = option(
        True, "Start another engine process where one ends, and go on with all programs in it."
    )
    max_restarts: int = option(
        5, "Engine processes that may be started anew within the restart window.", least=0
    )
    restart_window_s: float = option(
        60.0, "Seconds over which restarts are counted; the server ends at one too many.", least=0
    )


@dataclass(frozen=True, slots=True)
class SessionConfig:
    max_sessions: int = option(
        1024, "Saved sessions that are kept; the least recently used go first.", least=1
    )
    session_bytes: int = option(
        256 * 2**20, "Memory for saved sessions, such as 256MiB.", least=2**10, unit="bytes"
    )
    session_ttl_s: float = option(
        3600.0, "Seconds that a session is kept after its last use, unless it was told.", least=0
    )


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = option(
        "warning", "Least serious log lines to print.", flag="log_level"
    )


@dataclass(frozen=True, slots=True)
class Config:
    model: ModelConfig = field(default_factory=ModelConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    sessions: SessionConfig = field(default_factory=SessionConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        for flag in config_flags():
            section, name = flag.path
            flag.check(getattr(getattr(self, section), name))


def config_flags() -> tuple[Flag, ...]:
    return flags_of(Config)


def resolve(options: Mapping[str, object], environ: Mapping[str, str]) -> Config:
    """The configuration of `options`, by flag name, then of the variables, then of the defaults.

    An option or a FURCATE_ variable that does not exist is an error, not ignored.
    """
    flags = {flag.name: flag for flag in config_flags()}
    for name in options:
        if name not in flags:
            raise UsageError(f"there is no option {name!r}: {nearest(name, flags)}")
    variables = {flag.variable: flag for flag in flags.values()}
    values: dict[str, Scalar] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        if variable not in variables:
            raise UsageError(
                f"the environment sets {variable!r}, which is no option of furcate: "
                f"{nearest(variable, variables)} Correct or unset it."
            )
        flag = variables[variable]
        values[flag.name] = flag.read(text, variable)
    for name, value in options.items():
        values[name] = flags[name].check(value)
    return _build(values)


def to_json(config: Config) -> bytes:
    """For another process of the same version."""
    return msgspec.json.encode(config)


def from_json(text: bytes) -> Config:
    return msgspec.json.decode(text, type=Config)


def _build(values: Mapping[str, Scalar]) -> Config:
    sections: dict[str, dict[str, Scalar]] = {section.name: {} for section in fields(Config)}
    for flag in config_flags():
        if flag.name in values:
            section, name = flag.path
            sections[section][name] = values[flag.name]
    return msgspec.convert(sections, Config)

"""The compile worker: `python -m furcate.runtime.constrain.worker`, one job at a time over pipes.

A process, because a thread cannot be killed and an engine's crash must cost one request. It limits
its own CPU time and memory, is nice to the engine process, and goes when its parent goes. It proves
what it compiles. It knows a vocabulary, no tokenizer and no model.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING

import msgspec

from furcate.errors import ConstraintError

from .channel import Compiled, Job, Refused, Setup, read_frame, write_frame
from .lean_import import import_xgrammar

if TYPE_CHECKING:
    from typing import BinaryIO

    from .channel import Reply
    from .grammar import Toolkit

__all__ = ["FULL_IMPORTS", "main"]

FULL_IMPORTS = "--full-imports"
_NICENESS = 10
_PR_SET_PDEATHSIG = 1


class _SentVocabulary:
    """The vocabulary as it came over the pipe; implements `Vocabulary` for compiling."""

    def __init__(self, setup: Setup) -> None:
        self.table = setup.table
        self.control_ids: frozenset[int] = frozenset()  # blank already
        self.fingerprint = setup.fingerprint

    def encode(self, text: str) -> list[int]:
        raise AssertionError(f"a compile worker does not tokenize, asked to for {text[:80]!r}")


def main() -> None:
    incoming, outgoing = _take_pipes()
    frame = read_frame(incoming)
    if frame is None:
        return
    setup = msgspec.msgpack.decode(frame, type=Setup)
    _die_with_parent(setup.parent_pid)
    os.nice(_NICENESS)
    toolkit = _build(setup)
    _limit_memory(setup.memory_bytes)
    write_frame(outgoing, b"")  # started
    while (frame := read_frame(incoming)) is not None:
        job = msgspec.msgpack.decode(frame, type=Job)
        signal.setitimer(signal.ITIMER_PROF, setup.cpu_s)  # SIGPROF ends the process
        reply = _compile(job, toolkit)
        signal.setitimer(signal.ITIMER_PROF, 0)
        write_frame(outgoing, msgspec.msgpack.encode(reply))


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes, kept apart from the engines, which print to standard output and error."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 1)
    return incoming, outgoing


def _die_with_parent(parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it went before we asked
        os._exit(0)


def _build(setup: Setup) -> Toolkit:
    from .grammar import Toolkit
    from .vocabulary import EngineVocabulary

    vocabulary = EngineVocabulary(_SentVocabulary(setup), setup.vocab_size)
    # Both now, so that the memory limit counts from here.
    _ = vocabulary.xgrammar, vocabulary.llguidance, vocabulary.text_mask
    return Toolkit(vocabulary)


def _limit_memory(extra_bytes: int) -> None:
    """Limits the address space to what is in use and `extra_bytes`; no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        limit = used + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _compile(job: Job, toolkit: Toolkit) -> Reply:
    from .compile import compile_proved
    from .recipe import prepare

    try:
        recipe = prepare(job.constraint)
        serialized = compile_proved(recipe, toolkit).serialize()
    except ConstraintError as error:
        return Refused(str(error), error.pointer)
    except (MemoryError, RecursionError) as error:
        return Refused(f"the constraint is too complex to compile: {error!r}; simplify it", None)
    return Compiled(recipe, serialized)


def _import_engines() -> None:
    """Without what a compiler does not need, unless the engine turns out to need it."""
    if FULL_IMPORTS in sys.argv:
        return
    try:
        import_xgrammar()
    except Exception:
        command = [sys.executable, "-P", "-m", "furcate.runtime.constrain.worker", FULL_IMPORTS]
        os.execv(sys.executable, command)


if __name__ == "__main__":
    _import_engines()
    main()

"""The engine process: `python -m furcate.runtime.server.engine SOCKET PARENT`.

Standard input brings the configuration as one line of JSON and stays open: its end means that the
front is gone. What goes wrong is written to standard output as one line of JSON, for the front to
tell; everything else that prints goes to standard error. Started by the front only.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from furcate.errors import FurcateError
from furcate.runtime.config import from_json
from furcate.runtime.log import set_up
from furcate.runtime.progress import terminal_bar
from furcate.runtime.transport.context import open_context
from furcate.runtime.transport.link import EngineEnd

from .engine_loop import run_engine
from .flight_log import FlightLog, flight_log_path

if TYPE_CHECKING:
    from .engine_loop import Steps

__all__ = ["Report", "main"]

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005  # a native call that returns waits at most this long for the interpreter
STOP_GRACE_S = 1.0
PR_SET_PDEATHSIG = 1


class Report(msgspec.Struct, frozen=True):
    """Why the engine ended, or never began. `code` is that of an error of the tree."""

    code: str
    message: str


def main(arguments: list[str]) -> int:
    socket, parent = arguments
    _die_with(int(parent))
    report_fd = _keep_standard_output()
    config = from_json(sys.stdin.buffer.readline())
    set_up(config.log, "engine")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    link = EngineEnd(open_context(), Path(socket))
    threading.Thread(target=_watch_front, args=(link,), daemon=True).start()
    scheduler: Steps | None = None
    try:
        # Here, not above: it takes a second, and whoever is asked to stop must not wait for it.
        from .build import build_scheduler

        flights = FlightLog(flight_log_path(Path(socket)), config.schedule.max_rows)
        scheduler = build_scheduler(config, link.wake, launch_log=flights, bar=terminal_bar)
        run_engine(scheduler, link)
        return 0
    except Exception as error:
        expected = isinstance(error, FurcateError)
        if not expected or scheduler is not None:
            log.exception("the engine has failed")
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        code = error.code if isinstance(error, FurcateError) else "backend"
        os.write(report_fd, msgspec.json.encode(Report(code, message)) + b"\n")
        return 1
    finally:
        if scheduler is not None:
            scheduler.close()
        link.close()


def _die_with(parent: int) -> None:
    """Asks the kernel to end this process when the front's ends, however that ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def _keep_standard_output() -> int:
    """The descriptor for the report; print() and libraries write to standard error from here on."""
    report_fd = os.dup(1)
    os.dup2(2, 1)
    return report_fd


def _watch_front(link: EngineEnd) -> None:
    while os.read(0, 4096):
        pass
    link.stop()
    time.sleep(STOP_GRACE_S)
    os._exit(1)  # a step that does not end must not keep the process


if __name__ == "__main__":
    status = main(sys.argv[1:])
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)  # nothing is left to do, and no library's clean-up may hold it up

"""How commands speak on the standard error, and how they end."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import structlog

from inspectd.runtime.errors import (
    DeviceError,
)
from inspectd.runtime.log import Stderr, never_wait

LOG = Stderr()


def leave(code: int) -> NoReturn:
    """End the process with an exit code.

    At once where a tidy way out could crash or wait for ever: for what is left of TensorRT on a lost GPU, for a
    thread that hangs in a library.
    """
    at_work = [thread for thread in threading.enumerate() if thread not in (threading.main_thread(), LOG.thread)]
    if code == DeviceError.exit_code or at_work:
        LOG.goodbye()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, or never there
                stream.flush()
        os._exit(code)
    sys.exit(code)


def never_wait_for_readers(stdout: bool) -> None:
    """Let no thread of this process wait for who reads its standard error, or its standard output if `stdout`."""
    sys.stderr = LOG
    for fd in (1, 2) if stdout else (2,):
        never_wait(fd)


def log_to_stderr(level: int) -> None:
    """Log from this level on to the standard error, for people."""
    processors: list[Callable[..., Any]] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S"),
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr is not None and sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(LOG),  # type: ignore[arg-type]  # all it needs of a file
    )

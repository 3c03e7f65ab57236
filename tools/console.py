"""How the commands speak: a user's mistake ends in one sentence and an exit code, never in a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import typer
from rich.console import Console

from inspectd.errors import UserError

INTERRUPTED = 130
"""128 + SIGINT, as shells count."""
say = Console(stderr=True)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turns the errors of a command into its last line and its exit code; warnings stay out of its output."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        yield
    except UserError as error:
        _last_line(str(error))
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _last_line(f"{name}{error.strerror or error}")
        raise typer.Exit(UserError.exit_code) from None
    except MemoryError:
        _last_line("out of memory; free some, or take fewer or smaller pictures")
        raise typer.Exit(UserError.exit_code) from None
    except KeyboardInterrupt:
        _last_line("interrupted")
        raise typer.Exit(INTERRUPTED) from None


def _last_line(sentence: str) -> None:
    say.print(sentence, soft_wrap=True, markup=False, highlight=False)

"""What the commands have in common: options, and how they speak.

A user's mistake ends in one sentence and an exit code, never in a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from inspectd.runtime.errors import UserError
from inspectd_train.memory import out_of_memory

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 + SIGINT, as shells count."""
UNPROVEN = 3
"""The exit code where a bundle was written, and nobody knows whether its network finds anything."""
say = Console(stderr=True)
ALL_THREADS = len(os.sched_getaffinity(0))

DataSetFolder = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Folder with images/, masks/, classes.json and a split file.")
]
SplitFile = Annotated[str, typer.Option(help="Split file in the data set folder.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]
PartPx = Annotated[
    str, typer.Option("--part", metavar="WxH", help="A part is a crop of W x H px; otherwise the whole picture.")
]
Json = Annotated[bool, typer.Option("--json", help="Print figures as JSON, nothing else.")]


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
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        _last_line("out of memory; free some, or take fewer or smaller pictures")
        raise typer.Exit(UserError.exit_code) from None
    except KeyboardInterrupt:
        _last_line("interrupted")
        raise typer.Exit(INTERRUPTED) from None


def _last_line(sentence: str) -> None:
    say.print(sentence, soft_wrap=True, markup=False, highlight=False)


def part_px(words: str, bundle: Path | None = None) -> tuple[int, int] | None:
    """Reads `512x384` as width and height; empty: what the bundle was trained for; `whole`: the whole picture."""
    if not words and bundle is not None:
        from inspectd_train.bundle.trained import trained_part_px

        return trained_part_px(bundle)
    if words in ("", "whole"):
        return None
    from inspectd_train.data.dataset import SMALLEST_PX

    return size_px("--part", words, SMALLEST_PX, ", or whole")


def size_px(option: str, words: str, least: int, else_: str = "") -> tuple[int, int]:
    """Reads `512x384` as width and height of at least so many px; `else_` says what may be given instead."""
    try:
        width, height = (int(word) for word in words.lower().split("x"))
    except ValueError:
        raise UserError(f"{option} {words}: want WIDTHxHEIGHT in px, as 512x384{else_}") from None
    if min(width, height) < least:
        raise UserError(f"{option} {words}: {least} x {least} px is the least")
    return width, height

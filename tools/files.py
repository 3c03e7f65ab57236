"""Writes a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from inspectd.runtime.errors import UserError
from inspectd.runtime.locks import LockFile, holder

LOCK = ".lock"


def replace(file: Path, content: bytes) -> None:
    """Replaces a file in one step; OSError (a full disk) leaves the old one, and nothing beside it."""
    beside = file.with_name(f"{file.name}.part")
    try:
        write_through(beside, content)
        beside.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def write_through(file: Path, content: bytes) -> None:
    """Writes a file down to the disk, so that a full one shows now and a power cut can't leave less; OSError."""
    with file.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def write_text(file: Path, text: str) -> None:
    """Replaces a text file in one step; UserError when the disk refuses."""
    try:
        replace(file, text.encode())
    except OSError as error:
        raise UserError(
            f"{file}: can't be written ({error.strerror or error}); free space or choose another folder"
        ) from None


@contextlib.contextmanager
def held_alone(folder: Path) -> Iterator[None]:
    """Keeps other commands from writing into the bundle that holds `folder`; UserError while one of them does.

    The folder is made, and away again afterwards where nothing was put into it.
    """
    made = [path for path in (folder, folder.parent) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK
    try:
        lock = LockFile(file)
    except BlockingIOError:
        raise UserError(
            f"{folder.parent}: process {holder(file)} is writing this bundle; wait until it ends, or choose "
            "another folder"
        ) from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.close()
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()

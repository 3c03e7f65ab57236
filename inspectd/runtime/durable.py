"""Files that are on the disk when a call returns, or the call raises. All may wait for the disk."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from inspectd.runtime.errors import UserError

ROOM = 16 * 1024
"""Bytes by which the audit log must be able to grow when a change is begun: for its lines, and the selection."""


class UnwritableError(UserError):
    """A file that must be on the disk before a change could not be written."""


def open_regular(path: Path, flags: int) -> int:
    """Open a file, and give its descriptor; raises OSError, also for a FIFO, which may wait for ever."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file")
    return fd


def read_regular(path: Path) -> bytes:
    """Read a file whole; raises OSError as `open_regular`."""
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        return file.read()


def write_synced(path: Path, data: bytes, mode: int) -> None:
    """Write and sync `data`, or raise OSError and append nothing. Without data: check that there is room."""
    fd = open_regular(path, os.O_WRONLY | os.O_CREAT | mode)
    try:
        size = os.fstat(fd).st_size
        try:
            if not data:
                os.posix_fallocate(fd, size, ROOM)
                os.ftruncate(fd, size)
                return
            if os.write(fd, data) != len(data):
                raise OSError(0, "the disk is full")
            os.fsync(fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Have what was made or renamed in a folder on the disk; raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

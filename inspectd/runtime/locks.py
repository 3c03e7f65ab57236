"""Lock files: each is held by one process at a time, and made anew where somebody deletes it."""

import fcntl
import os
from pathlib import Path

import structlog

log = structlog.get_logger()


class LockFile:
    """A lock, held from the making of this object until `close`, or until the process ends. For one thread."""

    def __init__(self, path: Path) -> None:
        """Take the lock; raises BlockingIOError if another process holds it, OSError if the file can't be made."""
        self.trouble = ""
        """What became of the lock, a sentence; empty: it is ours."""
        self._path = path
        self._fd = _take(path)

    def look(self) -> None:
        """Look whether the file still lies there; if not, make it anew and lock it. Logs what it finds once."""
        if is_at(self._fd, self._path):
            self.trouble = ""
            return
        try:
            fd = _take(self._path)
        except BlockingIOError:
            trouble = (
                f"the lock {self._path} was deleted, and process {holder(self._path)} holds it now: end that one"
            )
        except OSError as error:
            trouble = f"the lock {self._path} was deleted, and can't be made again: {error.strerror}"
        else:
            os.close(self._fd)
            self._fd, trouble = fd, ""
            log.warning("a lock was deleted: it is made anew", path=str(self._path))
        if trouble and trouble != self.trouble:
            log.error(trouble)
        self.trouble = trouble

    def close(self) -> None:
        """Let go of the lock; its file stays."""
        os.close(self._fd)


def holder(path: Path) -> str:
    """Number of the process that holds a lock, as it has written it there; `?` if it can't be read."""
    try:
        return path.read_text(errors="replace")[:32].strip() or "?"
    except OSError:
        return "?"


def held_by(path: Path) -> str:
    """Number of the process that holds a lock, `?` if it has not said; empty if nobody does, or it can't be told.

    It is asked for by a lock that is shared, for a moment, so as to be in nobody's way for long.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder(path)
    except OSError:
        return ""
    return ""


def is_at(fd: int, path: Path) -> bool:
    """Whether an open file lies at a path."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


def _take(path: Path) -> int:
    """Open and lock a file; gives its descriptor."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(fd, path):  # else it was deleted between the two
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd
        except OSError:
            os.close(fd)
            raise
        os.close(fd)

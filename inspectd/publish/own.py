"""One owner for each path of a Unix socket."""

import fcntl
import os
from pathlib import Path

from inspectd.errors import UnavailableError


def own_path(path: Path, named: str) -> int:
    """Hold a socket's path for us alone, by a lock beside it; returns the descriptor that holds it.

    The lock goes with the process, the socket's file stays: who has the lock may replace that. `named` is the key
    of the config and its value, for the sentence. Raises UnavailableError if another daemon has the path.
    """
    try:
        fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        reason = f"its folder {path.parent} can't be used: {error.strerror}"
        raise UnavailableError(f"{named} can't be bound: {reason}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UnavailableError(f"{named} is in use by another daemon; give each line its own") from None
    return fd

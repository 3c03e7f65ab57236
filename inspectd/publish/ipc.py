"""Unix sockets: their path is ours alone, and their files say who may connect."""

import fcntl
import os
import stat
from pathlib import Path

import structlog

from inspectd.runtime.errors import UnavailableError

log = structlog.get_logger()
SOCKET_MODE = 0o660
"""The owner and the group may connect; which group that is, the folder decides if its setgid bit is set."""
FOLDER_MODE = 0o750


def own_path(path: Path, named: str) -> int:
    """The descriptor that holds this path for us alone; `named`: the config's key and its value, for errors.

    Raises UnavailableError. libzmq would take the path away from whoever uses it, without an error on either side.
    """
    try:
        _make_folder(path.parent)
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


def open_to_group(path: Path) -> None:
    """After `bind`: whatever the umask is, owner and group may connect and nobody else."""
    path.chmod(SOCKET_MODE)


def _make_folder(folder: Path) -> None:
    """One level is made, owner and group only; of one that is there we warn, as tests and trials may use /tmp."""
    try:
        folder.mkdir(FOLDER_MODE)
    except FileExistsError:
        if folder.stat().st_mode & stat.S_IWOTH:
            log.warning("any user here can put a socket of his own in the place of ours", folder=str(folder))
    else:
        folder.chmod(FOLDER_MODE)  # the umask may have taken more away

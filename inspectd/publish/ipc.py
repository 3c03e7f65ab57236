"""Unix sockets: their path is ours alone, and their files say who may connect."""

import fcntl
import os
import stat
from pathlib import Path

import structlog

from inspectd.runtime.errors import UnavailableError

log = structlog.get_logger()
SOCKET_MODE = 0o660
"""Mode of a socket's file: owner and group may connect; a folder with setgid bit decides which group."""
FOLDER_MODE = 0o750


def own_path(path: Path, named: str) -> int:
    """Lock a path for us alone; gives the descriptor that holds it. `named`: the config's key and value.

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
    """Let owner and group connect and nobody else, whatever the umask is. Called after `bind`."""
    path.chmod(SOCKET_MODE)


def _make_folder(folder: Path) -> None:
    """Make one level of folder, owner and group only; warn of an open one that exists: tests may use /tmp."""
    try:
        folder.mkdir(FOLDER_MODE)
    except FileExistsError:
        if folder.stat().st_mode & stat.S_IWOTH:
            log.warning("any user here can put a socket of his own in the place of ours", folder=str(folder))
    else:
        folder.chmod(FOLDER_MODE)  # the umask may have taken more away

"""Unix sockets: their path is ours alone, their files say who may connect, and are missed when they are gone."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import structlog

from inspectd.runtime.errors import UnavailableError
from inspectd.runtime.locks import LockFile

log = structlog.get_logger()
SOCKET_MODE = 0o660
"""Mode of a socket's file: owner and group may connect; a folder with setgid bit decides which group."""
FOLDER_MODE = 0o750


class OwnPath:
    """The path of a Unix socket, ours alone as long as its lock is held. For one thread."""

    def __init__(self, path: Path, named: str) -> None:
        """`named`: the config's key and value. Raises UnavailableError if another daemon has the path.

        libzmq would take it away from whoever uses it, without an error on either side.
        """
        self.trouble = ""
        """Why nobody can connect any more, a sentence; empty: the socket is there."""
        self._path, self._named = path, named
        self._file: os.stat_result | None = None
        try:
            _make_folder(path.parent)
            self._lock = LockFile(Path(f"{path}.lock"))
        except BlockingIOError:
            raise UnavailableError(f"{named} is in use by another daemon; give each line its own") from None
        except OSError as error:
            reason = f"its folder {path.parent} can't be used: {error.strerror}"
            raise UnavailableError(f"{named} can't be bound: {reason}") from None

    def note(self) -> None:
        """Let owner and group connect, and know the file again. Called right after a bind."""
        open_to_group(self._path)
        self._file = self._path.lstat()

    def look(self, bind: Callable[[], None]) -> None:
        """Look whether the socket's file still lies there; if not, `bind` makes it anew. Logs what it finds."""
        trouble = self._look(bind)
        if trouble and trouble != self.trouble and not self._lock.trouble:  # the lock has said its own
            log.error(trouble)
        self.trouble = trouble

    def _look(self, bind: Callable[[], None]) -> str:
        try:
            if not self._path.parent.exists():
                _make_folder(self._path.parent)
            self._lock.look()
            if self._lock.trouble:
                return f"{self._named}: {self._lock.trouble}"
            if self._is_there():
                return ""
            if not _is_free(self._path):
                return f"{self._named}: its file was deleted, and something else lies there now: remove that"
            bind()
            self.note()
        except (OSError, UnavailableError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            return f"{self._named}: its file was deleted, and it can't be bound again: {reason}"
        log.error(
            "a socket's file was deleted: it is bound again, for who connects from now on", socket=self._named
        )
        return ""

    def _is_there(self) -> bool:
        try:
            return self._file is not None and os.path.samestat(self._file, self._path.lstat())
        except FileNotFoundError:
            return False

    def hide(self) -> None:
        """Delete the socket's file, if it is still ours: nobody else can connect until it is bound again."""
        if self._is_there():
            self._path.unlink()

    def close(self) -> None:
        """Let go of the path; nothing is deleted."""
        self._lock.close()


def open_to_group(path: Path) -> None:
    """Let owner and group connect and nobody else, whatever the umask is. Called after `bind`."""
    path.chmod(SOCKET_MODE)


def _is_free(path: Path) -> bool:
    """Whether nothing lies at a path, or a socket that nobody listens at."""
    if not path.is_socket():
        return not os.path.lexists(path)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:  # it listens: its queue is full, or its type another
            return False
    return False


def _make_folder(folder: Path) -> None:
    """Make one level of folder, owner and group only; warn of an open one that exists: tests may use /tmp."""
    try:
        folder.mkdir(FOLDER_MODE)
    except FileExistsError:
        if folder.stat().st_mode & stat.S_IWOTH:
            log.warning("any user here can put a socket of his own in the place of ours", folder=str(folder))
    else:
        folder.chmod(FOLDER_MODE)  # the umask may have taken more away

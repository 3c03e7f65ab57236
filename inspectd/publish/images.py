"""The read-only image socket: a reader that connects gets the rings' descriptors, and looks for itself.

The daemon neither copies a picture nor waits for a reader, and no reader holds a slot. After the greeting nothing
more is said; the connection stays open so that its end shows the reader that the daemon, and its rings, are gone.
"""

import errno
import fcntl
import os
import select
import socket
import struct
import termios
from collections.abc import Mapping
from pathlib import Path

import structlog
from msgspec import json

from inspectd.publish.ipc import OwnPath, open_to_group
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import UnavailableError
from inspectd.runtime.ring import PAGE, Ring
from inspectd.wire.images import Greeting, RingView

log = structlog.get_logger()
MAX_READERS = 32
MAX_UNREAD = 512
"""Most descriptors that are sent and not received yet. The kernel counts them for our user: above RLIMIT_NOFILE
(1024 by default) it would let us send none at all, to a new camera process neither."""
BACKLOG = 64
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of `accept` that last until somebody gives something back."""
RETRY_NS = 1_000_000_000
"""Nanoseconds until it is tried again to take a reader after one of these."""


class ImageServer:
    """The service of the image socket; bound by its maker, then used by the publish thread alone."""

    def __init__(self, path: Path, line: str, rings: Mapping[str, Ring]) -> None:
        self._path = path
        self._own = OwnPath(path, f"publish.images: {path}")
        self._readers: list[socket.socket] = []
        self._max_readers = max(1, min(MAX_READERS, MAX_UNREAD // max(1, len(rings))))
        self._is_full = False
        self.counts = {"images_greeted": 0, "images_refused": 0}
        self._is_mute, self._retry_ns = False, 0
        try:
            self._listener = _listen(path)
            self._own.note()
            self._waker = select.epoll()
        except (UnavailableError, OSError) as error:
            self._own.close()
            if isinstance(error, OSError):
                raise UnavailableError(f"publish.images: {path} can't be bound: {error.strerror}") from None
            raise
        self._waker.register(self._listener, select.EPOLLIN)
        self._fds = [_read_only(ring) for ring in rings.values()]
        views = {name: _view(number, ring) for number, (name, ring) in enumerate(rings.items())}
        self._greeting = json.encode(Greeting(line=line, cameras=views))
        why = f"{self._max_readers} readers of pictures are connected already"
        self._refusal = json.encode(Greeting(line=line, error=why))

    def sockets(self) -> list[int]:
        """What to poll: it wakes when somebody connects; readers have nothing to say."""
        return [self._waker.fileno()]

    @property
    def busy(self) -> bool:
        """Whether it is time to try again to take a reader for whom there was no descriptor."""
        return self._is_mute and now_ns() >= self._retry_ns

    def look(self) -> str:
        """Look whether the socket's file is still there, and bind again if not; gives what is wrong."""
        self._own.look(self._bind_again)
        return self._own.trouble

    def _bind_again(self) -> None:
        """Put another listening socket in the place of the one whose file is gone."""
        with _listen(self._path) as fresh:
            os.dup2(fresh.fileno(), self._listener.fileno(), inheritable=False)
        if not self._is_mute:
            self._waker.register(self._listener, select.EPOLLIN)  # the kernel has forgotten the one before

    def serve(self) -> bool:
        """Greet one reader that has connected; False if there is none. Never blocks."""
        try:
            reader, _ = self._listener.accept()
        except OSError as error:  # the reader is gone again, or there is no descriptor for it
            self._mute(error.errno in FULL, error)
            return False
        self._mute(False)
        reader.setblocking(False)
        self._sweep()
        is_full = len(self._readers) >= self._max_readers
        if is_full and not self._is_full:
            log.warning("no more readers of pictures are taken", readers=len(self._readers))
        self._is_full = is_full
        try:
            if is_full:
                reader.send(self._refusal)
            else:
                socket.send_fds(reader, [self._greeting], self._fds)
        except OSError:  # the reader is gone again: a new socket has room for the packet
            is_full = True
        self.counts["images_refused" if is_full else "images_greeted"] += 1
        if is_full:
            reader.close()
        else:
            self._readers.append(reader)
        return True

    def _mute(self, is_mute: bool, error: OSError | None = None) -> None:
        """Stop being woken by who waits to be taken, until it is time to try again; or go on."""
        if is_mute:
            self._retry_ns = now_ns() + RETRY_NS
        if is_mute == self._is_mute:
            return
        self._is_mute = is_mute
        if error is not None:
            log.error("readers of pictures can't be taken now", problem=error.strerror)
            self._waker.unregister(self._listener)
        else:
            self._waker.register(self._listener, select.EPOLLIN)

    def close(self) -> None:
        """Close all connections, whose end the readers see, and the socket."""
        for reader in self._readers:
            reader.close()
        self._waker.close()
        self._listener.close()
        self._own.hide()
        for fd in self._fds:
            os.close(fd)
        self._own.close()

    def _sweep(self) -> None:
        """Close the connections whose other end is closed and has nothing unread.

        A reader whose end is only shut down may leave the greeting, with its descriptors, unread without end: it
        counts.
        """
        poll = select.poll()
        for reader in self._readers:
            poll.register(reader, 0)  # POLLHUP is reported in any case
        ended = {fd for fd, _ in poll.poll(0)}
        gone = [reader for reader in self._readers if reader.fileno() in ended and not _unread(reader)]
        self._readers = [reader for reader in self._readers if reader not in gone]
        for reader in gone:
            reader.close()


def _listen(path: Path) -> socket.socket:
    """Bind and listen, replacing what a dead daemon left. Only for the holder of the path's lock."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        if path.is_socket():
            path.unlink()
        listener.bind(str(path))
        open_to_group(path)  # before `listen`: until then nobody can connect
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise UnavailableError(f"publish.images: {path} can't be bound: {reason}") from None
    return listener


def _read_only(ring: Ring) -> int:
    """A second descriptor of the ring, which can't be written, mapped for writing, or reopened so by another user.

    A memfd is born with mode 0777: whoever has any descriptor of it could open it again, for writing.
    """
    os.fchmod(ring.fd, 0o440)
    return os.open(f"/proc/self/fd/{ring.fd}", os.O_RDONLY | os.O_CLOEXEC)


def _view(number: int, ring: Ring) -> RingView:
    return RingView(number, ring.count, os.fstat(ring.fd).st_size // ring.count, PAGE)


def _unread(reader: socket.socket) -> int:
    """Bytes of memory of what was sent to a reader and not received."""
    (count,) = struct.unpack("=i", fcntl.ioctl(reader, termios.TIOCOUTQ, bytes(4)))
    return int(count)

"""The read-only image socket: a reader that connects gets the rings' descriptors, and looks for itself.

The daemon neither copies a picture nor waits for a reader, and no reader holds a slot. After the greeting nothing
more is said; the connection stays open so that its end shows the reader that the daemon, and its rings, are gone.
"""

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

from inspectd.publish.ipc import open_to_group, own_path
from inspectd.runtime.errors import UnavailableError
from inspectd.runtime.ring import PAGE, Ring
from inspectd.wire.images import Greeting, RingView

log = structlog.get_logger()
MAX_READERS = 32
MAX_UNREAD = 512
"""Most descriptors that are sent and not received yet. The kernel counts them for our user: above RLIMIT_NOFILE
(1024 by default) it would let us send none at all, to a new camera process neither."""
BACKLOG = 64


class ImageServer:
    """The service of the image socket; bound by its maker, then used by the publish thread alone."""

    busy = False

    def __init__(self, path: Path, line: str, rings: Mapping[str, Ring]) -> None:
        self._path = path
        self._lock = own_path(path, f"publish.images: {path}")
        self._readers: list[socket.socket] = []
        self._max_readers = max(1, min(MAX_READERS, MAX_UNREAD // max(1, len(rings))))
        self._is_full = False
        self.counts = {"images_greeted": 0, "images_refused": 0}
        try:
            self._listener = _listen(path)
        except UnavailableError:
            os.close(self._lock)
            raise
        self._fds = [_read_only(ring) for ring in rings.values()]
        views = {name: _view(number, ring) for number, (name, ring) in enumerate(rings.items())}
        self._greeting = json.encode(Greeting(line=line, cameras=views))
        why = f"{self._max_readers} readers of pictures are connected already"
        self._refusal = json.encode(Greeting(line=line, error=why))

    def sockets(self) -> list[int]:
        """What to poll: the listening socket alone, as readers have nothing to say."""
        return [self._listener.fileno()]

    def serve(self) -> bool:
        """Greet one reader that has connected; False if there is none. Never blocks."""
        try:
            reader, _ = self._listener.accept()
        except OSError:  # the reader is gone again
            return False
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

    def close(self) -> None:
        """Close all connections, whose end the readers see, and the socket."""
        for reader in self._readers:
            reader.close()
        self._listener.close()
        self._path.unlink(missing_ok=True)
        for fd in self._fds:
            os.close(fd)
        os.close(self._lock)

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

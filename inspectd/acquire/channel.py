"""The daemon's socket to a camera process, and the slots of the ring that are lent over it."""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from inspectd.acquire.protocol import FromCamera, Slot, ToCamera
from inspectd.runtime.slots import SlotPool

MAX_PACKET = 65536


class Channel:
    """There is a camera process between `attach` and `detach`. For any thread; only one reads."""

    def __init__(self, slots: int) -> None:
        self._pool, self._lock = SlotPool(slots), threading.Lock()
        self._sock: socket.socket | None = None
        self._keeps = False  # slots lent stay so: who has them is given up, and not dead
        self._decoder = msgspec.msgpack.Decoder(FromCamera)

    def fileno(self) -> int:
        """The socket to poll; -1 while there is no camera process."""
        return -1 if self._sock is None else self._sock.fileno()

    @property
    def is_idle(self) -> bool:
        """Whether there is no camera process, and no slot is needed any more."""
        with self._lock:
            return self._sock is None and self._pool.in_use == 0

    def attach(self, sock: socket.socket, first: Sequence[ToCamera]) -> None:
        """A new camera process: send it these messages, then lend it every free slot."""
        sock.setblocking(False)
        with self._lock:
            self._sock = sock
            for message in first:
                self._send(message)
            while (slot := self._pool.lend()) is not None:
                self._send(Slot(slot))

    def detach(self) -> tuple[list[int], bool]:
        """There is no camera process from now on; returns the slots it had, and whether they are free again."""
        with self._lock:  # at once: a slot given back meanwhile must not be lent to the dead
            if self._sock is not None:
                self._sock.close()
            self._sock = None
            return (self._pool.lent, False) if self._keeps else (self._pool.reclaim(), True)

    def give_up(self) -> bool:
        """Let the connection end, after what was said: the process is killed and not dead. Its slots stay lent
        until it `is_gone`. Returns False if that was done before.
        """
        with self._lock:
            was_kept, self._keeps = self._keeps, True
            self._shut()
            return not was_kept

    def is_gone(self) -> list[int]:
        """The process is dead: the connection ends after what was said, whoever holds its other end. Returns the
        slots that it had kept, which are free again.
        """
        with self._lock:
            self._keeps = False
            self._shut()
            return self._pool.reclaim() if self._sock is None else []

    def _shut(self) -> None:
        if self._sock is not None:
            with suppress(OSError):  # nobody at the other end any more
                self._sock.shutdown(socket.SHUT_RD)

    def send(self, message: ToCamera) -> bool:
        """Send a message; False if there is no camera process. Whether one that is dying reads it is not known."""
        with self._lock:
            if self._sock is None:
                return False
            self._send(message)
            return True

    def receive(self) -> FromCamera | None:
        """The next message, None at the end of the connection; raises BlockingIOError if there is none yet."""
        while True:
            if self._sock is None:
                raise BlockingIOError
            try:
                packet = self._sock.recv(MAX_PACKET)
            except ConnectionResetError:
                continue  # it died with slots unread; what it had said is still to be read
            return self._decoder.decode(packet) if packet else None

    def take(self, slot: int) -> None:
        """The camera process has handed a filled slot over; ValueError for one it does not own."""
        with self._lock:
            self._pool.receive(slot)

    def give_back(self, slot: int) -> None:
        """A slot is not needed any more: it goes to the end of the queue, and the oldest free one is lent."""
        with self._lock:
            self._pool.give_back(slot)
            if self._sock is not None and (oldest := self._pool.lend()) is not None:
                self._send(Slot(oldest))

    def _send(self, message: ToCamera) -> None:
        assert self._sock is not None
        try:
            self._sock.send(msgspec.msgpack.encode(message))
        except OSError:
            pass  # the process died: its slots are reclaimed when the reader comes to the end of the connection

"""What the publish thread serves between two results, and the least of these services: new subscriptions."""

from collections.abc import Sequence
from typing import Protocol

import zmq


class Service(Protocol):
    """Something that the publish thread serves between two results."""

    @property
    def counts(self) -> dict[str, int]:
        """Counts for the heartbeat."""

    @property
    def busy(self) -> bool:
        """Whether there is work left that no message will wake the loop for."""

    def sockets(self) -> Sequence["zmq.Socket[bytes] | int"]:
        """Sockets and descriptors that wake the loop; always the same."""

    def serve(self) -> bool:
        """Take at most one message, or one step of about a millisecond; never blocks. False if there was none."""

    def close(self) -> None:
        """Let go of everything but the sockets, which their opener closes."""


class Subscriptions:
    """The service that reads subscriptions: an XPUB takes in a new subscriber only when it is read."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket, self.counts, self.busy = socket, dict[str, int](), False

    def sockets(self) -> Sequence["zmq.Socket[bytes] | int"]:
        """What to poll: the results socket."""
        return [self._socket]

    def serve(self) -> bool:
        """Take one subscription; False if there was none."""
        try:
            self._socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

"""Handshakes that fail: seen by a monitor on each encrypted socket, counted, and logged without flooding the log.

The ZAP handler reports a refused key, as it knows the peer's address. Of what fails before it (another protocol,
the wrong server key, a plain client) libzmq names only the descriptor of the connection, and only when it is
accepted and when it ends: the peer's address is looked up at once, and is unknown if it is closed by then.
"""

import ctypes
import socket
import sys
from collections.abc import Mapping
from typing import Any

import structlog
import zmq
from zmq.utils.monitor import parse_monitor_message

from inspectd.runtime.clock import now_ns

log = structlog.get_logger()
EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
AUTH, PROTOCOL, NO_DETAIL = "auth", "protocol", "no_detail"
FAILED = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: NO_DETAIL,
}
WHY = {
    PROTOCOL: "it does not speak our protocol, has no key, or has another server's",
    NO_DETAIL: "it has no key, said nothing, or went away",
}
MOST_EVENTS = 10_000
"""Most events that wait in a monitor; when it is full, libzmq's I/O thread waits, and nothing more is accepted."""
MOST_PEERS = 32
"""Most peers that the log names in a minute; the others are only counted."""
MINUTE_NS = 60 * 10**9
_LIBC = ctypes.CDLL(None)


class Failures:
    """Counts of failures by kind. The log gets the first of each peer and kind in a minute, then a number."""

    def __init__(self) -> None:
        self.counts = {AUTH: 0, PROTOCOL: 0, NO_DETAIL: 0}
        self._logged: set[tuple[str, str]] = set()
        self._unlogged = 0
        self._until_ns = 0

    def add(self, kind: str, peer: str, why: str) -> None:
        """Count one more failure; `peer` is the address, or empty."""
        self.summarise()
        self.counts[kind] += 1
        if (kind, peer) in self._logged or len(self._logged) >= MOST_PEERS:
            self._unlogged += 1
            return
        if not self._logged:
            self._until_ns = now_ns() + MINUTE_NS
        self._logged.add((kind, peer))
        log.warning("handshake failed", kind=kind, peer=peer or "unknown", why=why)

    def summarise(self) -> None:
        """When the minute is over, log how many failures were not logged."""
        if self._logged and now_ns() >= self._until_ns:
            if self._unlogged:
                log.warning("more handshakes failed in this minute", count=self._unlogged, **self.counts)
            self._logged.clear()
            self._unlogged = 0


class Watch:
    """The monitor of one encrypted socket."""

    def __init__(self, watched: zmq.Socket[bytes], failures: Failures) -> None:
        address = f"inproc://monitor-{id(watched)}"
        watched.monitor(address, EVENTS)
        self.socket: zmq.Socket[bytes] = watched.context.socket(zmq.PAIR)
        self.socket.setsockopt(zmq.RCVHWM, MOST_EVENTS)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(address)
        self._watched, self._failures = watched, failures
        self._open: dict[int, str] = {}
        """Addresses of the peers of connections that may still be in their handshake, by descriptor."""
        self._succeeded = 0
        """Number of connections in `_open` whose handshake succeeded: libzmq does not say which."""
        self._failed = ""
        """Kind of a failure whose connection ends with the next event."""

    def step(self, most: int) -> bool:
        """Take at most `most` events; False if there was none."""
        for taken in range(most):
            try:
                event = parse_monitor_message(self.socket.recv_multipart(zmq.DONTWAIT))
            except zmq.Again:
                return taken > 0
            self._take(event)
        return True

    def close(self) -> None:
        """Stop the monitor, before the watched socket's own close. Read out first: if full, it would not stop."""
        while self.step(MOST_EVENTS):
            pass
        self._watched.disable_monitor()
        self.socket.close()

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, value = event["event"], event["value"]
        if kind == zmq.EVENT_ACCEPTED:
            self._open[value] = peer_of(value, event["endpoint"])
        elif kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._succeeded += 1
        elif kind in FAILED:
            self._failed = FAILED[kind]
        elif kind == zmq.EVENT_DISCONNECTED:
            self._end(self._open.pop(value, None))
        if self._succeeded >= len(self._open):
            self._open.clear()
            self._succeeded = 0

    def _end(self, peer: str | None) -> None:
        """Note a connection's end. One that speaks another protocol from its first byte fails without a word."""
        failed, self._failed = self._failed, ""
        if not failed and peer is not None and self._succeeded == 0:
            failed = PROTOCOL
        if failed in WHY:  # the ZAP handler has logged AUTH
            self._failures.add(failed, peer or "", WHY[failed])


def peer_of(fd: int, endpoint: bytes) -> str:
    """The address at the other end of this connection of the endpoint; empty if it is closed, or no longer ours.

    By the bare calls: Python's socket object would take over the descriptor, which is libzmq's.
    """
    peer, own = _address(_LIBC.getpeername, fd), _address(_LIBC.getsockname, fd)
    return peer[0] if own[1] == endpoint.rpartition(b":")[2].decode() else ""


def _address(call: Any, fd: int) -> tuple[str, str]:
    """Host and port that getpeername(2) or getsockname(2) names."""
    buffer, size = ctypes.create_string_buffer(128), ctypes.c_uint32(128)
    if call(fd, buffer, ctypes.byref(size)) != 0:
        return "", ""
    raw = buffer.raw
    family, port = int.from_bytes(raw[:2], sys.byteorder), str(int.from_bytes(raw[2:4], "big"))
    if family == socket.AF_INET:
        return socket.inet_ntop(family, raw[4:8]), port
    return (socket.inet_ntop(family, raw[8:24]), port) if family == socket.AF_INET6 else ("", "")

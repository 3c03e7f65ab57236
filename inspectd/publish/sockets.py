"""The sockets that the publisher binds."""

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path

import zmq

from inspectd.errors import UnavailableError

LINGER_MS = 1000
MAX_INCOMING = 64 * 1024
"""Bytes of one frame from a client: more ends its connection."""
SILENT_PEER_MS = 1500
"""A tcp peer whose machine is gone is let go of after so long."""
HANDSHAKE_MS = 3000


def opened(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, endpoint: str, undo: ExitStack
) -> "zmq.Socket[bytes]":
    """A socket that is still to be bound to its endpoint; `undo` closes it."""
    socket = context.socket(kind)
    undo.callback(socket.close)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_INCOMING)
    socket.setsockopt(zmq.IPV6, "[" in endpoint)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    if endpoint.startswith("tcp://"):
        socket.setsockopt(zmq.HEARTBEAT_IVL, SILENT_PEER_MS // 3)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENT_PEER_MS)
        socket.setsockopt(zmq.HEARTBEAT_TTL, SILENT_PEER_MS)
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 10)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    return socket


def bind(socket: "zmq.Socket[bytes]", key: str, endpoint: str) -> None:
    """Raises UnavailableError, with the config's key."""
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise UnavailableError(
            f"publish.{key}: {endpoint} can't be bound: {zmq.strerror(error.errno or 0)}; "
            "is another program using it, or another daemon?"
        ) from None


def own_paths(endpoints: dict[str, str], undo: ExitStack) -> None:
    """Hold the ipc paths among them (by their config's key) for us alone; raises UnavailableError.

    libzmq would take a path away from whoever uses it, without an error on either side. To be let go of after
    the context has ended: only then is the file gone.
    """
    for key, endpoint in endpoints.items():
        if endpoint.startswith("ipc://"):
            undo.callback(os.close, _own_path(key, endpoint, Path(endpoint.removeprefix("ipc://"))))


def _own_path(key: str, endpoint: str, path: Path) -> int:
    try:
        fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        reason = f"its folder {path.parent} can't be used: {error.strerror}"
        raise UnavailableError(f"publish.{key}: {endpoint} can't be bound: {reason}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UnavailableError(
            f"publish.{key}: {endpoint} is in use by another daemon; give each line its own"
        ) from None
    return fd

"""The sockets that the publisher binds."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import zmq

from inspectd.runtime.errors import UnavailableError

LINGER_MS = 1000
MAX_INCOMING = 64 * 1024
"""Most bytes of one frame from a client: more ends its connection."""
SILENT_PEER_MS = 1500
"""Milliseconds after which a tcp peer that takes nothing, its machine being gone, is dropped."""
KEEPALIVE_S = 10
"""Seconds between two questions to a silent peer whether it is still there."""
HANDSHAKE_MS = 5000
"""Milliseconds after which a connection that has not completed its handshake is closed."""
MORE, LAST = int(zmq.SNDMORE | zmq.DONTWAIT), int(zmq.DONTWAIT)
"""Flags of `send` as plain ints: to join enums takes longer than to send a frame."""


def opened(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, endpoint: str, undo: ExitStack
) -> "zmq.Socket[bytes]":
    """Open a socket that is still to be bound to its endpoint; `undo` closes it."""
    socket = context.socket(kind)
    undo.callback(socket.close)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_INCOMING)
    socket.setsockopt(zmq.IPV6, "[" in endpoint)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    if endpoint.startswith("tcp://"):
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_S)
        socket.setsockopt(zmq.TCP_MAXRT, SILENT_PEER_MS)
        if kind == zmq.XPUB:  # subscribers send nothing: only so they notice that this machine is gone
            heart_beats(socket)
    if kind == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    return socket


def heart_beats(socket: "zmq.Socket[Any]") -> None:
    """Switch on ZMTP's heartbeats, before the socket binds or connects. Not for a socket that clients can fill:
    libzmq 4.3.5 aborts the process (`!_io_error`, stream_engine_base.cpp:310) if a heartbeat is to go to a peer
    that died while its messages wait.
    """
    socket.setsockopt(zmq.HEARTBEAT_IVL, SILENT_PEER_MS // 3)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENT_PEER_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, SILENT_PEER_MS)


def bind(socket: "zmq.Socket[bytes]", key: str, endpoint: str) -> None:
    """Bind a socket; raises UnavailableError, which names the config's key."""
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise UnavailableError(
            f"publish.{key}: {endpoint} can't be bound: {zmq.strerror(error.errno or 0)}; "
            "is another program using it, or another daemon?"
        ) from None


def send_at_once(socket: "zmq.Socket[bytes]", frames: Sequence[bytes]) -> None:
    """Send a message of many frames at once; `send_multipart` takes five times as long. Raises ZMQError."""
    for frame in frames[:-1]:
        socket.send(frame, MORE)
    socket.send(frames[-1], LAST)


def ipc_path(endpoint: str) -> Path | None:
    """Path of the file of an ipc endpoint; None for another endpoint."""
    return Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None

"""How the kit connects to a daemon."""

from collections.abc import Mapping
from typing import Any

import zmq

from inspectd.runtime.errors import UserError
from inspectd.wire.keys import Keys

RECONNECT_MS = 100
"""Milliseconds between attempts to connect: what a daemon sends meanwhile has to be asked for."""
HEARTBEATS = {zmq.HEARTBEAT_IVL: 500, zmq.HEARTBEAT_TIMEOUT: 1500}
"""ZMTP heartbeats in milliseconds, for sockets that ask and are asked nothing: they show that a machine is gone.
"""


def connect(
    socket: "zmq.Socket[Any]", endpoint: str, keys: Keys | None, options: Mapping[zmq.SocketOption, int]
) -> None:
    """Connect a socket; raises UserError for an endpoint that can't be one, or a key file that is none."""
    common = {zmq.LINGER: 0, zmq.RECONNECT_IVL: RECONNECT_MS, zmq.IPV6: int("[" in endpoint)}
    for option, value in (common | dict(options)).items():
        socket.setsockopt(option, value)
    if keys is not None:
        keys.use(socket)
    try:
        socket.connect(endpoint)
    except (zmq.ZMQError, ValueError) as error:  # ValueError: it can't be encoded
        reason = zmq.strerror(error.errno or 0) if isinstance(error, zmq.ZMQError) else "it is not UTF-8"
        hint = "an endpoint looks like tcp://127.0.0.1:5556 or ipc://path"
        raise UserError(f"can't connect to {endpoint!r}: {reason}; {hint}") from None

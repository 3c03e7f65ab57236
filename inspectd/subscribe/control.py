"""Steering a daemon: one request, one answer.

    from inspectd.subscribe import Control

    with Control("tcp://127.0.0.1:5558", client="shift computer") as control:
        print(control.request("status")["state"])

Verbs, their fields and results: docs/protocol.md.
"""

import secrets
import time
from contextlib import suppress
from typing import Any

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from inspectd.runtime.errors import UnavailableError, UserError
from inspectd.subscribe.sockets import HEARTBEATS, connect
from inspectd.wire.keys import Keys
from inspectd.wire.requests import Answer, decode_answer

TURN_MS = 250
CONNECT_S = 10.0
"""Seconds to wait for a connection; a daemon that is there takes one at once, whatever it does just then."""


class RefusedError(UserError):
    """The daemon answered that it did not do it, and why."""


class Control:
    """A client of the control socket, for one thread. Raises errors.UserError for an impossible endpoint.

    keys: of this daemon and of ours, where it wants keys.
    """

    def __init__(self, endpoint: str, client: str = "inspectd", keys: Keys | None = None) -> None:
        self._endpoint, self._client, self._keys = endpoint, client, keys
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        # IMMEDIATE: a request does not wait for a daemon that is not there. One answer is one frame.
        try:
            connect(self._socket, endpoint, keys, {zmq.IMMEDIATE: 1, **HEARTBEATS})
        except UserError:
            self.close()
            raise

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()
        self._context.term()

    def request(self, verb: str, timeout_s: float = 60.0, **fields: Any) -> dict[str, Any]:
        """Send one request, whose `fields` are those in docs/protocol.md, and give the result.

        Over a broken connection it is asked again under its id, so that one daemon executes it once. Raises
        RefusedError, UnavailableError if there is no daemon (within CONNECT_S, if timeout_s is more), or if it is
        not known what came of the request, UserError for what can't be one, or if it is no daemon that answers.
        """
        until_s = time.monotonic() + timeout_s
        asked = {"id": secrets.token_hex(8), "client": self._client, "verb": verb, **fields}
        try:
            body = msgspec.json.encode(asked)
        except UnicodeEncodeError as error:
            raise UserError(f"{verb} was not sent: {error.object!r} is not UTF-8") from None
        if not self._socket.poll(max(1, int(min(timeout_s, CONNECT_S) * 1e3)), zmq.POLLOUT):
            raise UnavailableError(f"no daemon answers at {self._endpoint}: {self._doubts()}")
        self._connected()
        self._socket.send(body)
        while (now_s := time.monotonic()) < until_s:
            if self._socket.poll(min(TURN_MS, max(1, int((until_s - now_s) * 1e3)))):
                answer = self._answer()
                if answer.id is None or answer.id == asked["id"]:  # else: the late answer to an older one
                    if not answer.ok:
                        raise RefusedError(answer.error)
                    return answer.result or {}
            elif self._connected():
                with suppress(zmq.Again):
                    self._socket.send(body, zmq.DONTWAIT)
        raise UnavailableError(f"no answer within {timeout_s:g} s; it is not known whether {verb} was executed")

    def _answer(self) -> Answer:
        try:
            return decode_answer(self._socket.recv_multipart()[-1])
        except ValueError:
            raise UserError(
                f"what answers at {self._endpoint} is no control endpoint of a daemon: is it that of its queries?"
            ) from None

    def _doubts(self) -> str:
        doubts = "does it run? is this its control endpoint?"
        if self._keys is not None:
            return f"{doubts} does it want keys there, know this one, and is the server key its own?"
        return doubts if self._endpoint.startswith("ipc://") else f"{doubts} does it want keys?"

    def _connected(self) -> bool:
        """Whether a connection was made since the last call."""
        made = False
        while self._monitor.poll(0):
            made = recv_monitor_message(self._monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED or made
        return made

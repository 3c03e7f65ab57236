"""The subscriber kit: results in order, and the truth about what is missing.

from inspectd.subscribe import Received, Subscriber

for event in Subscriber("tcp://127.0.0.1:5556"):
    if isinstance(event, Received):
        print(event.seq, event.result.verdict, event.result.reason)
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import zmq

from inspectd.errors import UserError
from inspectd.publish.wire import (
    Header,
    Heartbeat,
    Result,
    WireError,
    decode_heartbeat,
    decode_result,
    unpack_header,
)

SILENCE_S = 1.0
"""A daemon beats at least every 0.25 s; after this long without a word it is taken for dead."""
RECONNECT_MS = 100
"""Always so often: what a daemon sends before it is connected is missed."""


class Received(NamedTuple):
    """One result."""

    header: Header
    result: Result

    @property
    def seq(self) -> int:
        """Its number in the line's one sequence."""
        return self.header.seq


class Gap(NamedTuple):
    """Results `first` to `last` were sent and did not arrive here."""

    first: int
    last: int


class NewEpoch(NamedTuple):
    """The daemon began a new journal: sequence numbers before and after are not comparable."""

    epoch: int


class Beat(NamedTuple):
    """The daemon lives; what it says of itself."""

    header: Header
    heartbeat: Heartbeat


class Silence(NamedTuple):
    """Nothing was heard of the daemon for so long; told once a second until it speaks again."""

    seconds: float


Event = Received | Gap | NewEpoch | Beat | Silence


class Subscriber:
    """Iterate over it, or call `receive`. One thread; raises wire.WireError on a foreign message.

    An endpoint that can't be one raises errors.UserError.
    """

    def __init__(self, endpoint: str, high_water_mark: int = 10_000) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, high_water_mark)
        self._socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        for topic in (b"res/", b"hb/"):  # the whole stream: whoever filters finer can't tell loss from filter
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._socket.setsockopt(zmq.IPV6, "[" in endpoint)
        try:
            self._socket.connect(endpoint)
        except (zmq.ZMQError, ValueError) as error:  # ValueError: not to be encoded
            self.close()
            reason = zmq.strerror(error.errno or 0) if isinstance(error, zmq.ZMQError) else "it is not UTF-8"
            hint = "an endpoint looks like tcp://127.0.0.1:5556 or ipc://path"
            raise UserError(f"can't connect to {endpoint!r}: {reason}; {hint}") from None
        self._last: tuple[int, int] | None = None  # epoch, seq of the newest known result
        self._heard_s = self._told_s = time.monotonic()
        self._events: deque[Event] = deque()

    def __enter__(self) -> "Subscriber":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()

    def __iter__(self) -> Iterator[Event]:
        while True:
            if event := self.receive(SILENCE_S):
                yield event

    def receive(self, timeout_s: float) -> Event | None:
        """The next event; None if there was none within `timeout_s`."""
        until_s = time.monotonic() + timeout_s
        while not self._events:
            now_s = time.monotonic()
            if now_s - max(self._heard_s, self._told_s) >= SILENCE_S:
                self._told_s = now_s
                return Silence(now_s - self._heard_s)
            if now_s >= until_s:
                return None
            next_s = min(until_s, max(self._heard_s, self._told_s) + SILENCE_S)
            if self._socket.poll(max(0, int((next_s - now_s) * 1e3) + 1)):
                self._take(self._socket.recv_multipart())
        return self._events.popleft()

    def _take(self, frames: list[bytes]) -> None:
        self._heard_s = time.monotonic()
        if len(frames) != 3:
            raise WireError(f"a message has 3 frames, this one {len(frames)}")
        topic, packed, body = frames
        header = unpack_header(packed)
        if topic.startswith(b"res/"):
            self._follow(header.epoch, header.seq, header.seq - 1)
            self._events.append(Received(header, decode_result(body)))
        else:
            self._follow(header.epoch, header.seq, header.seq)
            self._events.append(Beat(header, decode_heartbeat(body)))

    def _follow(self, epoch: int, seq: int, expected: int) -> None:
        """The newest result is now `seq`; `expected` should have been known before this message."""
        if self._last is not None and self._last[0] != epoch:
            self._events.append(NewEpoch(epoch))
        elif self._last is not None and expected > self._last[1]:
            self._events.append(Gap(self._last[1] + 1, expected))
        self._last = epoch, seq

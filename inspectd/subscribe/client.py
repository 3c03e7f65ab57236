"""The subscriber kit: every result once, in order, and the truth about what is missing.

    from inspectd.subscribe import Received, Results

    for event in Results("tcp://127.0.0.1:5556"):
        if isinstance(event, Received):
            print(event.seq, event.result.verdict, event.result.reason)

What an event may be: events.py.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import Literal

import msgspec
import zmq

from inspectd.runtime.errors import UserError
from inspectd.subscribe.events import (
    Beat,
    Cursor,
    Event,
    Missed,
    NewEpoch,
    Received,
    Silence,
    check_start,
)
from inspectd.subscribe.sockets import HEARTBEATS, connect
from inspectd.wire.endpoints import beside
from inspectd.wire.keys import Keys
from inspectd.wire.results import (
    Replay,
    ReplayReply,
    Snapshot,
    SnapshotReply,
    WireError,
    decode_heartbeat,
    decode_result,
    encode,
    unpack_header,
)

SILENCE_S = 1.0
"""Seconds without a word after which a daemon counts as dead; a living one sends a beat every 0.25 s or sooner."""
ANSWER_S = 0.7
"""Seconds to wait for an answer before it is asked for again. That leaves time for a beat before SILENCE_S."""
UNREACHABLE_S = 10.0
"""Seconds after which the query socket of a living daemon counts as out of reach, being asked in vain."""


class Results:
    """The results of a line, and what is to be known about them: `for event in results`, `async for`, `receive`.

    start: `now`, that is from the first word heard of the daemon on; `oldest`, all that its journal keeps; or
    behind the result of a cursor. live_only: nothing is fetched from the journal, what was not heard is Missed.
    query: the endpoint of the daemon's query socket, if it is not beside the one of its results. keys: for a
    daemon that has a server_key.

    Used by one thread. Raises wire.WireError on a foreign message (go on, or not), errors.UserError if an
    endpoint or a start can't be one.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        start: Literal["now", "oldest"] | Cursor = "now",
        live_only: bool = False,
        query: str = "",
        keys: Keys | None = None,
        high_water_mark: int = 10_000,
    ) -> None:
        check_start(start)
        self._context = zmq.Context()
        self._keys = keys
        self._live = self._socket(zmq.SUB, endpoint, {zmq.RCVHWM: high_water_mark})
        for topic in (b"res/", b"hb/"):  # the whole stream: whoever filters finer can't tell loss from filter
            self._live.setsockopt(zmq.SUBSCRIBE, topic)
        self._query = self._socket(zmq.DEALER, query or self._beside(endpoint), HEARTBEATS)
        self._live_only, self._oldest = live_only, start == "oldest" and not live_only
        self._next: Cursor | None = (start[0], start[1] + 1) if isinstance(start, tuple) else None
        self._newest: Cursor = start if isinstance(start, tuple) else (0, 0)
        """Newest result of the daemon that was heard live; what comes out of the journal may be ahead of it."""
        self._left: set[int] = set()  # epochs read to their end; live messages of them may still wait unread
        self._asked: Replay | Snapshot | None = None
        self._answer_until_s = 0.0
        self._asked_since_s: float | None = None  # since when it has been asked in vain
        self._id = 0
        self._heard_s = self._reported_s = time.monotonic()
        self._events: deque[Event] = deque()
        self._lock = threading.Lock()

    def _beside(self, endpoint: str) -> str:
        try:
            return beside(endpoint, "query")
        except ValueError as error:
            self.close()
            raise UserError(f"can't connect to {endpoint!r}: {error}") from None

    def _socket(self, kind: int, endpoint: str, options: Mapping[zmq.SocketOption, int]) -> "zmq.Socket[bytes]":
        """Open and connect a socket, without ZMQ_IMMEDIATE: what a SUB has not read yet would go with a
        connection, and libzmq 4.3.5 aborts (fq.cpp:80, !_more) if a DEALER's is lost while an answer of several
        frames is being read.
        """
        socket = self._context.socket(kind)
        try:
            connect(socket, endpoint, self._keys, options)
        except UserError:
            self.close()
            raise
        return socket

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._context.destroy(linger=0)

    def __iter__(self) -> Iterator[Event]:
        while True:
            if event := self.receive(SILENCE_S):
                yield event

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Give events without end; waits in a thread of its own, and a cancelled wait loses nothing."""
        while True:
            await asyncio.to_thread(self._wait, SILENCE_S)
            while self._events:
                yield self._events.popleft()

    def receive(self, timeout_s: float) -> Event | None:
        """The next event; None if there was none within `timeout_s`."""
        self._wait(timeout_s)
        return self._events.popleft() if self._events else None

    def _wait(self, timeout_s: float) -> None:
        """Wait until there is an event, or the time is up."""
        until_s = time.monotonic() + timeout_s
        with self._lock:
            while not self._events:
                now_s = time.monotonic()
                if now_s - max(self._heard_s, self._reported_s) >= SILENCE_S and not self._live.poll(0):
                    self._reported_s, self._asked_since_s = now_s, None
                    self._events.append(Silence(now_s - self._heard_s))
                    if self._keys is not None:
                        self._connect_again(self._live)
                elif now_s >= until_s:
                    return
                else:
                    self._turn(min(until_s, max(self._heard_s, self._reported_s) + SILENCE_S) - now_s)

    def _connect_again(self, socket: "zmq.Socket[bytes]") -> None:
        """Connect a socket again: ZeroMQ itself never does where a key was refused, which may be let in by now."""
        endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        socket.disconnect(endpoint.rstrip(b"\0").decode())
        socket.connect(endpoint.rstrip(b"\0").decode())

    def _turn(self, wait_s: float) -> None:
        """Hear one message. While a question is open, live results wait in their socket, so that order holds."""
        if self._asked is None:
            if self._live.poll(int(wait_s * 1e3) + 1):
                self._take(self._live.recv_multipart())
            return
        left_s = min(wait_s, self._answer_until_s - time.monotonic())
        if left_s > 0 and self._query.poll(int(left_s * 1e3) + 1):
            self._answered(self._query.recv_multipart())
        elif time.monotonic() >= self._answer_until_s:
            self._asked = None  # the next word shows whether the daemon lives; then it is asked again
            self._drop_unread()
            if self._keys is not None:
                self._connect_again(self._query)

    def _drop_unread(self) -> None:
        """Drop the waiting messages: they are old, show nothing of now, and come with the next answer."""
        while self._live.poll(0):
            self._live.recv_multipart()

    def _take(self, frames: list[bytes]) -> None:
        self._heard_s = time.monotonic()
        if len(frames) != 3:
            raise WireError(f"a message has 3 frames, this one {len(frames)}")
        topic, packed, body = frames
        header = unpack_header(packed)
        if self._is_old(header.epoch):
            return
        is_result = topic.startswith(b"res/")
        event = Received(header, decode_result(body)) if is_result else Beat(header, decode_heartbeat(body))
        first = header.seq if is_result else header.seq + 1
        if header.epoch == self._newest[0] and first <= self._newest[1]:  # live messages come in order
            self._go_back(header.epoch, first)
        self._newest = header.epoch, header.seq
        if self._next is None and not self._oldest:
            self._next = header.epoch, first
        if self._live_only or self._is_unreachable():
            self._pass_over(header.epoch, first)
        if self._next is None or header.epoch != self._next[0] or first > self._next[1]:
            self._ask()
        if isinstance(event, Beat):
            self._events.append(event)
        elif self._next == (header.epoch, header.seq):
            self._hand_over(event)

    def _is_old(self, epoch: int) -> bool:
        """Whether the epoch was read out of the journal to its end: what is heard of it now has waited unread."""
        if self._next is not None and epoch == self._next[0]:
            self._left.clear()  # who speaks of one of them from now on has gone back to it
        return epoch in self._left

    def _is_unreachable(self) -> bool:
        return self._asked_since_s is not None and time.monotonic() - self._asked_since_s > UNREACHABLE_S

    def _hand_over(self, event: Received) -> None:
        self._events.append(event)
        self._next = event.header.epoch, event.seq + 1

    def _pass_over(self, epoch: int, first: int) -> None:
        """Give up waiting for what was to come before result `first`."""
        self._asked_since_s = None
        if self._next is None or self._next[0] != epoch:
            self._left |= {self._next[0]} if self._next is not None else set()
            self._events.append(NewEpoch(epoch))
            self._next = epoch, first
        elif first > self._next[1]:
            self._events.append(Missed(self._next[1], first - 1))
            self._next = epoch, first

    def _go_back(self, epoch: int, first: int) -> None:
        """Follow a journal that was put back by hand: numbers from this one on, at the latest, are others now."""
        if self._next is not None and self._next[0] == epoch:
            self._events.append(NewEpoch(epoch))
            self._next = epoch, min(first, self._next[1])

    def _ask(self) -> None:
        """Ask for what is missing before what was just heard."""
        self._id += 1
        self._asked = Snapshot(self._id) if self._next is None else Replay(self._id, *self._next)
        self._answer_until_s = time.monotonic() + ANSWER_S
        if self._asked_since_s is None:
            self._asked_since_s = time.monotonic()
        with suppress(zmq.Again):  # many questions wait for a connection already
            self._query.send(encode(self._asked), zmq.DONTWAIT)

    def _answered(self, frames: list[bytes]) -> None:
        self._heard_s = time.monotonic()
        try:
            if msgspec.json.decode(frames[0], type=_Id).id != self._id:
                return  # the answer to a question that was given up
            asked, self._asked, self._asked_since_s = self._asked, None, None
            if isinstance(asked, Snapshot):
                oldest = msgspec.json.decode(frames[0], type=SnapshotReply).oldest
                self._next = oldest.epoch, oldest.first
            else:
                self._replayed(msgspec.json.decode(frames[0], type=ReplayReply), frames[1:])
        except (msgspec.DecodeError, ValueError) as error:
            raise WireError(f"not an answer: {error}: {frames[0][:200]!r}") from None
        assert self._next is not None
        is_ahead = self._newest[0] in self._left
        if not is_ahead and (self._next[0] != self._newest[0] or self._next[1] <= self._newest[1]):
            self._ask()

    def _replayed(self, reply: ReplayReply, frames: list[bytes]) -> None:
        for packed, body in zip(frames[1::3], frames[2::3], strict=True):
            event = Received(unpack_header(packed), decode_result(body))
            self._missing_before(event.seq)
            if self._next == event.cursor:
                self._hand_over(event)
        self._missing_before(reply.upto + 1)
        assert self._next is not None
        if reply.next is not None:
            self._pass_over(reply.next.epoch, reply.next.first)
        elif reply.upto + 1 < self._next[1]:  # the daemon has not come as far as it had when it was heard
            self._go_back(self._next[0], reply.upto + 1)
            self._newest = self._next[0], reply.upto
            self._drop_unread()

    def _missing_before(self, seq: int) -> None:
        assert self._next is not None
        if seq > self._next[1]:
            self._pass_over(self._next[0], seq)


class _Id(msgspec.Struct, frozen=True):
    """The question's id, which every answer has."""

    id: int = 0

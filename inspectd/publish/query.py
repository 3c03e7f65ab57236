"""The query socket: the state of the line, and results once more out of the journal."""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import zmq

from inspectd.publish.journal.history import Chunk, History
from inspectd.publish.security import client_of
from inspectd.publish.sockets import send_at_once
from inspectd.runtime.clock import now_ns
from inspectd.wire.results import (
    Heartbeat,
    QueryError,
    Replay,
    ReplayReply,
    Snapshot,
    SnapshotReply,
    encode,
    replayed,
)

MAX_WAITING = 256
"""Most replays that wait for their turn, one per client; beyond that the oldest is dropped, to be asked again."""
PATIENCE_NS = 300_000_000
"""Time in nanoseconds after which a replay that is still being looked for is answered: nothing as yet. A client
that hears nothing for 10 s takes this socket for out of reach, and what is kept for missed."""
MAX_FRAMES = 64
"""Most frames taken in one step; the rest of a longer question is passed over, step by step."""
MAX_ERROR = 200
"""Most characters of an error about a question, which may quote all of it."""

Envelope = list[bytes]


class _Waiting(NamedTuple):
    """A replay that waits for its turn."""

    envelope: Envelope
    question: Replay
    since_ns: int


class Query:
    """The service of the query socket in the publish loop."""

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        history: History,
        snapshot: Callable[[], tuple[int, int, Heartbeat]],
        allows: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`snapshot` gives epoch, last number and heartbeat; `allows` says whether a user id may still ask."""
        self._socket, self._history, self._snapshot = socket, history, snapshot
        self._allows = allows
        self._waiting: OrderedDict[bytes, _Waiting] = OrderedDict()
        self._passing_over = False
        self._decode = msgspec.json.Decoder(Snapshot | Replay).decode
        self.counts = {"query_answered": 0, "query_refused": 0, "query_dropped": 0}

    @property
    def busy(self) -> bool:
        """Whether a replay waits, or the rest of a question that is passed over."""
        return bool(self._waiting) or self._passing_over

    def sockets(self) -> list["zmq.Socket[bytes] | int"]:
        """What to poll: the query socket."""
        return [self._socket]

    def serve(self) -> bool:
        """Take one question and do one step of a replay; False if there was neither."""
        took = self._take()
        return self._step() or took

    def close(self) -> None:
        """Let go of the journal's files."""
        self._history.close()

    def _take(self) -> bool:
        rest_of_one = self._passing_over
        frames, user = self._receive()
        if rest_of_one or not frames:
            return bool(frames)
        envelope, body = _split(frames)
        if not self._allows(user):
            self.counts["query_refused"] += 1
            self._answer(envelope, [encode(QueryError("this key may no longer be used to ask"))])
            return True
        try:
            question = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.counts["query_refused"] += 1
            self._answer(envelope, [encode(QueryError(f"not a query: {str(error)[:MAX_ERROR]}"))])
            return True
        if isinstance(question, Replay):
            self._waiting.pop(envelope[0], None)
            self._waiting[envelope[0]] = _Waiting(envelope, question, now_ns())
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
                self.counts["query_dropped"] += 1
        else:
            epoch, last, heartbeat = self._snapshot()
            reply = SnapshotReply(question.id, epoch, last, self._history.oldest(), heartbeat)
            self._answer(envelope, [encode(reply)])
        return True

    def _receive(self) -> tuple[list[bytes], str]:
        """Receive a message, or some frames of one, and its user id; no frames if nothing is there."""
        frames: list[bytes] = []
        user = ""
        try:
            while len(frames) < MAX_FRAMES:
                frame = self._socket.recv(zmq.DONTWAIT, copy=False)
                frames.append(frame.bytes)
                user = client_of(frame)
                self._passing_over = frame.more
                if not self._passing_over:
                    break
        except zmq.Again:  # a message comes whole: there was none
            self._passing_over = False
        return frames, user

    def _step(self) -> bool:
        if not self._waiting:
            return False
        client, waiting = self._waiting.popitem(last=False)
        question = waiting.question
        chunk = self._history.read(question.epoch, question.start)
        if chunk is None and now_ns() - waiting.since_ns < PATIENCE_NS:
            self._waiting[client] = waiting  # to the end: the others come first
            return True
        chunk = chunk or Chunk([], max(question.start - 1, 0))
        frames = [encode(ReplayReply(question.id, question.epoch, chunk.upto, len(chunk.entries), chunk.next))]
        for entry in chunk.entries:
            frames += entry.topic, replayed(entry.header), entry.body
        self._answer(waiting.envelope, frames)
        return True

    def _answer(self, envelope: Envelope, frames: list[bytes]) -> None:
        try:
            send_at_once(self._socket, [*envelope, *frames])
            self.counts["query_answered"] += 1
        except zmq.ZMQError:  # the client is gone (EHOSTUNREACH), or does not read its answers (EAGAIN)
            self.counts["query_dropped"] += 1


def _split(frames: list[bytes]) -> tuple[Envelope, bytes]:
    """Split frames into the way back, with REQ's empty frame if any, and the body, empty unless one frame."""
    envelope = frames[:2] if len(frames) > 1 and not frames[1] else frames[:1]
    body = frames[len(envelope) :]
    return envelope, body[0] if len(body) == 1 else b""

"""The `control` socket: requests in, exactly one answer each. Nothing is executed here.

The publish thread reads and answers; the main thread executes. Between them two hand-offs, bounded by OUTSTANDING.
"""

import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
import zmq

from inspectd.publish.security import client_of
from inspectd.runtime.handoff import Handoff
from inspectd.wire.requests import Answer, Request, RequestError, decode_request, encode

OUTSTANDING = 64
"""Most requests of each verb that wait for their answer at once, of all clients together: triggers that a camera
does not answer must not keep the line from being paused."""
CLIENTS, REMEMBERED = 64, 256
"""Clients whose answers are kept, and answers kept per client; whoever is silent longest is forgotten first."""
REMEMBERED_BYTES = 8 * 2**20
"""Most bytes of all answers that are kept."""
ENVELOPES = 64
"""Most repetitions of a request in execution that are answered."""
FRAMES = 3
"""Most frames of a request: identity, perhaps an empty frame (REQ sockets send one), body."""
SKIPPED_AT_ONCE = 64
NOT_PLAIN = re.compile(r"Expected `str` matching regex .* - at `\$\.(\w+)`")
"""The decoder's words for a text with control characters: requests have no other pattern."""
WAITING_PER_PEER = 64

Envelope = tuple[bytes, ...]
Client = tuple[str, str]
"""A client of the control socket: the user id of its key ("" without keys) and the name it gives itself."""


class Asked(NamedTuple):
    """A good request on its way to the main thread; the answer refers to it."""

    client: Client
    request: Request


class Answered(NamedTuple):
    """An answer on its way back to the publish thread."""

    asked: Asked
    answer: Answer


class ControlCounts(msgspec.Struct):
    """Counts of what came in and went out since the daemon started."""

    requests: int = 0
    """Good requests, repeated ones too."""
    repeated: int = 0
    refused: int = 0
    """Messages that were no request."""
    busy: int = 0
    unheard: int = 0
    """Answers whose peer was gone, or did not take them."""


class ControlLink(NamedTuple):
    """The hand-offs between the publish thread, which reads and answers, and the main thread, which executes."""

    requests: Handoff[Asked]
    answers: Handoff[Answered]
    counts: ControlCounts


def make_link() -> ControlLink:
    """Make an empty link."""
    return ControlLink(Handoff(), Handoff(), ControlCounts())


class _Remembered:
    """One request of a client: who waits for the answer, and the answer once it is there."""

    def __init__(self, request: Request, envelope: Envelope) -> None:
        self.request = request
        self.envelopes = [envelope]
        self.answer = b""


def limit_queues(socket: "zmq.Socket[bytes]") -> None:
    """Limit how many requests and answers of one peer may wait in ZeroMQ. Called before `bind`."""
    socket.setsockopt(zmq.RCVHWM, WAITING_PER_PEER)
    socket.setsockopt(zmq.SNDHWM, 2 * (OUTSTANDING + ENVELOPES))


class ControlService:
    """The service of the control socket, a bound ROUTER; used by the publish thread alone."""

    def __init__(
        self, socket: zmq.Socket[bytes], link: ControlLink, allows: Callable[[str], bool] = lambda _: True
    ) -> None:
        """`allows` says whether the client of a user id may still steer; it is asked for each request."""
        self._allows = allows
        self._counts = link.counts
        self._socket, self._requests, self._answers = socket, link.requests, link.answers
        self._clients: OrderedDict[Client, OrderedDict[str, _Remembered]] = OrderedDict()
        self._bytes = 0
        self._outstanding = Counter[type[Request]]()
        self._ready: deque[Answered] = deque()
        self._skipping = False  # the rest of a message with too many frames is passed over

    @property
    def counts(self) -> dict[str, int]:
        """Counts for the heartbeat."""
        return {f"control_{name}": getattr(self._counts, name) for name in ControlCounts.__struct_fields__}

    @property
    def busy(self) -> bool:
        """Whether `serve` has work though no socket says so."""
        return bool(self._ready) or self._skipping

    def sockets(self) -> Sequence[zmq.Socket[bytes] | int]:
        """What to poll: the socket, and the answers of the main thread."""
        return self._socket, self._answers.fileno()

    def serve(self) -> bool:
        """Send one answer, or take one message; False if there is neither."""
        self._ready.extend(self._answers.drain())
        if self._ready:
            self._finish(*self._ready.popleft())
            return True
        frames, user = self._receive()
        if frames:
            self._take(frames, user)
        return bool(frames) or self._skipping

    def close(self) -> None:
        """Answer whoever still waits that there will be no answer. Whoever opened the socket closes it."""
        self._ready.extend(self._answers.drain())
        while self._ready:
            self._finish(*self._ready.popleft())
        for client, kept in list(self._clients.items()):
            for entry in [entry for entry in kept.values() if not entry.answer]:
                stopping = Answer(
                    entry.request.id, False, error="the daemon ends: it is not known what came of this"
                )
                self._finish(Asked(client, entry.request), stopping)

    # ---- in ----

    def _receive(self) -> tuple[list[bytes], str]:
        """Receive the next message, and the user id of its key; no frames if there is none or it is skipped."""
        frames: list[bytes] = []
        user = ""
        with suppress(zmq.Again):
            for _ in range(SKIPPED_AT_ONCE):
                frame = self._socket.recv(zmq.DONTWAIT, copy=False)
                if not self._skipping:
                    frames.append(frame.bytes)
                    user = client_of(frame)
                self._skipping = frame.more and (self._skipping or len(frames) > FRAMES)
                if not frame.more:
                    break
        return frames, user

    def _take(self, frames: list[bytes], user: str) -> None:
        envelope, body = _opened(frames)
        try:
            if len(body) != 1:
                raise RequestError("not a request: it must be one frame of JSON", None)
            request = decode_request(body[0])
            if not self._allows(user):
                raise RequestError("this key may no longer be used to steer", request.id)
        except RequestError as error:
            self._counts.refused += 1
            sentence = NOT_PLAIN.sub(r"\1 has control characters", str(error))
            self._send(envelope, encode(Answer(error.id, False, error=sentence)))
            return
        self._counts.requests += 1
        self._ask(Asked((user, request.client), request), envelope)

    def _ask(self, asked: Asked, envelope: Envelope) -> None:
        """Hand a request to the main thread, unless it is known already."""
        kept = self._clients.get(asked.client)
        if kept is not None and (entry := kept.get(asked.request.id)) is not None:
            self._clients.move_to_end(asked.client)
            self._repeat(entry, asked.request, envelope)
        elif self._outstanding[type(asked.request)] >= OUTSTANDING:
            self._refuse_busy(asked.request, envelope)
        else:
            self._outstanding[type(asked.request)] += 1
            self._clients.setdefault(asked.client, OrderedDict())[asked.request.id] = _Remembered(
                asked.request, envelope
            )
            self._clients.move_to_end(asked.client)
            self._requests.put(asked)

    def _repeat(self, entry: _Remembered, request: Request, envelope: Envelope) -> None:
        self._counts.repeated += 1
        if entry.request != request:
            sentence = f"the id {request.id!r} was another request's: each request needs its own"
            self._send(envelope, encode(Answer(request.id, False, error=sentence)))
        elif entry.answer:
            self._send(envelope, entry.answer)
        elif len(entry.envelopes) < ENVELOPES:
            entry.envelopes.append(envelope)
        else:
            self._refuse_busy(request, envelope)

    def _refuse_busy(self, request: Request, envelope: Envelope) -> None:
        self._counts.busy += 1
        sentence = "busy: too many requests like this wait for their answer; ask again later"
        self._send(envelope, encode(Answer(request.id, False, error=sentence)))

    # ---- out ----

    def _finish(self, asked: Asked, answer: Answer) -> None:
        entry = self._clients[asked.client][asked.request.id]
        entry.answer = encode(answer)
        self._outstanding[type(asked.request)] -= 1
        self._bytes += len(entry.answer)
        for envelope in entry.envelopes:
            self._send(envelope, entry.answer)
        entry.envelopes.clear()
        self._shorten(self._clients[asked.client], REMEMBERED)
        if len(self._clients) > CLIENTS or self._bytes > REMEMBERED_BYTES:
            self._forget()

    def _forget(self) -> None:
        """Drop kept answers beyond the bounds; a request without its answer is never forgotten."""
        for client, kept in list(self._clients.items()):
            if len(self._clients) <= CLIENTS and self._bytes <= REMEMBERED_BYTES:
                return
            self._shorten(kept, 0)
            if not kept:
                del self._clients[client]

    def _shorten(self, kept: OrderedDict[str, _Remembered], most: int) -> None:
        excess = len(kept) - most
        for key in [key for key, entry in kept.items() if entry.answer][: max(0, excess)]:
            self._bytes -= len(kept.pop(key).answer)

    def _send(self, envelope: Envelope, answer: bytes) -> None:
        try:
            self._socket.send_multipart((*envelope, answer), zmq.DONTWAIT)
        except zmq.ZMQError:  # the client is gone, or does not read
            self._counts.unheard += 1


def _opened(frames: list[bytes]) -> tuple[Envelope, list[bytes]]:
    """Split frames into what the answer must begin with, and the rest."""
    identity, *rest = frames
    if len(rest) > 1 and not rest[0]:
        return (identity, b""), rest[1:]
    return (identity,), rest

"""The query socket: answers, bounded steps, and what clients do that mean no good."""

import json
import random
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zmq

from inspectd.publish import query as module
from inspectd.publish.journal.history import MAX_ENTRIES, History
from inspectd.publish.journal.records import Entry, read_entries
from inspectd.publish.journal.writer import Journal
from inspectd.publish.messages import Messages
from inspectd.publish.query import Query
from inspectd.publish.sockets import MAX_INCOMING
from inspectd.runtime.frame import Reason
from inspectd.subscribe.client import Results
from inspectd.subscribe.events import Received
from inspectd.wire.results import Flag, Heartbeat, VerdictCode, unpack_header
from tests.makers import frame
from tests.publish.lines import IDENTITY, SETUPS, SMALL, Camera, Ledger, Line, connected

RSS_MIB = 16
"""Allowed growth of this process, in which the publisher and its enemy live, from a tenth of the fuzz on."""
COUNTS = ("query_answered", "query_refused", "query_dropped")


def entry(seq: int) -> Entry:
    header = b"IN" + bytes(46)
    return Entry(seq, "top", seq, b"res/a/top/", header, b'{"n": %d}' % seq)


class Asked:
    """A Query on its own ROUTER, served by the test; and its clients."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = f"ipc://{folder}/q"
        self.journal = Journal(folder / "j", SMALL, "boot")
        self.context, self._clients = zmq.Context(), list["zmq.Socket[bytes]"]()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.router.setsockopt(zmq.SNDHWM, 4)
        self.router.bind(self.endpoint)
        cameras = [Camera("top"), Camera("side")]
        messages = Messages(IDENTITY, SETUPS, self.journal, Ledger(2), cameras, lambda: ("Error", "why"))
        self.query = Query(self.router, History(self.journal), lambda: self._snapshot(messages))

    def _snapshot(self, messages: Messages) -> tuple[int, int, Heartbeat]:
        return self.journal.epoch, self.journal.seq, messages.heartbeat(1, {})[1]

    def fill(self, count: int) -> None:
        for _ in range(count):
            self.journal.append(entry(self.journal.seq + 1))

    def client(self, kind: int = zmq.DEALER) -> "zmq.Socket[bytes]":
        made = self.context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        made.connect(self.endpoint)
        self._clients.append(made)
        return made

    def serve(self) -> int:
        """All there is to do; how many steps it took."""
        steps = 0
        while self.query.serve():
            steps += 1
        return steps

    def arrived(self, count: int = 1) -> None:
        """Wait until a message is here, and a moment for more."""
        assert self.router.poll(5000)
        time.sleep(0.02 * count)

    def ask(self, client: "zmq.Socket[bytes]", *frames: bytes) -> list[bytes]:
        client.send_multipart(frames)
        self.arrived()
        self.serve()
        assert client.poll(5000)
        return client.recv_multipart()

    def replay(self, start: int, epoch: int | None = None, number: int = 1) -> bytes:
        asked = self.journal.epoch if epoch is None else epoch
        return json.dumps({"verb": "replay", "id": number, "epoch": asked, "from": start}).encode()

    def close(self) -> None:
        self.query.close()
        self.journal.close()
        for socket in (self.router, *self._clients):
            socket.close(0)
        self.context.term()


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    made = Asked(tmp_path)
    yield made
    made.close()


SNAPSHOT = b'{"verb": "snapshot", "id": 7}'


def test_a_snapshot(asked: Asked) -> None:
    asked.fill(3)
    (answer,) = asked.ask(asked.client(), SNAPSHOT)
    said = json.loads(answer)
    assert (said["id"], said["epoch"], said["last"]) == (7, asked.journal.epoch, 3)
    assert said["oldest"] == {"epoch": asked.journal.epoch, "first": 1}
    assert said["heartbeat"]["state"] == "Error"


def test_a_replay_comes_in_chunks(asked: Asked) -> None:
    asked.fill(MAX_ENTRIES + 10)
    client, start, found = asked.client(), 5, []
    while start <= asked.journal.seq:
        head, *frames = asked.ask(client, asked.replay(start, number=start))
        said = json.loads(head)
        assert said["id"] == start and said["count"] == len(frames) // 3 <= MAX_ENTRIES <= 256
        for topic, header, body in zip(frames[::3], frames[1::3], frames[2::3], strict=True):
            kept = entry(json.loads(body)["n"])
            assert (topic, body) == (kept.topic, kept.body)
            assert header == kept.header[:4] + bytes((Flag.REPLAYED, 0)) + kept.header[6:]
            found.append(kept.seq)
        start = said["upto"] + 1
    assert found == list(range(5, MAX_ENTRIES + 11))
    (head,) = asked.ask(client, asked.replay(start))
    assert json.loads(head)["count"] == 0 and json.loads(head)["upto"] == start - 1
    (head,) = asked.ask(client, asked.replay(1, epoch=12345))
    assert json.loads(head)["next"] == {"epoch": asked.journal.epoch, "first": 1}


def test_the_envelope_of_req_comes_back(asked: Asked) -> None:
    asked.fill(2)
    client = asked.client(zmq.REQ)
    assert len(asked.ask(client, SNAPSHOT)) == 1
    assert len(asked.ask(client, asked.replay(1))) == 7
    assert b"not a query" in asked.ask(client, b"?")[0]


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"", b""],
        [b"{}"],
        [SNAPSHOT, SNAPSHOT],
        [b"", SNAPSHOT, b""],
        [b'{"verb": "stop", "id": 1}'],
        [b'{"verb": "snapshot", "id": 1, "more": 2}'],
        [b'{"verb": "replay", "id": 1, "epoch": 1, "from": -1}'],
        [b'{"verb": "replay", "id": 1, "epoch": 1, "from": NaN}'],
        [b'{"verb": "replay", "id": 1, "epoch": 1e400, "from": 1}'],
        [b'{"verb": "snapshot", "id": ' + b"9" * 60_000 + b"}"],
        [b'{"verb": "' + b"x" * 60_000 + b'"}'],
        [b"[" * 60_000],
        [b'{"a":' * 12_000],
        [b"\xff\xfe\x00"],
        [SNAPSHOT] * 1000,
    ],
)
def test_what_is_no_query_gets_one_short_error(asked: Asked, frames: list[bytes]) -> None:
    client = asked.client()
    *envelope, answer = asked.ask(client, *frames)
    said = json.loads(answer)
    assert envelope == ([b""] if not frames[0] else [])
    assert said["error"].startswith("not a query") and said["id"] == 0 and len(answer) < 300
    assert asked.query.counts == {"query_answered": 1, "query_refused": 1, "query_dropped": 0}
    assert not asked.query.busy and not client.poll(20)
    assert json.loads(asked.ask(client, SNAPSHOT)[0])["id"] == 7


def test_a_question_of_many_frames_is_passed_over_in_bounded_steps(asked: Asked) -> None:
    client = asked.client()
    client.send_multipart([b"x"] * 1000)
    client.send(SNAPSHOT)
    asked.arrived()
    assert asked.query.serve() and asked.query.busy
    assert asked.serve() >= 1000 // module.MAX_FRAMES
    assert b"not a query" in client.recv() and json.loads(client.recv())["id"] == 7


def test_one_replay_of_a_client_waits_the_newest(asked: Asked) -> None:
    asked.fill(2)
    client, other = asked.client(), asked.client()
    asked.ask(client, SNAPSHOT)
    asked.ask(other, SNAPSHOT)
    taken = asked.query._take
    for number in (1, 2, 3):
        client.send(asked.replay(1, number=number))
    other.send(asked.replay(1, number=4))
    asked.arrived(5)
    while taken():
        pass
    assert len(asked.query._waiting) == 2 and asked.query.busy
    asked.serve()
    assert json.loads(client.recv_multipart()[0])["id"] == 3 and not client.poll(50)
    assert json.loads(other.recv_multipart()[0])["id"] == 4


def test_a_replay_that_is_looked_for_for_long_is_answered_and_asked_again(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.fill(20)
    read = History.read
    began_s = time.monotonic()
    with monkeypatch.context() as busy:
        busy.setattr(History, "read", lambda *_: None)
        (head,) = asked.ask(asked.client(), asked.replay(5))
    assert 0.25 < time.monotonic() - began_s < 5
    assert json.loads(head) == {"id": 1, "epoch": asked.journal.epoch, "upto": 4, "count": 0, "next": None}
    monkeypatch.setattr(module, "PATIENCE_NS", 0)
    steps = iter([True])
    monkeypatch.setattr(History, "read", lambda *of: None if next(steps, False) else read(*of))
    client = asked.client()
    assert json.loads(asked.ask(client, asked.replay(5))[0])["count"] == 0
    assert json.loads(asked.ask(client, asked.replay(5))[0])["count"] == 16


def test_so_many_replays_wait_and_no_more(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    asked.fill(2)
    clients = [asked.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(asked.replay(1, number=number))
        asked.arrived()
        asked.query._take()
    asked.serve()
    assert [bool(client.poll(50)) for client in clients] == [False, True, True]
    assert asked.query.counts["query_dropped"] == 1


def test_a_client_that_does_not_read_loses_answers_and_holds_up_nobody(asked: Asked) -> None:
    asked.fill(MAX_ENTRIES)
    stuck, well = asked.client(), asked.client()
    stuck.setsockopt(zmq.RCVHWM, 1)
    for _ in range(3000):
        with suppress(zmq.Again):
            stuck.send(asked.replay(1), zmq.DONTWAIT)
        asked.serve()
        if asked.query.counts["query_dropped"] > 5:
            break
    assert asked.query.counts["query_dropped"] > 5
    assert json.loads(asked.ask(well, SNAPSHOT)[0])["id"] == 7


def test_a_client_that_vanished_is_only_counted(asked: Asked) -> None:
    asked.fill(2)
    client = asked.client()
    asked.ask(client, SNAPSHOT)
    client.send(asked.replay(1))
    asked.arrived()
    asked.query._take()
    client.close()
    time.sleep(0.5)  # for libzmq to notice
    assert asked.query.serve()
    assert asked.query.counts["query_dropped"] == 1 and not asked.query.busy


def test_the_heartbeat_counts_what_was_asked(tmp_path: Path) -> None:
    line = Line(tmp_path)
    try:
        with zmq.Context() as context, context.socket(zmq.DEALER) as client, Results(line.endpoint) as subscriber:
            client.setsockopt(zmq.LINGER, 0)
            client.connect(f"ipc://{tmp_path}/query")
            for question in (SNAPSHOT, b"?", b"??"):
                client.send(question)
                assert client.poll(5000)
                client.recv()
            connected(subscriber)
            while not (counts := connected(subscriber).heartbeat.counts)["query_refused"]:
                pass
            assert [counts[name] for name in COUNTS] == [3, 2, 0]
    finally:
        line.stop()


class Enemy:
    """Sends whatever comes into its head, and reads only half of the time."""

    def __init__(self, endpoint: str, epoch: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._epoch = epoch
        self._context = zmq.Context()
        self._endpoint = endpoint
        self._socket = self._connected()
        self.sent = self.answers = 0

    def _connected(self) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 10)
        socket.connect(self._endpoint)
        return socket

    def close(self) -> None:
        self._context.destroy(linger=0)

    def attack(self, count: int) -> None:
        """So many messages, and then wait until they are done with."""
        for _ in range(count):
            self._socket.send_multipart(self._message())
        self.sent += count
        if self._random.random() < 0.02:  # away without having read: whoever comes next is another client
            self._socket.close()
            self._socket = self._connected()
        marked = self._random.getrandbits(60)
        for _ in range(1000):
            self._socket.send(json.dumps({"verb": "snapshot", "id": marked}).encode())
            while self._socket.poll(100):  # of so many answers at once some are dropped
                self.answers += 1
                if self._socket.recv_multipart()[0].startswith(b'{"id":%d,' % marked):
                    return
        raise AssertionError("the publisher does not answer any more")

    def _message(self) -> list[bytes]:
        dice = self._random.random()
        if dice < 0.0002:
            return [bytes(MAX_INCOMING + 1)]  # ends the connection
        if dice < 0.0005:
            return [b"x"] * self._random.choice([65, 1000, 5000])
        if dice < 0.01:
            return [self._random.choice([b"[", b'{"a":', b"9", b'"', b"{"]) * self._random.randrange(10_000)]
        if dice < 0.3:
            return [
                self._random.randbytes(self._random.randrange(200)) for _ in range(self._random.randrange(1, 4))
            ]
        body = json.dumps(self._question()).encode()
        if dice < 0.6:  # nearly right
            place = self._random.randrange(len(body))
            body = body[:place] + self._random.randbytes(self._random.randrange(3)) + body[place + 1 :]
        return [b"", body] if dice > 0.9 else [body]

    def _question(self) -> dict[str, Any]:
        verbs = ("snapshot", "replay", "replay", "stop", "swap_model", "", "x" * 100)
        question = {"verb": self._random.choice(verbs), "id": self._number()}
        if self._random.random() < 0.7:
            question["epoch"] = self._epoch if self._random.random() < 0.5 else self._number()
            question["from"] = self._number()
        if self._random.random() < 0.1:
            question[self._random.choice(["more", "heartbeat", "kind"])] = self._number()
        return question

    def _number(self) -> Any:
        return self._random.choice(
            [
                0,
                1,
                -1,
                5,
                100,
                2**63,
                2**64,
                -(2**63) - 1,
                10**40,
                1.5,
                float("nan"),
                float("inf"),
                None,
                "1",
                [],
                {},
            ]
        )


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


class Arrived(NamedTuple):
    """What is kept of a result: little, for memory is measured."""

    seq: int
    reason: Reason
    publish_us: float


class Live:
    """Results go out and come in all the while, each with a second to be handed over."""

    def __init__(self, line: Line) -> None:
        self._line, self.received, self.put = line, list[Arrived](), 0
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._puts), threading.Thread(target=self._receives)]
        for thread in self._threads:
            thread.start()

    def _puts(self) -> None:
        while not self._end.wait(0.02):
            self.put += 1
            self._line.put(frame(self.put, deadline_s=1.0, slot=0))

    def _receives(self) -> None:
        with Results(self._line.endpoint, start="oldest") as subscriber:
            until_s = float("inf")
            while time.monotonic() < until_s and not (self._end.is_set() and len(self.received) == self.put):
                if self._end.is_set() and until_s == float("inf"):
                    until_s = time.monotonic() + 20
                if isinstance(event := subscriber.receive(0.1), Received):
                    self.received.append(Arrived(event.seq, event.result.reason, event.result.times.publish_us))

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)


def fuzz(folder: Path, count: int, seed: int) -> dict[str, float]:
    """Fails if anything but answers comes of it; what was seen."""
    line = Line(folder)
    enemy = Enemy(f"ipc://{folder}/query", line.journal.epoch, seed)
    live = Live(line)
    began_s, before = time.monotonic(), 0.0
    try:
        while enemy.sent < count:
            enemy.attack(100)
            if not before and enemy.sent * 10 >= count:
                before = rss_mib()
        grown = rss_mib() - before
    finally:
        live.stop()
        enemy.close()
        line.stop()
    seconds = time.monotonic() - began_s
    assert [one.seq for one in live.received] == list(range(1, live.put + 1))
    assert {one.reason for one in live.received} == {Reason.NONE}, "results were late"
    kept = list(read_entries(line.folder))
    assert [one.seq for one in kept] == list(range(kept[0].seq, live.put + 1))
    assert {unpack_header(one.header)[:2] for one in kept} == {(Flag(0), VerdictCode.PASS)}
    assert grown < RSS_MIB
    slowest_ms = max(one.publish_us for one in live.received) / 1e3
    counts = line.publisher._counts()
    return {"seconds": seconds, "rss_mib": grown, "results": live.put, "slowest_ms": slowest_ms, **counts}


def test_whatever_is_asked_nothing_comes_of_it(tmp_path: Path) -> None:
    seen = fuzz(tmp_path, 5000, 1)
    assert seen["query_refused"] > 1000 and seen["query_answered"] > 1000


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_a_million_messages(tmp_path: Path) -> None:
    print(fuzz(tmp_path, 1_000_000, 2))

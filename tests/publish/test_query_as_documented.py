"""What docs/protocol.md says of the query socket, tried with plain sockets and JSON."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from inspectd.publish.journal import history
from inspectd.runtime.frame import Reason, unknown
from inspectd.wire.endpoints import beside
from tests.makers import frame, gap
from tests.publish.lines import Line


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    for n in range(1, 6):
        made.put(frame(n, slot=0))
    while made.publisher.published < 5:
        time.sleep(0.01)
    yield made
    made.stop()


Client = Callable[[int], "zmq.Socket[bytes]"]


@pytest.fixture
def client(line: Line) -> Iterator[Client]:
    context, sockets = zmq.Context(), []

    def connect(kind: int) -> "zmq.Socket[bytes]":
        socket = context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 5000)
        socket.connect(beside(line.endpoint, "query"))
        sockets.append(socket)
        return socket

    yield connect
    for socket in sockets:
        socket.close()
    context.term()


def question(verb: str, **more: Any) -> bytes:
    return json.dumps({"verb": verb, "id": 7, **more}).encode()


def ask(socket: "zmq.Socket[bytes]", *frames: bytes) -> list[bytes]:
    socket.send_multipart(frames)
    return socket.recv_multipart()


def test_a_snapshot(line: Line, client: Client) -> None:
    (body,) = ask(client(zmq.DEALER), question("snapshot"))
    told = json.loads(body)
    epoch = line.journal.epoch
    assert told.pop("heartbeat")["last_seq"] == 5
    assert told == {"id": 7, "epoch": epoch, "last": 5, "oldest": {"epoch": epoch, "first": 1}}


def test_an_empty_frame_comes_back_if_there_was_one(client: Client) -> None:
    dealer = client(zmq.DEALER)
    assert len(ask(dealer, question("snapshot"))) == 1
    assert ask(dealer, b"", question("snapshot"))[0] == b""
    assert len(ask(client(zmq.REQ), question("snapshot"))) == 1


def test_a_replay(line: Line, client: Client) -> None:
    epoch = line.journal.epoch
    head, *frames = ask(client(zmq.DEALER), question("replay", epoch=epoch, **{"from": 4}))
    assert json.loads(head) == {"id": 7, "epoch": epoch, "upto": 5, "count": 2, "next": None}
    assert len(frames) == 6 and frames[0] == b"res/a/top/"
    assert [int.from_bytes(header[4:6], "little") & 1 for header in frames[1::3]] == [1, 1]
    assert [int.from_bytes(header[16:24], "little") for header in frames[1::3]] == [4, 5]
    assert [json.loads(body)["part_id"] for body in frames[2::3]] == [4, 5]


def test_a_range_is_one_result_of_a_replay(line: Line, client: Client) -> None:
    line.put(gap(6, 1000), unknown(Reason.LOST))
    line.put(frame(1006, slot=0))
    line.finish_puts()
    head, *frames = ask(client(zmq.DEALER), question("replay", epoch=line.journal.epoch, **{"from": 5}))
    assert json.loads(head)["count"] == 3
    headers, bodies = frames[1::3], [json.loads(body) for body in frames[2::3]]
    order = [int.from_bytes(header[24:32], "little") for header in headers]
    assert sorted(order) == [5, 6, 1006] == sorted(body["part_id"] for body in bodies)
    ranges = [bool(int.from_bytes(header[4:6], "little") & 16) for header in headers]
    assert ranges == [part_id == 6 for part_id in order] == ["last_part_id" in body for body in bodies]
    assert bodies[order.index(6)]["last_part_id"] == 1005


@pytest.mark.parametrize(("start", "count", "upto"), [(0, 5, 5), (1, 5, 5), (5, 1, 5), (6, 0, 5), (600, 0, 5)])
def test_where_an_answer_goes_to(line: Line, client: Client, start: int, count: int, upto: int) -> None:
    head = json.loads(ask(client(zmq.DEALER), question("replay", epoch=line.journal.epoch, **{"from": start}))[0])
    assert (head["count"], head["upto"], head["next"]) == (count, upto, None)


def test_an_epoch_that_the_daemon_does_not_know(line: Line, client: Client) -> None:
    (body,) = ask(client(zmq.DEALER), question("replay", epoch=2**64 - 1, **{"from": 9}))
    told = json.loads(body)
    assert told["count"] == 0 and told["upto"] < 9 and told["next"] == {"epoch": line.journal.epoch, "first": 1}


@pytest.mark.parametrize(
    "frames",
    [
        [b"{}"],
        [b"junk"],
        [b"\xff\xfe"],
        [question("snapshot", more=1)],
        [question("status")],
        [b'{"verb": "snapshot"}'],
        [b'{"verb": "snapshot", "id": "text"}'],
        [b'{"verb": "snapshot", "id": 1.5}'],
        [question("replay", epoch=1)],
        [question("replay", epoch=1, **{"from": -1})],
        [question("snapshot"), question("snapshot")],
    ],
)
def test_what_is_no_query_is_an_error_under_number_0(client: Client, frames: list[bytes]) -> None:
    dealer = client(zmq.DEALER)
    (body,) = ask(dealer, *frames)
    told = json.loads(body)
    assert told.keys() == {"error", "id"} and told["id"] == 0 and told["error"].startswith("not a query: ")
    assert json.loads(ask(dealer, question("snapshot"))[0])["last"] == 5


def test_64_kib_and_no_more(client: Client) -> None:
    dealer = client(zmq.DEALER)
    longest = question("snapshot").ljust(65536)
    assert json.loads(ask(dealer, longest)[0])["last"] == 5
    dealer.send(longest + b" ")
    assert not dealer.poll(500)  # the connection has ended, and another stands
    assert json.loads(ask(dealer, question("snapshot"))[0])["last"] == 5


def test_of_two_replays_of_a_client_that_wait_the_newest_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Line(tmp_path)
    for n in range(1, 5001):
        first.put(frame(n, slot=0))
    first.stop()
    monkeypatch.setattr(history, "STEP_BYTES", 5000)  # so many steps that the questions meet
    line = Line(tmp_path)
    context = zmq.Context()
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.connect(beside(line.endpoint, "query"))
        start = line.journal.segments[-1].position.seq - 1  # at the end of a file that is not learned yet
        for number in (1, 2):
            dealer.send(question("replay", epoch=line.journal.epoch, **{"from": start}, id=number))
        assert json.loads(dealer.recv_multipart()[0])["id"] == 2
        assert not dealer.poll(300)
    finally:
        context.destroy(linger=0)
        line.stop()

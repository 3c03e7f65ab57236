"""The subscriber kit against a real publisher: results in order, and the truth about what is missing."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from inspectd.publish.journal import history
from inspectd.publish.journal.history import History
from inspectd.runtime.errors import UserError
from inspectd.subscribe import Beat, Event, Missed, NewEpoch, Received, Results, Silence, client
from inspectd.wire.results import Flag, Header, VerdictCode, WireError
from tests.makers import examples, frame
from tests.publish.lines import Line, connected, heard, results


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def subscriber(line: Line) -> Iterator[Results]:
    with Results(line.endpoint) as made:
        connected(made)
        yield made


def not_beat(event: Event) -> bool:
    return not isinstance(event, Beat)


def test_nothing_is_missed_after_the_first_beat(line: Line, subscriber: Results) -> None:
    for n in range(1, 6):
        line.put(frame(n, slot=0))
    assert [one.seq for one in results(subscriber, 5)] == [1, 2, 3, 4, 5]


def test_who_comes_later_sees_no_gap(line: Line) -> None:
    line.put(frame(1, slot=0))
    with Results(line.endpoint) as late:
        connected(late)
        line.put(frame(2, slot=0))
        assert results(late, 1)[0].seq == 2


def numbers(line: Line, subscriber: Results, count: int) -> list[int]:
    return [one.seq for one in results(subscriber, count)]


def test_what_the_wire_lost_is_fetched_and_comes_in_order(line: Line, subscriber: Results) -> None:
    line.drop(2, 3, 5)
    for n in range(1, 7):
        line.put(frame(n, slot=0))
    found = results(subscriber, 6)
    assert [one.seq for one in found] == [1, 2, 3, 4, 5, 6]
    assert [one.result.part_id for one in found] == [1, 2, 3, 4, 5, 6]
    assert Flag.REPLAYED in found[1].header.flags and Flag.REPLAYED not in found[0].header.flags
    assert found[1].cursor == (line.journal.epoch, 2)


def test_a_lost_tail_is_told_by_the_heartbeat_and_fetched(line: Line, subscriber: Results) -> None:
    line.drop(2, 3)
    for n in range(1, 4):
        line.put(frame(n, slot=0))
    assert numbers(line, subscriber, 3) == [1, 2, 3]
    line.put(frame(4, slot=0))
    assert numbers(line, subscriber, 1) == [4]  # and none comes twice


def test_what_is_not_kept_is_missed_before_the_result_behind_it(line: Line, subscriber: Results) -> None:
    line.put(frame(1, slot=0))
    results(subscriber, 1)
    line.lose(3)
    line.put(frame(5, slot=0))
    events = [event for event in heard(subscriber, lambda e: isinstance(e, Received)) if not_beat(event)]
    assert events[0] == Missed(2, 4)
    assert isinstance(events[1], Received)
    assert events[1].seq == 5
    assert len(events) == 2


def test_a_missed_tail_is_told_once(line: Line, subscriber: Results) -> None:
    line.put(frame(1, slot=0))
    results(subscriber, 1)
    line.lose(2)
    assert heard(subscriber, not_beat)[-1] == Missed(2, 3)
    assert connected(subscriber).header.seq == 3
    line.put(frame(4, slot=0))
    assert results(subscriber, 1)[0].seq == 4


def test_who_is_live_only_fetches_nothing(line: Line) -> None:
    with Results(line.endpoint, live_only=True) as subscriber:
        connected(subscriber)
        line.drop(2, 3)
        for n in range(1, 5):
            line.put(frame(n, slot=0))
        events = heard(subscriber, lambda e: isinstance(e, Received) and e.seq == 4)
    events = [event for event in events if not_beat(event)]
    assert events[1] == Missed(2, 3)
    assert [event.seq for event in events if isinstance(event, Received)] == [1, 4]


def test_the_oldest_first_and_then_what_comes(line: Line) -> None:
    for n in range(1, 601):
        line.put(frame(n, slot=0))
    with Results(line.endpoint, start="oldest") as subscriber:
        assert numbers(line, subscriber, 600) == list(range(1, 601))
        line.put(frame(601, slot=0))
        assert numbers(line, subscriber, 1) == [601]


def test_the_oldest_of_an_empty_journal(line: Line) -> None:
    with Results(line.endpoint, start="oldest") as subscriber:
        connected(subscriber)
        line.put(frame(1, slot=0))
        assert numbers(line, subscriber, 1) == [1]


@pytest.mark.parametrize("start", ["beginning", "", 5, None, (1,), (1, 2, 3), ("1", 2), [1, 2], (1, -1), (1.0, 2)])
def test_a_start_that_is_none_is_refused(start: Any) -> None:
    with pytest.raises(UserError, match=r'give "now", "oldest", or the cursor of the last result') as refused:
        Results("ipc://never", start=start)
    assert repr(start) in str(refused.value)


def test_a_cursor_goes_on_behind_its_result(line: Line) -> None:
    for n in range(1, 6):
        line.put(frame(n, slot=0))
    with Results(line.endpoint, start="oldest") as first:
        cursor = results(first, 3)[-1].cursor
    with Results(line.endpoint, start=cursor) as second:
        assert numbers(line, second, 2) == [4, 5]


def test_beyond_retention_one_missed_then_what_is_kept(line: Line) -> None:
    for n in range(1, 6001):  # the journal of this line keeps some 4,000
        line.put(frame(n, slot=0))
    with Results(line.endpoint, start=(line.journal.epoch, 5)) as subscriber:
        # A busy machine may leave its heart unheard for a while: that is no answer.
        first = heard(subscriber, lambda event: not isinstance(event, Beat | Silence), 20)[-1]
        assert isinstance(first, Missed) and first.first == 6 and first.last > 500
        found = numbers(line, subscriber, 6000 - first.last)
        assert found == list(range(first.last + 1, 6001))


def restarted(line: Line, tmp_path: Path, boot: str = "boot") -> Line:
    line.stop()
    return Line(tmp_path, boot=boot)


def test_over_a_restart_nothing_is_missed(line: Line, subscriber: Results, tmp_path: Path) -> None:
    line.put(frame(1, slot=0))
    results(subscriber, 1)
    line.stop()
    events = [
        event for event in heard(subscriber, lambda e: isinstance(e, Silence) and e.seconds > 2) if not_beat(event)
    ]
    assert len(events) == 2
    assert [isinstance(event, Silence) for event in events] == [True, True]
    assert 1.0 <= events[0].seconds < 1.9  # type: ignore[union-attr]
    again = Line(tmp_path)
    try:
        again.put(frame(2, slot=0))  # before the subscriber has found its way back
        told = heard(subscriber, lambda event: isinstance(event, Received))
        assert isinstance(told[-1], Received) and told[-1].seq == 2
        assert not any(isinstance(event, NewEpoch | Missed) for event in told)  # it was a clean end
    finally:
        again.stop()


def test_another_epoch_is_told_after_the_last_of_the_old_one(
    line: Line, subscriber: Results, tmp_path: Path
) -> None:
    line.drop(2, 3)
    for n in range(1, 4):
        line.put(frame(n, slot=0))
    results(subscriber, 1)
    while line.publisher.published < 3:
        time.sleep(0.01)
    old, line.journal.failure = line.journal.epoch, "not closed"  # as a power cut leaves it
    again = restarted(line, tmp_path, "another boot")
    try:
        again.put(frame(4, slot=0))
        told = [e for e in heard(subscriber, lambda e: isinstance(e, Received) and e.seq == 4) if not_beat(e)]
        told = [event for event in told if not isinstance(event, Silence)]
        assert [e.cursor for e in told if isinstance(e, Received)] == [
            (old, 2),
            (old, 3),
            (again.journal.epoch, 4),
        ]
        assert told[2] == NewEpoch(again.journal.epoch)
    finally:
        again.stop()


def test_a_cursor_of_an_epoch_that_nobody_knows(line: Line) -> None:
    line.put(frame(1, slot=0))
    with Results(line.endpoint, start=(42, 17)) as subscriber:
        assert heard(subscriber, not_beat)[-1] == NewEpoch(line.journal.epoch)
        assert numbers(line, subscriber, 1) == [1]


def test_a_cursor_ahead_of_the_daemon_is_of_another_time(line: Line) -> None:
    line.put(frame(1, slot=0))
    while line.publisher.published < 1:
        time.sleep(0.01)
    with Results(line.endpoint, start=(line.journal.epoch, 17)) as subscriber:
        assert heard(subscriber, not_beat)[-1] == NewEpoch(line.journal.epoch)
        line.put(frame(2, slot=0))
        assert numbers(line, subscriber, 1) == [2]


def backed_up(line: Line, tmp_path: Path) -> Path:
    """What is in the journal now; the line goes on."""
    line.finish_puts()
    return shutil.copytree(line.folder, tmp_path / "backup")


def put_back(line: Line, backup: Path) -> Line:
    """The daemon stops, and starts with the journal of before."""
    line.stop()
    shutil.rmtree(line.folder)
    shutil.copytree(backup, line.folder)
    return Line(line.folder.parent)


def test_an_old_journal_that_is_put_back_is_a_new_epoch(line: Line, subscriber: Results, tmp_path: Path) -> None:
    """Its numbers come again, as others: they must not be taken for those that were handed over."""
    for n in range(1, 4):
        line.put(frame(n, slot=0))
    backup = backed_up(line, tmp_path)
    for n in range(4, 11):
        line.put(frame(n, slot=0))
    assert numbers(line, subscriber, 10) == list(range(1, 11))
    again = put_back(line, backup)
    try:
        told = heard(subscriber, lambda event: isinstance(event, NewEpoch))
        assert told[-1] == NewEpoch(line.journal.epoch)
        assert not any(isinstance(event, Received | Missed) for event in told)
        for n in range(104, 120):
            again.put(frame(n, slot=0))
        found = results(subscriber, 16)
        assert [(one.seq, one.result.part_id) for one in found] == [(n, 100 + n) for n in range(4, 20)]
    finally:
        again.stop()


def test_an_old_journal_that_is_put_back_while_a_question_is_open(
    line: Line, subscriber: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heard up to 10, handed over up to 6, and the answer comes from a daemon that is at 3."""
    for n in range(1, 4):
        line.put(frame(n, slot=0))
    backup = backed_up(line, tmp_path)
    for n in range(4, 7):
        line.put(frame(n, slot=0))
    results(subscriber, 6)
    monkeypatch.setattr(client, "ANSWER_S", 30.0)
    monkeypatch.setattr(History, "read", lambda *_: None)  # too busy
    line.drop(7)
    for n in range(7, 11):
        line.put(frame(n, slot=0))
    while subscriber._asked is None:
        subscriber.receive(0.05)
    line.stop()
    monkeypatch.undo()
    again = put_back(line, backup)
    try:
        subscriber._ask()  # ZeroMQ itself keeps a question that was not sent yet for the next daemon
        assert heard(subscriber, not_beat)[-1] == NewEpoch(line.journal.epoch)
        for n in range(104, 110):
            again.put(frame(n, slot=0))
        found = results(subscriber, 6)
        assert [(one.seq, one.result.part_id) for one in found] == [(n, 100 + n) for n in range(4, 10)]
    finally:
        again.stop()


def test_live_messages_older_than_what_was_replayed_are_not_taken_for_an_old_journal(
    line: Line, subscriber: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results and heartbeats wait unread while the journal is read beyond them."""
    read = History.read
    monkeypatch.setattr(client, "ANSWER_S", 30.0)
    monkeypatch.setattr(History, "read", lambda *_: None)  # too busy
    line.drop(1)
    line.put(frame(1, slot=0))
    while subscriber._asked is None:
        subscriber.receive(0.05)
    for n in range(2, 51):
        line.put(frame(n, slot=0))
        time.sleep(0.01)
    line.finish_puts()
    monkeypatch.setattr(History, "read", read)
    told = heard(subscriber, lambda event: isinstance(event, Beat) and event.header.seq == 50)
    assert [event.seq for event in told if isinstance(event, Received)] == list(range(1, 51))
    assert all(isinstance(event, Beat | Received) for event in told)
    assert sum(isinstance(event, Beat) and event.header.seq < 50 for event in told[50:]) > 2


def test_a_query_socket_out_of_reach_is_not_waited_for_for_ever(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "UNREACHABLE_S", 1.0)
    with Results(line.endpoint, query=f"ipc://{tmp_path}/nobody") as subscriber:
        connected(subscriber)
        line.drop(1)
        line.put(frame(1, slot=0))
        line.put(frame(2, slot=0))
        assert heard(subscriber, not_beat)[-1] in (Missed(1, 1), Missed(1, 2))
        line.put(frame(3, slot=0))
        assert results(subscriber, 1)[0].seq in (2, 3)


def test_what_is_looked_for_for_long_is_not_missed(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large segment that an earlier daemon wrote: it takes longer to learn than anybody waits for an answer."""
    for n in range(1, 4001):
        line.put(frame(n, slot=0))
    line.finish_puts()
    monkeypatch.setattr(client, "UNREACHABLE_S", 1.0)
    monkeypatch.setattr(history, "STEP_BYTES", 4000)
    scan = History._scan
    monkeypatch.setattr(History, "_scan", lambda *of: (time.sleep(0.005), scan(*of)))
    again = restarted(line, tmp_path)
    try:
        start = again.journal.segments[-1].position.seq - 5
        assert len(again.journal.segments) == 2
        with Results(line.endpoint, start=(line.journal.epoch, start - 1)) as subscriber:
            began_s = time.monotonic()
            assert numbers(again, subscriber, 5) == list(range(start, start + 5))
            assert time.monotonic() - began_s > 1.5
    finally:
        again.stop()


def test_a_dead_daemon_is_not_taken_for_one_that_does_not_answer(
    line: Line, subscriber: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live messages that wait unread are no sign of life."""
    monkeypatch.setattr(client, "UNREACHABLE_S", 1.0)
    line.drop(1)
    for n in range(1, 301):
        line.put(frame(n, slot=0))
    while line.publisher.published < 300:
        time.sleep(0.01)
    time.sleep(0.3)
    line.stop()
    heard_of = [event for _ in range(12) if (event := subscriber.receive(0.3))]
    assert sum(isinstance(event, Silence) for event in heard_of) >= 2
    assert not any(isinstance(event, Missed | NewEpoch) for event in heard_of)
    found = [event.seq for event in heard_of if isinstance(event, Received)]
    again = Line(tmp_path)
    try:
        while len(found) < 300:
            event = subscriber.receive(5)
            assert event is not None and not isinstance(event, Missed | NewEpoch)
            found += [event.seq] if isinstance(event, Received) else []
    finally:
        again.stop()
    assert found == list(range(1, 301))


SLOW_READER = """
import sys, zmq
from inspectd.subscribe import Results
query = Results(sys.argv[1])._query
query.send(b'{"id": 1, "verb": "replay", "epoch": %s, "from": 1}' % sys.argv[2].encode())
query.poll(5000)
frames = [query.recv()]
print("reading", flush=True)
sys.stdin.readline()
while query.get(zmq.RCVMORE):
    frames.append(query.recv())
print(len(frames), flush=True)
"""
"""Reads the frames of an answer one by one, and waits after the first."""


def test_a_daemon_that_dies_while_its_answer_is_read_is_no_harm(line: Line) -> None:
    """libzmq aborts the process of a DEALER with ZMQ_IMMEDIATE."""
    for n in range(1, 101):
        line.put(frame(n, slot=0))
    while line.publisher.published < 100:
        time.sleep(0.01)
    command = [sys.executable, "-c", SLOW_READER, line.endpoint, str(line.journal.epoch)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None and reader.stdin is not None
        assert reader.stdout.readline() == "reading\n"
        line.stop()
        time.sleep(0.2)
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert int(reader.stdout.readline() or 0) > 3
    assert reader.returncode == 0


async def first_results(subscriber: Results, count: int) -> list[int]:
    found: list[int] = []
    async for event in subscriber:
        if isinstance(event, Received):
            found.append(event.seq)
        if len(found) == count:
            break
    return found


def test_async_for_and_a_cancelled_wait_loses_nothing(line: Line, subscriber: Results) -> None:
    async def scenario() -> list[int]:
        line.put(frame(1, slot=0))
        found = await first_results(subscriber, 1)
        for _ in range(5):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(first_results(subscriber, 100), 0.05)
        return found

    found = asyncio.run(scenario())
    assert found == [1]
    line.put(frame(2, slot=0))
    assert numbers(line, subscriber, 1) == [2]


def test_a_daemon_that_never_speaks_is_silent(tmp_path: Path) -> None:
    with Results(f"ipc://{tmp_path}/nobody") as subscriber:
        began = time.monotonic()
        assert subscriber.receive(0.2) is None
        assert isinstance(subscriber.receive(5), Silence)
        assert 1.0 <= time.monotonic() - began < 2
        assert subscriber.receive(0.2) is None


def test_iteration_yields_the_events(line: Line, subscriber: Results) -> None:
    line.put(frame(1, slot=0))
    assert next(event.seq for event in subscriber if isinstance(event, Received)) == 1


class Foreign:
    """Another program at the endpoint."""

    def __init__(self, folder: Path) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self.endpoint = f"ipc://{folder}/z"
        self._socket.bind(self.endpoint)

    def hear(self, subscriber: Results, *frames: bytes) -> Event:
        """Say it until it is heard."""
        for _ in range(200):
            self._socket.send_multipart(frames)
            if event := subscriber.receive(0.02):
                return event
        raise AssertionError

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Foreign]:
    made = Foreign(tmp_path)
    yield made
    made.close()


HEADER = Header(Flag(0), VerdictCode.PASS, 1, 1, 1, 1, 1).pack()


@pytest.mark.parametrize(
    "frames",
    [
        (b"res/a/top/", b"junk", b"{}"),
        (b"res/a/top/", HEADER, b"{}"),
        (b"res/a/top/", HEADER, b"\xff"),
        (b"hb/a/", HEADER, b"{}"),
        (b"hb/a/", b"", b""),
    ],
)
def test_a_foreign_message_is_a_wire_error(foreign: Foreign, frames: tuple[bytes, ...]) -> None:
    with Results(foreign.endpoint) as subscriber, pytest.raises(WireError):
        foreign.hear(subscriber, *frames)


@pytest.mark.parametrize("frames", [(b"res/a/top/",), (b"res/a/top/", HEADER), (b"hb/a/", HEADER, b"{}", b"more")])
def test_a_message_of_another_number_of_frames_is_a_wire_error(
    foreign: Foreign, frames: tuple[bytes, ...]
) -> None:
    with Results(foreign.endpoint) as subscriber, pytest.raises(WireError):
        foreign.hear(subscriber, *frames)


@examples(15)
@given(st.lists(st.sampled_from(["heard", "lost", "restart"]), min_size=1, max_size=40), st.booleans())
def test_whatever_is_lost_each_result_comes_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str], from_oldest: bool
) -> None:
    folder = tmp_path_factory.mktemp("line")
    line = Line(folder)
    with Results(line.endpoint, start="oldest" if from_oldest else "now") as subscriber:
        connected(subscriber)
        seq = 0
        for fate in fates:
            if fate == "restart":
                line.stop()
                line = Line(folder)
                continue
            seq += 1
            if fate == "lost":
                line.drop(seq)
            line.put(frame(seq, slot=0))
        found: list[int] = []
        while len(found) < seq:
            event = subscriber.receive(5)
            assert event is not None and not isinstance(event, Missed | NewEpoch)
            found += [event.seq] if isinstance(event, Received) else []
        line.stop()
        assert found == list(range(1, seq + 1))
        assert subscriber.receive(0.1) is None or not isinstance(subscriber.receive(0.1), Received)

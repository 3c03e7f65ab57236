"""The subscriber kit against a real publisher: results in order, and the truth about what is missing."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from inspectd.publish.wire import Flag, Header, VerdictCode, WireError
from inspectd.subscribe import Beat, Event, Gap, NewEpoch, Received, Silence, Subscriber
from tests.makers import examples, frame
from tests.publish.lines import Line, connected, heard, results


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def subscriber(line: Line) -> Iterator[Subscriber]:
    with Subscriber(line.endpoint) as made:
        connected(made)
        yield made


def not_beat(event: Event) -> bool:
    return not isinstance(event, Beat)


def test_nothing_is_missed_after_the_first_beat(line: Line, subscriber: Subscriber) -> None:
    for n in range(1, 6):
        line.put(frame(n, slot=0))
    assert [one.seq for one in results(subscriber, 5)] == [1, 2, 3, 4, 5]


def test_who_comes_later_sees_no_gap(line: Line) -> None:
    line.put(frame(1, slot=0))
    with Subscriber(line.endpoint) as late:
        connected(late)
        line.put(frame(2, slot=0))
        assert results(late, 1)[0].seq == 2


def test_a_gap_is_told_before_the_result_behind_it(line: Line, subscriber: Subscriber) -> None:
    line.put(frame(1, slot=0))
    results(subscriber, 1)
    line.lose(3)
    line.put(frame(5, slot=0))
    events = [event for event in heard(subscriber, lambda e: isinstance(e, Received)) if not_beat(event)]
    assert events[0] == Gap(2, 4)
    assert isinstance(events[1], Received)
    assert events[1].seq == 5
    assert len(events) == 2


def test_a_gap_at_the_tail_is_told_by_the_heartbeat(line: Line, subscriber: Subscriber) -> None:
    line.put(frame(1, slot=0))
    results(subscriber, 1)
    line.lose(2)
    assert heard(subscriber, not_beat)[-1] == Gap(2, 3)
    assert connected(subscriber).header.seq == 3
    line.put(frame(4, slot=0))
    assert results(subscriber, 1)[0].seq == 4  # and the gap is not told twice


def test_silence_is_told_again_and_again_and_then_the_gap(
    line: Line, subscriber: Subscriber, tmp_path: Path
) -> None:
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
        told = heard(subscriber, lambda event: isinstance(event, Gap))
        assert told[-1] == Gap(2, 2)
        assert not any(isinstance(event, NewEpoch) for event in told)  # it was a clean end
    finally:
        again.stop()


def test_a_daemon_that_never_speaks_is_silent(tmp_path: Path) -> None:
    with Subscriber(f"ipc://{tmp_path}/nobody") as subscriber:
        began = time.monotonic()
        assert subscriber.receive(0.2) is None
        assert isinstance(subscriber.receive(5), Silence)
        assert 1.0 <= time.monotonic() - began < 2
        assert subscriber.receive(0.2) is None


def test_iteration_yields_the_events(line: Line, subscriber: Subscriber) -> None:
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

    def hear(self, subscriber: Subscriber, *frames: bytes) -> Event:
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
    with Subscriber(foreign.endpoint) as subscriber, pytest.raises(WireError):
        foreign.hear(subscriber, *frames)


@pytest.mark.parametrize("frames", [(b"res/a/top/",), (b"res/a/top/", HEADER), (b"hb/a/", HEADER, b"{}", b"more")])
def test_a_message_of_another_number_of_frames_is_a_wire_error(
    foreign: Foreign, frames: tuple[bytes, ...]
) -> None:
    with Subscriber(foreign.endpoint) as subscriber, pytest.raises(WireError):
        foreign.hear(subscriber, *frames)


@pytest.fixture(scope="module")
def deaf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Subscriber]]:
    made: list[Subscriber] = []

    def make() -> Subscriber:
        if not made:
            made.append(Subscriber(f"ipc://{tmp_path_factory.mktemp('deaf')}/z"))
        made[0]._last = None
        made[0]._events.clear()
        return made[0]

    yield make
    for one in made:
        one.close()


@examples(150)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["heard", "missed"])), max_size=30), st.integers(0, 2**40)
)
def test_heard_and_missing_together_are_the_whole_sequence(
    deaf: Callable[[], Subscriber], steps: list[tuple[bool, str]], first: int
) -> None:
    """Whatever is missed: after the next message that is heard, every number was told once."""
    subscriber = deaf()
    subscriber._follow(7, first, first)
    seq, numbers = first, []
    for is_beat, fate in steps:
        seq += not is_beat
        if fate == "missed":
            continue
        subscriber._follow(7, seq, seq if is_beat else seq - 1)
        while subscriber._events:
            gap = subscriber._events.popleft()
            assert isinstance(gap, Gap)
            numbers += range(gap.first, gap.last + 1)
        if not is_beat:
            numbers.append(seq)
        assert numbers == list(range(first + 1, seq + 1))


def test_a_new_epoch_is_told_and_is_no_gap(deaf: Callable[[], Subscriber]) -> None:
    subscriber = deaf()
    subscriber._follow(7, 10, 10)
    subscriber._follow(8, 3, 3)
    subscriber._follow(8, 4, 3)
    assert list(subscriber._events) == [NewEpoch(8)]

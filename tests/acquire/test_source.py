"""The daemon's end of a camera, the camera process being played by the test over the real socket."""

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.acquire.camera import MAX_GAP, Started
from inspectd.acquire.protocol import (
    Connecting,
    Filled,
    Finished,
    FromCamera,
    Idle,
    Job,
    Missing,
    Notice,
    Slot,
    Stop,
    Streaming,
    ToCamera,
    Triggered,
    Trouble,
    Unfilled,
    Vitals,
)
from inspectd.acquire.source import PROCESS_ENDED, Source
from inspectd.runtime.books import Ledger, Losses
from inspectd.runtime.clock import ClockView, now_ns
from inspectd.runtime.frame import Ended, Frame, Reason, Verdict
from inspectd.runtime.ring import create
from inspectd.runtime.slots import Shape
from inspectd.settings.camera import FolderCamera
from tests.makers import examples

SLOTS = 4
CONFIG = FolderCamera(name="top", width=64, height=64, folder="x")


class Line:
    """A source with its ring and books, and the camera process at the other end of its socket."""

    def __init__(self, part_id: int = 0, cls: type[Source] = Source) -> None:
        self.ring = create(SLOTS, Shape(64, 64, 1), "test")
        self.ledger = Ledger(1)
        job = Job(CONFIG, "/", {}, (0, 0, 64, 64), 1, SLOTS, now_ns())
        self.source = cls(0, job, self.ring, self.ledger, 1_000_000_000, part_id)
        self.camera: socket.socket | None = None
        self.free: list[int] = []

    def start(self, counted: int | None = 0, device: str = "toy", booted_ns: int = 0) -> list[Frame | Ended]:
        """A new camera process that streams."""
        ours, self.camera = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.camera.setblocking(False)
        self.free = []
        self.source.attach(ours)
        return self.say(Streaming(device, Started(counted, 77, booted_ns=booted_ns)))

    def hear(self) -> list[ToCamera]:
        """What the daemon has told the camera process so far; slots go to `free`."""
        assert self.camera is not None
        heard = []
        while True:
            try:
                heard.append(msgspec.msgpack.decode(self.camera.recv(65536), type=ToCamera))
            except BlockingIOError:
                self.free += [message.slot for message in heard if isinstance(message, Slot)]
                return heard

    def tell(self, *messages: FromCamera) -> None:
        assert self.camera is not None
        for message in messages:
            self.camera.send(msgspec.msgpack.encode(message))

    def say(self, *messages: FromCamera) -> list[Frame | Ended]:
        """Tell, and let the daemon read."""
        self.tell(*messages)
        return list(self.source.read())

    def filled(self, frame_id: int, slot: int | None = None) -> Filled:
        """Fill a slot as the camera process does."""
        if slot is None:
            self.hear()
            slot = self.free.pop(0)
        self.ring.begin_write(slot, frame_id, now_ns())
        return Filled(slot, self.ring.end_write(slot), frame_id, now_ns(), now_ns())

    def die(self) -> list[Frame | Ended]:
        """The camera process ends, having taken all that the daemon told it."""
        assert self.camera is not None
        self.hear()
        return self.die_deaf()

    def die_deaf(self) -> list[Frame | Ended]:
        assert self.camera is not None
        self.camera.close()
        return list(self.source.read())


@pytest.fixture
def make() -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def made(*args: Any, **kwargs: Any) -> Line:
        lines.append(Line(*args, **kwargs))
        return lines[-1]

    yield made
    for line in lines:
        close(line)


def close(line: Line) -> None:
    if line.camera is not None:
        line.camera.close()
    list(line.source.read())
    os.close(line.ring.fd)


@pytest.fixture
def line(make: Callable[..., Line]) -> Line:
    made = make()
    assert made.start() == []
    return made


def missed(frame_id: int, reason: Reason = Reason.OVERRUN, detail: str = "no free slot") -> Unfilled:
    return Unfilled(frame_id, now_ns(), reason, detail)


def ends(items: list[Frame | Ended]) -> list[tuple[int, str]]:
    """Part id and reason of each item; a frame to be judged has the reason "frame"."""
    return [
        (item.part_id, "frame") if isinstance(item, Frame) else (item.frame.part_id, str(item.judgement.reason))
        for item in items
    ]


def test_a_filled_slot_becomes_a_frame(line: Line) -> None:
    message = line.filled(1)
    (frame,) = line.say(message)
    assert isinstance(frame, Frame)
    assert frame.open
    assert (frame.camera, frame.part_id, frame.frame_id) == (0, 1, 1)
    assert (frame.slot, frame.generation, frame.ring_ns) == (message.slot, message.generation, message.ring_ns)
    assert frame.generation == line.ring.header(frame.slot).generation
    assert (frame.trigger_ns, frame.deadline_ns) == (message.trigger_ns, message.trigger_ns + 1_000_000_000)
    assert not frame.counting_restarted
    assert line.ring.header(frame.slot).part_id == 1
    assert line.source.state == "streaming"
    assert line.source.newest_ns == message.ring_ns
    assert (line.ledger.read(0).triggered, line.ledger.read(0).received) == (1, 1)


def test_all_free_slots_are_lent_oldest_first(line: Line) -> None:
    line.hear()
    assert line.free == [0, 1, 2, 3]
    frames = line.say(*(line.filled(n, slot) for n, slot in zip((1, 2, 3), (2, 0, 1), strict=True)))
    line.free = []
    for frame in reversed(frames):
        assert isinstance(frame, Frame)
        line.source.give_back(frame.slot)
    line.hear()
    assert line.free == [1, 0, 2]


def test_a_gap_is_as_many_unknowns_before_the_frame(line: Line) -> None:
    items = line.say(line.filled(4))
    assert ends(items) == [(1, "lost"), (2, "lost"), (3, "lost"), (4, "frame")]
    for item in items[:3]:
        assert isinstance(item, Ended)
        assert item.judgement.verdict is Verdict.UNKNOWN
        assert not item.frame.open
        assert item.frame.slot == -1
    assert [item.frame.frame_id for item in items[:3]] == [1, 2, 3]
    books = line.ledger.read(0)
    assert (books.triggered, books.received, books.lost, books.in_flight) == (4, 1, 3, 1)
    assert books.balanced


def test_a_missed_exposure_keeps_its_reason_and_its_place(line: Line) -> None:
    items = line.say(missed(2), missed(3, Reason.INCOMPLETE, "cut off"), line.filled(4))
    assert ends(items) == [(1, "lost"), (2, "overrun"), (3, "incomplete"), (4, "frame")]
    assert isinstance(items[2], Ended)
    assert items[2].judgement.detail == "cut off"
    books = line.ledger.read(0)
    assert (books.received, books.lost, books.incomplete) == (2, 1, 1)


def test_the_first_count_of_the_camera_is_where_the_parts_begin(make: Callable[..., Line]) -> None:
    fresh, known = make(), make(part_id=500)
    assert fresh.start(counted=100) == []
    assert ends(fresh.say(fresh.filled(102))) == [(101, "lost"), (102, "frame")]
    assert known.start(counted=100) == []
    assert ends(known.say(known.filled(101))) == [(501, "frame")]


def test_triggers_while_the_camera_was_down_are_known_by_its_counter(line: Line) -> None:
    assert ends(line.say(line.filled(1), line.filled(2))) == [(1, "frame"), (2, "frame")]
    assert line.die() == []
    items = line.start(counted=5)
    assert ends(items) == [(3, "camera"), (4, "camera"), (5, "camera")]
    (frame,) = line.say(line.filled(6))
    assert isinstance(frame, Frame)
    assert (frame.part_id, frame.counting_restarted) == (6, False)
    assert line.ledger.read(0).camera == 3


def test_a_camera_that_reconnects_by_itself_accounts_the_same_way(line: Line) -> None:
    line.say(line.filled(1))
    assert line.say(Trouble("the camera was lost")) == []
    assert (line.source.state, line.source.detail) == ("dead", "the camera was lost")
    assert ends(line.say(Streaming("toy", Started(3)), line.filled(4))) == [
        (2, "camera"),
        (3, "camera"),
        (4, "frame"),
    ]
    assert line.source.state == "streaming"


def test_without_a_counter_part_ids_go_on_and_the_next_result_says_so(line: Line) -> None:
    line.say(line.filled(1), line.filled(2))
    assert line.die() == []
    assert line.start(counted=None) == []
    items = line.say(line.filled(1), missed(2), line.filled(4))
    assert ends(items) == [(3, "frame"), (4, "overrun"), (5, "lost"), (6, "frame")]
    restarted = [(item if isinstance(item, Frame) else item.frame).counting_restarted for item in items]
    assert restarted == [True, False, False, False]


def test_the_flag_comes_with_the_first_result_even_if_that_is_a_lost_frame(line: Line) -> None:
    line.say(line.filled(1))
    line.die()
    line.start(counted=None)
    first, second = line.say(line.filled(2))
    assert isinstance(first, Ended)
    assert isinstance(second, Frame)
    assert (first.frame.counting_restarted, second.counting_restarted) == (True, False)


def test_a_simulated_device_goes_on_from_its_birth(line: Line) -> None:
    assert line.source.job.born_ns == 77
    assert line.source.job.slots == SLOTS


@pytest.mark.parametrize("part_id", [0, 7])
def test_the_first_start_of_all_is_no_restart_but_the_daemons_is(make: Callable[..., Line], part_id: int) -> None:
    line = make(part_id)
    assert line.start(counted=None) == []
    (frame,) = line.say(line.filled(1))
    assert isinstance(frame, Frame)
    assert (frame.part_id, frame.counting_restarted) == (part_id + 1, part_id > 0)


@pytest.mark.parametrize("frame_id", [5, 4, 1, 0])
def test_a_count_that_was_reported_is_late_and_no_part(line: Line, frame_id: int) -> None:
    line.say(line.filled(5))
    assert line.say(line.filled(frame_id), Vitals(Losses(late=2), ClockView())) == []
    assert line.source.losses.late == 3
    assert ends(line.say(line.filled(6))) == [(6, "frame")]
    line.hear()
    assert len(line.free) == SLOTS - 2  # the late picture's slot is free again
    assert line.ledger.read(0).balanced


@pytest.mark.parametrize("frame_id", [5 + MAX_GAP + 2, 2**40])
def test_a_count_that_jumps_is_unknown_and_part_ids_go_on(line: Line, frame_id: int) -> None:
    line.say(line.filled(5))
    (ended,) = line.say(line.filled(frame_id))
    assert isinstance(ended, Ended)
    assert (ended.frame.part_id, ended.frame.frame_id, ended.frame.counting_restarted) == (6, frame_id, True)
    assert (ended.judgement.verdict, ended.judgement.reason) == ("UNKNOWN", Reason.CAMERA)
    (after,) = line.say(line.filled(frame_id + 1))
    assert isinstance(after, Frame)
    assert (after.part_id, after.counting_restarted) == (7, False)
    assert line.ledger.read(0).balanced


@pytest.mark.parametrize("counted", [0, 4, 6 + MAX_GAP])
def test_a_counter_that_jumps_while_down_is_a_restart(line: Line, counted: int) -> None:
    line.say(line.filled(5))
    line.die()
    assert line.start(counted=counted) == []
    (alarm,) = line.say(line.filled(counted + 1))
    assert isinstance(alarm, Ended) and alarm.judgement.reason is Reason.CAMERA
    assert (alarm.frame.part_id, alarm.frame.counting_restarted) == (6, True)
    assert ends(line.say(line.filled(counted + 2))) == [(7, "frame")]


@pytest.mark.parametrize("was_off", [True, False])
def test_a_camera_whose_clock_began_after_its_newest_frame_was_off(line: Line, was_off: bool) -> None:
    """Its count is beyond the last one, as if it had gone on counting; that can't be where it was off."""
    line.say(line.filled(5))
    line.die()
    missed = line.start(counted=12, booted_ns=now_ns() if was_off else 1)
    assert ends(missed) == ([] if was_off else [(n, "camera") for n in range(6, 13)])
    assert ends(line.say(line.filled(13))) == [(6, "camera") if was_off else (13, "frame")]


@pytest.mark.parametrize("has_frame", [False, True])
def test_triggers_lost_right_after_such_a_restart_are_told(line: Line, has_frame: bool) -> None:
    """The camera counts from its set-up on, and exposes from its start on, a moment later."""
    line.say(line.filled(5))
    line.die()
    assert line.start(counted=0) == []
    first = line.filled(4) if has_frame else missed(4)
    told = line.say(first)
    assert ends(told) == [(6, "lost"), (7, "lost"), (8, "lost"), (9, "camera" if has_frame else "overrun")]
    assert [ended.frame.counting_restarted for ended in told] == [True, False, False, False]
    assert ends(line.say(line.filled(5))) == [(10, "frame")]
    assert line.ledger.read(0).balanced


def test_a_slot_being_written_at_the_end_is_one_unknown(line: Line) -> None:
    line.say(line.filled(1))
    line.hear()
    slot = line.free.pop(0)
    line.ring.begin_write(slot, 2, now_ns())
    (ended,) = line.die()
    assert isinstance(ended, Ended)
    assert (ended.frame.part_id, ended.judgement.reason) == (2, Reason.CAMERA)
    assert line.ring.header(slot).generation % 2 == 0
    assert line.start(counted=2) == []
    assert ends(line.say(line.filled(3))) == [(3, "frame")]
    assert line.ledger.read(0).balanced


def test_slots_of_a_process_that_does_not_die_are_not_lent_anew(line: Line) -> None:
    line.say(line.filled(1, slot=0))
    line.ring.begin_write(1, 3, now_ns())
    line.tell(line.filled(2, slot=2))
    assert line.source.give_up_process("it does not end") and not line.source.give_up_process("it does not end")
    assert ends(list(line.source.read())) == [(2, "frame"), (3, "camera")]
    assert (line.source.state, line.source.detail, line.source.fileno()) == ("dead", "it does not end", -1)
    line.source.give_back(0)
    line.source.give_back(2)
    assert line.ring.header(1).generation % 2 == 1  # it may still write there
    line.source.process_is_gone()
    assert line.ring.header(1).generation % 2 == 0
    assert line.camera is not None
    line.camera.close()
    line.start(counted=3)
    line.hear()
    assert line.free == [0, 2, 1, 3]


def test_a_dead_process_has_ended_though_its_socket_is_held(line: Line) -> None:
    """As by what a vendor's library has started."""
    line.tell(line.filled(1))
    line.source.process_is_gone()
    assert ends(list(line.source.read())) == [(1, "frame")]
    assert (line.source.fileno(), line.source.detail) == (-1, PROCESS_ENDED)


def test_frames_lost_before_the_one_being_written_are_not_forgotten(line: Line) -> None:
    line.say(line.filled(1))
    line.hear()
    line.ring.begin_write(line.free.pop(0), 4, now_ns())
    assert ends(line.die()) == [(2, "lost"), (3, "lost"), (4, "camera")]


def test_frames_handed_over_before_the_end_still_come(line: Line) -> None:
    line.tell(line.filled(1), missed(2), line.filled(3))
    items = line.die()
    assert ends(items) == [(1, "frame"), (2, "overrun"), (3, "frame")]
    assert (line.source.state, line.source.fileno()) == ("dead", -1)
    line.start(counted=3)
    line.hear()
    assert sorted(line.free) == [2, 3]  # 0 and 1 are being judged
    for item in items[::2]:
        assert isinstance(item, Frame)
        line.source.give_back(item.slot)
    line.hear()
    assert sorted(line.free) == [0, 1, 2, 3]


def test_frames_handed_over_come_even_if_the_camera_was_not_listening(line: Line) -> None:
    line.hear()
    (first,) = line.say(line.filled(1))
    assert isinstance(first, Frame)
    line.tell(line.filled(2), missed(3))
    line.source.give_back(first.slot)  # a Slot message that the camera process never takes
    assert ends(line.die_deaf()) == [(2, "frame"), (3, "overrun")]


def test_a_slot_given_back_while_the_process_ends_is_not_lost(make: Callable[..., Line]) -> None:
    class Racing(Source):
        """The judge thread gives a slot back at the worst moment."""

        judged: ClassVar[list[int]] = []

        def _detach(self, detail: str) -> tuple[list[int], bool]:
            while self.judged:
                self.give_back(self.judged.pop())
            return super()._detach(detail)

    line = make(cls=Racing)
    line.start()
    (frame,) = line.say(line.filled(1))
    assert isinstance(frame, Frame)
    Racing.judged.append(frame.slot)
    line.die()
    line.start(counted=1)
    line.hear()
    assert sorted(line.free) == [0, 1, 2, 3]


def test_a_camera_that_hands_over_what_it_does_not_own_is_an_error(line: Line) -> None:
    line.say(line.filled(1, slot=0))
    with pytest.raises(ValueError, match="slot 0 was handed over by a camera that does not own it"):
        line.say(line.filled(2, slot=0))


def test_idle_and_trouble_are_states_and_no_results(line: Line) -> None:
    assert line.source.detail == "toy"
    assert line.say(Idle()) == []
    assert line.source.state == "idle"
    assert line.say(Trouble("no such camera"), Trouble("no such camera")) == []
    assert (line.source.state, line.source.detail) == ("dead", "no such camera")
    assert line.ledger.read(0).triggered == 0


def test_a_stop_is_told_and_frames_exposed_before_still_come(line: Line) -> None:
    line.source.request_stop()
    assert line.hear()[-1] == Stop()
    assert not line.source.finished
    assert ends(line.say(line.filled(1), Finished())) == [(1, "frame")]
    assert line.source.finished
    assert line.source.fileno() == -1


def test_a_stop_without_a_process_is_the_end(make: Callable[..., Line]) -> None:
    line = make()
    assert not line.source.finished
    line.source.request_stop()
    assert line.source.finished


def test_a_process_that_dies_after_the_stop_is_the_end(line: Line) -> None:
    """What Daemon._stop does with a camera that hangs: stop, kill, stop."""
    line.source.request_stop()
    line.hear()
    assert line.camera is not None
    line.camera.close()
    line.source.request_stop()
    assert list(line.source.read()) == []
    assert line.source.fileno() == -1
    assert (line.source.count_pending, line.source.finished) == (True, False)  # it counts on: what came meanwhile?
    line.source.request_stop(give_up=True)
    assert (line.source.count_pending, line.source.finished) == (False, True)


def test_a_slot_given_back_without_a_process_waits_for_the_next_one(line: Line) -> None:
    (frame,) = line.say(line.filled(1))
    assert isinstance(frame, Frame)
    line.die()
    line.source.give_back(frame.slot)
    with pytest.raises(ValueError, match="given back"):
        line.source.give_back(frame.slot)
    line.start(counted=1)
    line.hear()
    assert sorted(line.free) == [0, 1, 2, 3]


STEPS = st.one_of(
    st.tuples(st.just("fill"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["overrun", "incomplete"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["idle", "trouble", "judge"]), st.just(0)),
    st.tuples(st.sampled_from(["restart", "die writing"]), st.integers(0, 3)),
    st.tuples(st.just("restart uncounted"), st.just(0)),
)


@examples(150)
@given(st.lists(STEPS, max_size=25), st.integers(0, 2**40))
def test_every_trigger_is_exactly_one_item(steps: list[tuple[str, int]], part_id: int) -> None:
    line = Line(part_id)
    try:
        line.start(counted=0)
        play(line, steps, part_id)
    finally:
        close(line)


def play(line: Line, steps: list[tuple[str, int]], part_id: int) -> None:
    count = 0  # the camera's own
    judging: list[Frame] = []
    triggers = 0  # all there ever were
    wanted: list[str] = []
    items: list[Frame | Ended] = []

    def check(new: list[Frame | Ended]) -> None:
        items.extend(new)
        judging.extend(item for item in new if isinstance(item, Frame))
        books = line.ledger.read(0)
        assert books.balanced
        assert books.triggered == len(items) == triggers
        assert ends(items) == [(part_id + 1 + i, reason) for i, reason in enumerate(wanted)]

    for step, number in steps:
        match step:
            case "fill" if line.hear() is not None and line.free:
                triggers, count = triggers + number + 1, count + number + 1
                wanted += ["lost"] * number + ["frame"]
                check(line.say(line.filled(count)))
            case "overrun" | "incomplete":
                triggers, count = triggers + number + 1, count + number + 1
                wanted += ["lost"] * number + [step]
                check(line.say(missed(count, Reason(step))))
            case "idle":
                check(line.say(Idle()))
            case "trouble":
                check(line.say(Trouble("x")))
            case "judge" if judging:
                line.source.give_back(judging.pop(0).slot)
            case "restart":
                check(line.die())
                triggers, count = triggers + number, count + number
                wanted += ["camera"] * number
                check(line.start(count))
            case "restart uncounted":
                check(line.die())
                count = 0
                check(line.start(None))
            case "die writing" if line.hear() is not None and line.free:
                triggers, count = triggers + number + 1, count + number + 1
                wanted += ["lost"] * number + ["camera"]
                line.ring.begin_write(line.free.pop(0), count, now_ns())
                check(line.die())
                check(line.start(count))
    line.hear()
    assert sorted(line.free + [frame.slot for frame in judging]) == list(range(SLOTS))


def test_the_picture_stays_where_the_camera_wrote_it(line: Line) -> None:
    message = line.filled(1)
    line.ring.images[message.slot][...] = 77
    (frame,) = line.say(message)
    assert isinstance(frame, Frame)
    assert np.all(line.ring.images[frame.slot] == 77)


def test_an_encoder_is_the_part_id_and_lost_frames_take_the_numbers_above_the_last(line: Line) -> None:
    def at(frame_id: int, encoder: int) -> Filled:
        return msgspec.structs.replace(line.filled(frame_id), part_id=encoder)

    assert ends(line.say(at(1, 5000))) == [(5000, "frame")]
    assert ends(line.say(at(4, 5300))) == [(5001, "lost"), (5002, "lost"), (5300, "frame")]
    assert ends(line.say(msgspec.structs.replace(missed(5), part_id=5400))) == [(5400, "overrun")]


def test_an_encoder_that_steps_back_is_an_alarm_and_part_ids_go_on(line: Line) -> None:
    for frame_id, encoder, expected in (
        (1, 5000, (5000, "frame")),
        (2, 10, (5001, "camera")),  # somebody set it to zero
        (3, 110, (5101, "frame")),
        (4, 210, (5201, "frame")),
        (5, 210, (5202, "camera")),  # it stands still: two parts can't have one number
        (6, 310, (5301, "frame")),
    ):
        (item,) = line.say(msgspec.structs.replace(line.filled(frame_id), part_id=encoder))
        assert ends([item]) == [expected]
        frame = item if isinstance(item, Frame) else item.frame
        assert frame.counting_restarted == (encoder == 110)  # which shows that the one before was no false value
        if isinstance(item, Frame):
            line.source.give_back(item.slot)


def test_frames_lost_where_the_encoder_steps_back_are_told(line: Line) -> None:
    def at(frame_id: int, encoder: int) -> Filled:
        return msgspec.structs.replace(line.filled(frame_id), part_id=encoder)

    assert ends(line.say(at(1, 5000))) == [(5000, "frame")]
    assert ends(line.say(at(4, 3))) == [(5001, "lost"), (5002, "lost"), (5003, "camera")]
    assert ends(line.say(at(5, 103))) == [(5103, "frame")]
    assert line.ledger.read(0).triggered == 5


def test_a_software_trigger_under_way_when_the_process_dies_is_one_unknown(line: Line) -> None:
    line.say(Triggered(1, now_ns()))
    assert ends(line.say(line.filled(1))) == [(1, "frame")]
    line.say(Triggered(2, now_ns()))
    assert ends(line.die()) == [(2, "camera")]
    assert line.source.job.sent == 2  # where the next process goes on
    assert line.start(counted=2) == []
    assert ends(line.say(line.filled(3))) == [(3, "frame")]


def refs(items: list[Frame | Ended]) -> list[str]:
    return [item.part_ref if isinstance(item, Frame) else item.frame.part_ref for item in items]


def test_a_count_that_jumps_takes_no_part_ref_of_the_count_before(line: Line) -> None:
    line.say(Triggered(1, now_ns(), part_ref="one"))
    assert refs(line.say(line.filled(1))) == ["one"]
    line.say(Triggered(5, now_ns(), part_ref="five"))
    line.say(msgspec.structs.replace(missed(1), restarted=True))
    assert refs(line.say(*(missed(n) for n in range(2, 7)))) == [""] * 5


def test_a_count_that_jumps_while_down_takes_no_part_ref_of_the_count_before(line: Line) -> None:
    line.say(line.filled(1), Triggered(2, now_ns(), part_ref="two"))
    line.say(Streaming("toy", Started(0)))
    line.say(Triggered(3, now_ns(), part_ref="three"))
    assert refs(line.say(*(missed(n) for n in range(1, 4)))) == ["", "", "three"]


def test_losses_add_up_over_camera_processes(line: Line) -> None:
    line.say(Vitals(Losses(frame_id_gaps=2, timeouts=1), ClockView(5, 6, "Slave")))
    assert line.source.clock == ClockView(5, 6, "Slave")
    line.die()
    line.start()
    line.say(Vitals(Losses(frame_id_gaps=3), ClockView()))
    assert (line.source.losses.frame_id_gaps, line.source.losses.timeouts) == (5, 1)
    assert line.source.process_starts == 2


def test_another_serial_is_known_from_the_first_start_on(line: Line) -> None:
    line.say(Streaming("toy", Started(0, serial="S1")))
    assert line.source.job.serial == "S1"
    line.say(Streaming("toy", Started(0)))
    assert line.source.job.serial == "S1"


def test_a_process_that_says_nothing_hangs(make: Callable[..., Line]) -> None:
    line = make()
    line.start()
    assert not line.source.hangs
    line.source._hearing._heard_ns -= int(5.5e9)  # the default of stall_s is 5
    assert line.source.hangs
    line.say(Trouble("gone"))  # letting go of the camera must not take longer either
    assert not line.source.hangs
    line.source._hearing._heard_ns -= int(5.5e9)
    assert line.source.hangs
    line.say(Connecting())  # from here on it may take as long as opening a camera takes
    line.source._hearing._heard_ns -= int(55e9)
    assert not line.source.hangs
    line.source._hearing._heard_ns -= int(6e9)
    assert line.source.hangs
    line.say(Streaming("toy", Started(0)))
    line.source._hearing._heard_ns -= int(5.5e9)
    assert line.source.hangs
    line.die()
    assert not line.source.hangs


def setups(items: list[Frame | Ended]) -> list[tuple[int, int]]:
    """Part id and setup of each item."""
    frames = [item if isinstance(item, Frame) else item.frame for item in items]
    return [(frame.part_id, frame.setup) for frame in frames]


def test_the_next_part_is_of_the_new_setup_even_one_that_was_lost(line: Line) -> None:
    assert setups(line.say(line.filled(1))) == [(1, 1)]
    assert line.source.switch(2, 5_000, 0) == 2
    assert line.source.setups == {2}
    items = line.say(line.filled(3))
    assert setups(items) == [(2, 2), (3, 2)]
    frame = items[1]
    assert isinstance(frame, Frame)
    assert frame.deadline_ns - frame.trigger_ns == 5_000


def test_a_switch_at_a_named_part_waits_for_it(line: Line) -> None:
    line.say(line.filled(1))
    assert line.source.switch(2, 5_000, 4) == 4
    assert line.source.setups == {1, 2}
    assert setups(line.say(line.filled(2), line.filled(5))) == [(2, 1), (3, 1), (4, 2), (5, 2)]
    assert line.source.setups == {2}
    assert line.source.switch(3, 5_000, 2) == 6  # that part has been: the next one


def test_a_later_switch_replaces_one_that_waits(line: Line) -> None:
    line.source.switch(2, 5_000, 100)
    assert line.source.switch(3, 5_000, 0) == 1
    assert line.source.setups == {3}
    line.source.switch(4, 5_000, 100)
    line.source.switch(5, 5_000, 2)
    assert setups(line.say(line.filled(1), line.filled(2))) == [(1, 3), (2, 5)]


def paused(line: Line) -> None:
    line.source.pause("another recipe")
    assert Stop() in line.hear()


def test_a_camera_that_is_paused_comes_back_and_what_it_missed_was_not_ready(line: Line) -> None:
    (first,) = line.say(line.filled(1))
    assert isinstance(first, Frame)
    paused(line)
    items = line.say(line.filled(2), Finished())
    assert ends(items) == [(2, "frame")] and not line.source.finished
    assert not line.source.is_down  # two frames are in flight
    for frame in (first, items[0]):
        assert isinstance(frame, Frame)
        line.source.give_back(frame.slot)
    assert line.source.is_down
    assert line.camera is not None
    line.camera.close()
    smaller = Shape(48, 64, 1)
    job = Job(CONFIG, "/", {"Gain": 1.0}, (0, 0, 64, 48), 1, SLOTS)
    line.source.resume(job, line.ring.reshaped(smaller))
    assert (line.source.job.features, line.source.job.born_ns) == ({"Gain": 1.0}, 77)
    assert line.source.ring.shape == smaller
    items = line.start(counted=5)
    assert ends(items) == [(3, "not_ready"), (4, "not_ready"), (5, "not_ready")]
    assert all(isinstance(item, Ended) and item.judgement.detail == "another recipe" for item in items)
    assert ends(line.say(line.filled(7))) == [(6, "lost"), (7, "frame")]
    books = line.ledger.read(0)
    assert (books.triggered, books.received, books.lost, books.camera) == (7, 6, 1, 0)
    assert books.balanced
    line.die()
    assert ends(line.start(counted=8)) == [(8, "camera")]


def test_a_paused_camera_that_reconnects_before_it_hears_of_it_is_still_paused(line: Line) -> None:
    paused(line)
    assert ends(line.say(Streaming("toy", Started(2)))) == [(1, "not_ready"), (2, "not_ready")]
    assert line.say(Finished()) == [] and not line.source.finished and line.source.is_down


def test_a_trigger_that_the_stopping_camera_has_no_frame_of_was_not_ready(line: Line) -> None:
    paused(line)
    items = line.say(Unfilled(1, 100, Reason.LOST, "counted without a frame"), line.filled(3), Finished())
    assert ends(items) == [(1, "not_ready"), (2, "not_ready"), (3, "frame")]
    assert isinstance(items[0], Ended) and items[0].judgement.detail == "another recipe"


def test_a_paused_camera_whose_process_dies_is_down(line: Line) -> None:
    paused(line)
    assert line.die() == [] and line.source.is_down and not line.source.finished
    line.source.resume(line.source.job, line.ring)
    assert ends(line.start(counted=1)) == [(1, "not_ready")]
    line.say(Finished())
    assert line.source.finished  # no more pictures


def test_a_paused_camera_that_is_stopped_for_good_finishes(line: Line) -> None:
    paused(line)
    line.source.request_stop()
    line.say(Finished())
    assert line.source.finished


def test_the_slot_of_a_picture_that_is_not_judged_goes_back_before_what_was_lost_is_told(line: Line) -> None:
    line.say(line.filled(1))
    line.hear()
    line.free.clear()
    line.say(Streaming("toy", Started(MAX_GAP + 5)))  # the count jumped while the camera was away
    found = line.source.read()
    line.tell(line.filled(MAX_GAP + 7, slot=1))
    assert ends([next(found)]) == [(2, "lost")]
    assert [message.slot for message in line.hear() if isinstance(message, Slot)] == [1]
    assert ends(list(found)) == [(3, "camera")]


def test_a_long_gap_is_one_result_that_counts_for_all(line: Line) -> None:
    gap, frame = line.say(line.filled(5001))
    assert isinstance(gap, Ended) and isinstance(frame, Frame)
    assert (gap.frame.part_id, gap.frame.parts, frame.part_id) == (1, 5000, 5001)
    books = line.ledger.read(0)
    assert (books.triggered, books.lost, books.received) == (5001, 5000, 1)
    assert ends(line.say(Missing(5003, "no frame came"))) == [(5002, "lost"), (5003, "lost")]


def test_a_software_trigger_whose_frame_does_not_come_ends_at_its_deadline(line: Line) -> None:
    sent_ns = now_ns() - 10**9
    line.say(Triggered(1, sent_ns, part_ref="one"))
    assert line.source.due_ns == sent_ns + 10**9
    (ended,) = line.source.overdue()
    assert (ended.frame.trigger_ns, ended.frame.part_ref) == (sent_ns, "one")
    assert ended.judgement.reason is Reason.LOST
    assert line.source.due_ns is None
    assert line.say(line.filled(1)) == []  # too late
    line.say(Triggered(2, sent_ns), Trouble("the camera was lost"))
    (ended,) = line.source.overdue()
    assert ended.judgement.reason is Reason.CAMERA
    assert line.ledger.read(0).balanced


def test_a_notice_is_logged_once(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        line.say(Notice("its clock can't be read"))
    line.die()
    line.start()
    line.say(Notice("its clock can't be read"))
    assert capsys.readouterr().out.count("its clock can't be read") == 1

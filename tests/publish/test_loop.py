"""The publish thread against real subscribers."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from inspectd import __version__
from inspectd.publish.control import make_link
from inspectd.publish.journal.records import Entry, read_entries
from inspectd.publish.journal.writer import Journal
from inspectd.publish.loop import SHARE, SHARE_IN_FLIGHT, Publisher
from inspectd.publish.messages import Messages, Names
from inspectd.runtime.books import Ledger
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import UnavailableError
from inspectd.runtime.frame import Judgement, Late, Reason, Verdict, unknown
from inspectd.settings.publish import Publish
from inspectd.subscribe.client import Results
from inspectd.subscribe.events import Beat, Received
from inspectd.wire.results import (
    MINOR,
    Flag,
    ImageRef,
    ModelRef,
    RecipeRef,
    VerdictCode,
    decode_result,
    unpack_header,
)
from tests.makers import frame, gap, region
from tests.ports import free_endpoint
from tests.publish.lines import FAIL, IDENTITY, PASS, SETUPS, SMALL, Camera, Line, connected, results


@pytest.fixture
def subscriber(line: Line) -> Iterator[Results]:
    with Results(line.endpoint) as made:
        connected(made)
        yield made


def test_results_arrive_in_one_sequence(line: Line, subscriber: Results) -> None:
    for n in range(1, 101):
        line.put(frame(n, n % 2, slot=0), PASS if n % 3 else FAIL)
    found = results(subscriber, 100)
    assert [one.seq for one in found] == list(range(1, 101))
    assert [one.header.part_id for one in found] == [one.result.part_id for one in found] == list(range(1, 101))
    assert [one.result.camera for one in found[:2]] == ["side", "top"]
    assert {one.header.epoch for one in found} == {line.journal.epoch}
    assert [one.header.verdict.name for one in found] == [one.result.verdict.name for one in found]
    line.finish_puts()  # counted right after it is sent
    assert line.publisher.published == 100


def test_each_result_is_in_the_journal_before_it_arrives(line: Line, subscriber: Results) -> None:
    for n in range(1, 21):
        line.put(frame(n, slot=0))
        (one,) = results(subscriber, 1)
        kept = list(read_entries(line.folder))[-1]
        assert (kept.seq, kept.camera, kept.part_id, kept.topic) == (n, "top", n, b"res/a/top/")
        assert unpack_header(kept.header) == one.header
        assert decode_result(kept.body) == one.result


def test_what_a_result_says(line: Line, subscriber: Results) -> None:
    sent = frame(7, camera=1, deadline_s=2, slot=3)
    sent.frame_id, sent.generation, sent.counting_restarted = 5, 8, True
    sent.ring_ns, sent.engine_ns = sent.trigger_ns + 1_500_000, sent.trigger_ns + 2_500_000
    one_region = region(zone="seal")
    line.put(sent, Judgement(Verdict.FAIL, Reason.DEFECT, (one_region,), True, "why"))
    (found,) = results(subscriber, 1)
    header, result = found
    assert header.flags == Flag.SIMULATED | Flag.COUNTING_RESTARTED
    assert header.verdict is VerdictCode.FAIL
    assert header.trigger_utc_ns == sent.trigger_utc_ns
    assert abs(header.publish_utc_ns - time.time_ns()) < 5e9
    assert (result.line, result.camera, result.part_id, result.frame_id) == ("a", "side", 7, 5)
    assert (result.verdict, result.reason, result.detail) == (Verdict.FAIL, Reason.DEFECT, "why")
    assert (result.simulated, result.counting_restarted, result.truncated) == (True, True, True)
    assert result.regions == (one_region,)
    assert result.image == ImageRef(3, 8)
    assert (result.recipe, result.model) == SETUPS[1][:2]
    assert (result.times.ring_us, result.times.engine_us, result.times.judge_us) == (1500, 2500, None)
    assert result.times.deadline_us == 2e6
    assert 0 < result.times.publish_us < 2e6


def test_a_result_without_a_picture_has_no_image(line: Line, subscriber: Results) -> None:
    line.put(frame(1, deadline_s=0), unknown(Reason.LOST))
    (found,) = results(subscriber, 1)
    assert found.result.image is None
    assert found.result.reason is Reason.LOST  # and not `deadline`: it was never received
    assert found.header.flags == Flag(0)


@pytest.mark.parametrize("reason", [Reason.LOST, Reason.CAMERA, Reason.NOT_READY])
def test_a_range_is_one_result(line: Line, subscriber: Results, reason: Reason) -> None:
    line.put(gap(7, 1000), unknown(reason, "why"))
    line.put(gap(1007), unknown(reason))
    line.put(frame(1008, slot=0))
    one, other, seen = sorted(results(subscriber, 3), key=lambda found: found.header.part_id)
    assert (one.header.flags, one.header.verdict, one.header.part_id) == (Flag.RANGE, VerdictCode.UNKNOWN, 7)
    assert (one.result.part_id, one.result.last_part_id, one.result.parts) == (7, 1006, 1000)
    assert (one.result.reason, one.result.detail, one.result.image) == (reason, "why", None)
    assert (other.header.flags, other.result.parts, seen.result.parts) == (Flag(0), 1, 1)
    line.finish_puts()
    books = line.ledger.read(0)
    assert (books.triggered, getattr(books, str(reason)), books.passed) == (1002, 1001, 1)
    assert books.balanced and not line.ledger.in_flight and line.publisher.published == 3
    assert line.journal.part_ids == {"top": 1008}
    assert connected(subscriber).heartbeat.minor == MINOR


def test_a_picture_is_never_of_a_range() -> None:
    one = gap(7, 1000)
    messages = Messages(IDENTITY, SETUPS, None, Ledger(2), [Camera("top")] * 2, lambda: ("", ""))  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        messages.entry(one, PASS, 1)


def test_a_flood_of_what_nobody_saw_delays_no_result_of_a_picture(tmp_path: Path) -> None:
    """100,000 triggers of one camera, each for itself, and then a part of another one: it passes them."""
    line = Line(tmp_path)
    try:
        for n in range(1, 100_001):
            line.put(gap(n, camera=1), unknown(Reason.LOST))
        line.put(frame(1, slot=0))
        with Results(line.endpoint, start="oldest") as subscriber:
            found = []
            while not found or found[-1].result.camera != "top":
                found += results(subscriber, 1)
        assert len(found) < 2000
    finally:
        line.stop()
    kept = [decode_result(entry.body) for entry in read_entries(line.folder)]
    assert sum(one.parts for one in kept if one.camera == "side") == line.ledger.read(1).lost == 100_000
    assert len(kept) < 2000


def test_what_waits_at_the_end_is_published(line: Line, subscriber: Results) -> None:
    for n in range(1, 101):
        line.put(gap(n), unknown(Reason.CAMERA))
    line.stop()
    found = [event for event in iter(lambda: subscriber.receive(0.5), None) if isinstance(event, Received)]
    assert sum(one.result.parts for one in found) == 100 and len(found) < 30
    assert found[-1].result.last_part_id == 100 or found[-1].result.part_id == 100


@pytest.mark.parametrize("judgement", [PASS, FAIL, unknown(Reason.UNDECIDED)])
def test_an_answer_after_the_deadline_is_unknown(line: Line, subscriber: Results, judgement: Judgement) -> None:
    line.put(frame(1, deadline_s=0, slot=0), judgement)
    (found,) = results(subscriber, 1)
    assert found.header.verdict is VerdictCode.UNKNOWN
    assert (found.result.verdict, found.result.reason) == (Verdict.UNKNOWN, Reason.DEADLINE)
    assert found.result.regions == ()
    line.stop()
    books = line.ledger.read(0)
    assert books.late == 1
    assert (books.deadline, books.passed, books.failed, books.undecided, books.in_flight) == (1, 0, 0, 0, 0)


def test_a_late_answer_is_only_counted(line: Line, subscriber: Results) -> None:
    one = line.put(frame(1, slot=0), unknown(Reason.DEADLINE))
    line.results.put(Late(one, PASS))
    line.put(frame(2, slot=0))
    assert [found.seq for found in results(subscriber, 2)] == [1, 2]
    line.stop()
    assert line.ledger.read(0).late == 1


def test_a_frame_that_came_while_not_ready_stays_so_after_its_deadline(line: Line, subscriber: Results) -> None:
    line.put(frame(1, deadline_s=0, slot=0), unknown(Reason.NOT_READY, "paused"))
    (found,) = results(subscriber, 1)
    assert (found.result.reason, found.result.detail) == (Reason.NOT_READY, "paused")


def test_each_result_names_the_setup_of_its_frame(line: Line, subscriber: Results) -> None:
    line.setups[2] = Names(RecipeRef("nut", "1" * 12), ModelRef("other", "0" * 64), "another engine")
    new = frame(2, slot=0)
    new.setup = 2
    line.put(frame(1, slot=0))
    line.put(new)
    assert [(one.result.recipe, one.result.model) for one in results(subscriber, 2)] == [
        SETUPS[1][:2],
        line.setups[2][:2],
    ]
    assert connected(subscriber).heartbeat.engine == "another engine"


def test_a_pass_that_the_journal_held_up_is_no_pass(tmp_path: Path) -> None:
    """`handed to the socket before its deadline` is part of what earns a PASS."""

    class SlowDisk(Journal):
        """Stands for a page cache that must write back first."""

        def append(self, entry: Entry) -> None:
            time.sleep(0.2)
            super().append(entry)

    line = Line(tmp_path, SlowDisk)
    try:
        with Results(line.endpoint) as subscriber:
            connected(subscriber)
            sent = line.put(frame(1, deadline_s=0.1, slot=0))
            (found,) = results(subscriber, 1)
    finally:
        line.stop()
    assert now_ns() > sent.deadline_ns
    assert found.header.verdict is not VerdictCode.PASS or Flag.LATE in found.header.flags


def test_a_pass_whose_correction_cannot_be_kept_is_not_kept(tmp_path: Path) -> None:
    class FailingDisk(Journal):
        """It stalls at the first result and takes no second one."""

        def append(self, entry: Entry) -> None:
            super().append(entry)
            time.sleep(0.3)
            full = os.open("/dev/full", os.O_RDWR)
            os.dup2(full, self._fd)
            os.close(full)

    line = Line(tmp_path, FailingDisk)
    try:
        with Results(line.endpoint) as subscriber:
            connected(subscriber)
            line.put(frame(1, deadline_s=0.15, slot=0))
            (found,) = results(subscriber, 1)
    finally:
        line.stop()
    assert (found.result.verdict, found.result.reason) == (Verdict.UNKNOWN, Reason.DEADLINE)
    assert line.journal.failure and list(read_entries(line.folder)) == []


def test_the_heartbeat(line: Line, subscriber: Results) -> None:
    line.cameras[0].newest_ns, line.cameras[0].state = now_ns() - 2_000_000_000, "streaming"
    line.put(frame(1, slot=0))
    line.put(frame(2), unknown(Reason.LOST))
    line.ledger.trigger(0, None)
    results(subscriber, 2)
    header, beat = connected(subscriber)
    assert (header.verdict, header.part_id, header.flags) == (VerdictCode.NONE, 0, Flag(0))
    assert header.seq == beat.last_seq == 2
    assert header.epoch == line.journal.epoch
    assert (beat.line, beat.state, beat.detail) == ("a", "ContinuousExecution", "inspecting")
    assert (beat.engine, beat.version, beat.journal) == ("the engine", __version__, "ok")
    assert (beat.recipe, beat.model) == SETUPS[1][:2]
    top, side = beat.cameras["top"], beat.cameras["side"]
    assert (top.state, top.detail, side.state) == ("streaming", "the top camera", "idle")
    assert top.newest_frame_age_s == pytest.approx(2, abs=1)
    assert side.newest_frame_age_s is None
    assert (top.books.triggered, top.books.passed, top.books.lost) == (3, 1, 1)
    assert top.in_flight == top.books.in_flight == 1
    assert top.balanced
    assert side.balanced


def test_the_heart_beats_as_configured_and_once_more_at_the_end(line: Line, subscriber: Results) -> None:
    began = time.monotonic()
    for _ in range(5):
        connected(subscriber)
    assert 0.3 <= time.monotonic() - began < 2
    line.state = ("Halted", "stopping")
    line.stop()
    beats = []
    while (event := subscriber.receive(0.3)) is not None:
        beats.append(event)
    assert isinstance(beats[-1], Beat)
    assert beats[-1].heartbeat.state == "Halted"


def test_a_journal_that_fails_is_told_and_results_go_on(line: Line, subscriber: Results) -> None:
    line.journal.failure = "results are not kept: No space left on device"
    line.put(frame(1, slot=0))
    assert results(subscriber, 1)[0].seq == 1
    beat = connected(subscriber).heartbeat
    assert beat.journal == line.journal.failure
    assert (beat.state, beat.detail) == ("ContinuousExecution", f"inspecting; degraded: {line.journal.failure}")


class Greedy:
    """A service that always has something to do."""

    busy, counts = True, dict[str, int]()

    def __init__(self) -> None:
        self.spent_s, self.steps = 0.0, 0

    def sockets(self) -> list[int]:
        return []

    def serve(self) -> bool:
        began_s = time.monotonic()
        while time.monotonic() - began_s < 0.0003:
            pass
        self.spent_s += time.monotonic() - began_s
        self.steps += 1
        return True

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("in_flight", "most"), [(0, SHARE), (1, SHARE_IN_FLIGHT)])
@pytest.mark.alone
def test_services_get_a_share_of_the_time_and_no_more(tmp_path: Path, in_flight: int, most: float) -> None:
    greedy = Greedy()

    class Busy(Line):
        def _run(self) -> None:
            self.publisher._services.append(greedy)
            super()._run()

    line = Busy(tmp_path)
    for _ in range(in_flight):
        line.ledger.trigger(0, None)
    try:
        with Results(line.endpoint) as subscriber:
            connected(subscriber)
            began_s, before_s, steps = time.monotonic(), greedy.spent_s, greedy.steps
            for n in range(1, 101):
                line.put(frame(n, slot=0))
                time.sleep(0.01)
            share = (greedy.spent_s - before_s) / (time.monotonic() - began_s)
            assert len(results(subscriber, 100)) == 100
    finally:
        line.stop()
    assert share < most * 1.3 and greedy.steps - steps > 100


def test_every_subscriber_gets_everything_and_a_slow_one_slows_nobody(line: Line, subscriber: Results) -> None:
    with Results(line.endpoint, high_water_mark=1) as slow, Results(line.endpoint) as other:
        connected(slow)
        connected(other)
        for n in range(1, 301):
            line.put(frame(n, slot=0))
        assert [one.seq for one in results(subscriber, 300)] == list(range(1, 301))
        assert [one.seq for one in results(other, 300)] == list(range(1, 301))


def test_what_is_put_before_the_end_is_published(line: Line, subscriber: Results) -> None:
    for n in range(1, 51):
        line.put(frame(n, slot=0))
    line.stop()
    assert [one.seq for one in results(subscriber, 50)] == list(range(1, 51))
    assert [one.seq for one in read_entries(line.folder)] == list(range(1, 51))


def test_garbage_from_a_subscriber_stops_nothing(line: Line, subscriber: Results) -> None:
    context = zmq.Context()
    hostile = context.socket(zmq.XSUB)
    hostile.setsockopt(zmq.LINGER, 0)
    hostile.connect(line.endpoint)
    for message in (b"\x01", b"\x02junk", b"", b"\x01" + b"x" * 4000, b"\x00never", b"\xff" * 100):
        hostile.send(message)
    hostile.send_multipart([b"\x01res/", b"more", b"frames"])
    time.sleep(0.05)
    line.put(frame(1, slot=0))
    assert results(subscriber, 1)[0].seq == 1
    hostile.close()
    context.term()


def test_a_subscriber_to_everything_conceivable_delays_nothing(tmp_path: Path) -> None:
    """Subscriptions are kept byte by byte, inside the calls that send results."""
    line = Line(tmp_path, endpoint=free_endpoint())
    context = zmq.Context()
    greedy = context.socket(zmq.SUB)
    greedy.setsockopt(zmq.SNDHWM, 0)
    try:
        with Results(line.endpoint) as subscriber:
            connected(subscriber)
            greedy.connect(line.endpoint)
            for number in range(600):
                greedy.subscribe(number.to_bytes(2) * 30_000)
            for n in range(1, 51):
                began_s = time.monotonic()
                line.put(frame(n, slot=0))
                assert results(subscriber, 1)[0].seq == n and time.monotonic() - began_s < 2
                time.sleep(0.02)
    finally:
        context.destroy(linger=0)
        line.stop()


@pytest.mark.parametrize("key", ["query", "control"])
def test_a_client_that_dies_while_the_loop_stalls_does_not_take_the_daemon_with_it(
    tmp_path: Path, key: str
) -> None:
    """libzmq aborts the process there if the socket has heartbeats, so it is one of its own."""
    command = [sys.executable, "-m", "tests.publish.stalled", str(tmp_path), key]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (done.returncode, done.stderr)


def refused(tmp_path: Path, endpoint: str) -> str:
    journal = Journal(tmp_path / "refused", SMALL, "boot")
    try:
        with pytest.raises(UnavailableError) as caught:
            publish = Publish(results=endpoint)
            Publisher(publish, IDENTITY, SETUPS, journal, Ledger(0), [], lambda: ("", ""), make_link())
    finally:
        journal.close()
    return str(caught.value)


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        said = refused(tmp_path, endpoint)
    assert said.startswith(f"publish.results: {endpoint} can't be bound: Address already in use")
    assert said.endswith("; is another program using it, or another daemon?")
    assert "\n" not in said


def test_a_path_that_cannot_be_bound_is_one_sentence(tmp_path: Path) -> None:
    assert "can't be bound" in refused(tmp_path, f"ipc://{tmp_path}/no/such/folder/z")
    assert "can't be bound" in refused(tmp_path, f"ipc://{tmp_path}/{'x' * 200}")


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_the_ipv6_loopback_can_be_bound(tmp_path: Path) -> None:
    if "lo" not in Path("/proc/net/if_inet6").read_text():
        pytest.fail("no ::1 here", pytrace=False)
    journal = Journal(tmp_path / "j", SMALL, "boot")
    try:
        config = Publish(results=free_endpoint("::1"))
        Publisher(config, IDENTITY, SETUPS, journal, Ledger(0), [], lambda: ("", ""), make_link()).close()
    finally:
        journal.close()


def test_over_tcp_as_well(tmp_path: Path) -> None:
    line = Line(tmp_path, endpoint=free_endpoint())
    try:
        with Results(line.endpoint) as subscriber:
            connected(subscriber)
            line.put(frame(1, slot=0))
            assert results(subscriber, 1)[0].seq == 1
    finally:
        line.stop()

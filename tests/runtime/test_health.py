"""The ledger, the progress of the stages, and what systemd is told."""

import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.runtime.books import NEVER_RECEIVED, Ledger
from inspectd.runtime.frame import Judgement, Reason, Verdict, unknown
from inspectd.runtime.progress import STUCK_S, Progress
from inspectd.runtime.systemd import notify, watchdog_period_s
from tests.makers import examples

PASS = Judgement(Verdict.PASS, Reason.NONE)
FAIL = Judgement(Verdict.FAIL, Reason.DEFECT)
NOT_RECEIVED = [unknown(reason) for reason in NEVER_RECEIVED]
RECEIVED = [PASS, FAIL, *(unknown(r) for r in Reason if r not in (*NEVER_RECEIVED, Reason.NONE, Reason.DEFECT))]


def trigger(ledger: Ledger, camera: int, end: Judgement) -> None:
    early = (*NEVER_RECEIVED, Reason.OVERRUN)
    ledger.trigger(camera, end.reason if end.reason in early else None)


@examples(60)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(RECEIVED + NOT_RECEIVED))))
def test_every_end_is_booked_once_and_the_books_balance_at_any_time(ends: list[tuple[int, Judgement]]) -> None:
    ledger = Ledger(2)
    for number, (camera, end) in enumerate(ends):
        trigger(ledger, camera, end)
        assert all(ledger.read(c).balanced for c in range(2))
        assert sum(ledger.read(c).triggered for c in range(2)) == number + 1
    waiting = [sum(c == camera and end in RECEIVED for c, end in ends) for camera in range(2)]
    assert [ledger.read(camera).in_flight for camera in range(2)] == waiting
    for camera, end in ends:
        ledger.publish(camera, end)
        assert ledger.read(camera).balanced
    for camera in range(2):
        books = ledger.read(camera)
        assert books.in_flight == 0
        fields = {Verdict.PASS: "passed", Verdict.FAIL: "failed"}
        for end in RECEIVED + NOT_RECEIVED:
            field = fields.get(end.verdict, str(end.reason))
            assert getattr(books, field) == sum(e == end and c == camera for c, e in ends)


def test_what_was_read_does_not_change_any_more() -> None:
    ledger = Ledger(1)
    before = ledger.read(0)
    ledger.trigger(0, None)
    ledger.late(0)
    assert (before.triggered, before.late) == (0, 0)
    assert (ledger.read(0).triggered, ledger.read(0).late) == (1, 1)


def test_a_reader_never_sees_half_an_entry() -> None:
    ledger, stop = Ledger(1), threading.Event()

    def write() -> None:
        while not stop.is_set():
            ledger.trigger(0, Reason.LOST)
            ledger.trigger(0, None)
            ledger.publish(0, PASS)

    writer = threading.Thread(target=write)
    writer.start()
    assert all(ledger.read(0).balanced for _ in range(3000))
    stop.set()
    writer.join()


def test_a_stage_that_does_not_turn_is_named() -> None:
    progress = Progress(["engine", "judge"])
    assert progress.stuck() == ""
    progress._stamps["judge"] -= int((STUCK_S + 1) * 1e9)
    assert progress.stuck() == "judge for 4.0 s"
    progress.stamp("judge")
    assert progress.stuck() == ""


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_gets_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@inspectd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1", "STATUS=line a: ready")
        assert sock.recv(4096) == b"READY=1\nSTATUS=line a: ready"
        notify("STATUS=paused by me: x\nMAINPID=1")
        assert sock.recv(4096) == b"STATUS=paused by me: x MAINPID=1"


def test_a_deaf_systemd_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


@pytest.mark.parametrize(
    ("limit_us", "pid", "period_s"),
    [
        ("3000000", None, 1.0),
        ("3000000", str(os.getpid()), 1.0),
        ("3000000", "1", None),
        ("", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_is_fed_three_times_per_limit(
    monkeypatch: pytest.MonkeyPatch, limit_us: str | None, pid: str | None, period_s: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", limit_us), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert watchdog_period_s() == period_s

"""The ledger: every end of a part is booked once."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from inspectd.runtime.books import NEVER_RECEIVED, Ledger
from inspectd.runtime.frame import Judgement, Reason, Verdict, unknown
from tests.makers import examples

PASS = Judgement(Verdict.PASS, Reason.NONE)
FAIL = Judgement(Verdict.FAIL, Reason.DEFECT)
NOT_RECEIVED = [unknown(reason) for reason in NEVER_RECEIVED]
RECEIVED = [PASS, FAIL, *(unknown(r) for r in Reason if r not in (*NEVER_RECEIVED, Reason.NONE, Reason.DEFECT))]


def trigger(ledger: Ledger, camera: int, end: Judgement) -> None:
    early = (*NEVER_RECEIVED, Reason.OVERRUN)
    ledger.trigger(camera, end.reason if end.reason in early else None)


ENDS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(RECEIVED + NOT_RECEIVED)))


@examples(60)
@given(ENDS)
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


RANGES = [*NOT_RECEIVED, unknown(Reason.NOT_READY)]
PARTS = st.integers(1, 10**6)


@examples(60)
@given(st.lists(st.tuples(st.sampled_from(RANGES), PARTS) | st.tuples(st.sampled_from(RECEIVED), st.just(1))))
def test_a_range_counts_each_of_its_triggers(ends: list[tuple[Judgement, int]]) -> None:
    ledger, triggers = Ledger(1), 0
    for end, parts in ends:
        early = (*NEVER_RECEIVED, Reason.OVERRUN)
        ledger.trigger(0, end.reason if end.reason in early else None, parts)
        triggers += parts
        assert ledger.read(0).balanced and ledger.read(0).triggered == triggers
        ledger.publish(0, end, parts)
        assert ledger.read(0).balanced and ledger.read(0).in_flight == 0
    for reason in (end.reason for end in RANGES):
        assert getattr(ledger.read(0), str(reason)) == sum(parts for end, parts in ends if end.reason is reason)


@examples(60)
@given(PARTS, PARTS, st.booleans())
def test_what_is_counted_under_another_reason_stays_in_balance(lost: int, moved: int, is_reset: bool) -> None:
    ledger = Ledger(1)
    ledger.trigger(0, Reason.LOST, lost)
    if is_reset:
        ledger.reset()
    ledger.rebook(0, Reason.LOST, Reason.CAMERA, moved)
    books, found = ledger.read(0), 0 if is_reset else min(lost, moved)
    assert books.balanced and books.camera == found and books.lost == books.triggered - found >= 0


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

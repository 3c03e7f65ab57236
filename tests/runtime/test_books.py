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

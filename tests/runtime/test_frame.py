"""The frame's state word and the books."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.runtime.books import Books
from inspectd.runtime.frame import Reason, Verdict, unknown
from tests.makers import examples, frame


def test_the_first_claim_wins() -> None:
    one = frame()
    assert one.open
    assert one.claim()
    assert not one.open
    assert not one.claim()


def test_of_many_threads_exactly_one_owns_the_result() -> None:
    for _ in range(50):
        one, start, won = frame(), threading.Barrier(4), []

        def race(one=one, start=start, won=won) -> None:
            start.wait()
            won.append(one.claim())

        threads = [threading.Thread(target=race) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == [False, False, False, True]


def test_the_parts_of_a_frame() -> None:
    one = frame(7)
    assert (one.parts, one.last_part_id, one.exposed) == (1, 7, True)
    one.parts = 4
    assert one.last_part_id == 10


def test_frames_sort_by_deadline() -> None:
    late, early = frame(1, deadline_s=2), frame(2, deadline_s=1)
    assert sorted([late, early]) == [early, late]


def test_the_reasons_are_a_closed_set() -> None:
    assert [str(reason) for reason in Reason] == [
        "none", "defect", "incomplete", "lost", "camera", "overrun", "deadline", "engine", "not_ready",
        "undecided", "image",
    ]  # fmt: skip
    assert [str(verdict) for verdict in Verdict] == ["PASS", "FAIL", "UNKNOWN"]


@pytest.mark.parametrize("reason", list(Reason))
def test_an_unknown_has_no_regions(reason: Reason) -> None:
    assert unknown(reason, "why") == (Verdict.UNKNOWN, reason, (), False, "why")


@examples(50)
@given(st.lists(st.integers(0, 5), min_size=14, max_size=14))
def test_books_balance_only_if_each_trigger_is_accounted_for(numbers: list[int]) -> None:
    books = Books(*numbers)
    received = [books.passed, books.failed, books.undecided, books.image, books.overrun, books.deadline]
    in_flight = books.received - sum(received) - books.engine - books.not_ready
    assert books.in_flight == in_flight
    triggered = books.received + books.incomplete + books.lost + books.camera
    assert books.balanced == (books.triggered == triggered and in_flight >= 0)

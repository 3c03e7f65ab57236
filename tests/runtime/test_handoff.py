"""Items from thread to thread, with a descriptor to poll."""

import select
import threading
from collections.abc import Iterator

from inspectd.runtime.handoff import Handoff


def readable(handoff: Handoff[int], timeout_s: float = 0) -> bool:
    return bool(select.select([handoff], [], [], timeout_s)[0])


def test_items_come_out_in_order_and_the_descriptor_tells() -> None:
    handoff: Handoff[int] = Handoff()
    assert not readable(handoff)
    assert list(handoff.drain()) == []
    for item in range(3):
        handoff.put(item)
    assert readable(handoff)
    assert len(handoff) == 3
    assert list(handoff.drain()) == [0, 1, 2]
    assert not readable(handoff)
    assert len(handoff) == 0


def test_an_item_put_while_draining_wakes_the_taker_again() -> None:
    handoff: Handoff[int] = Handoff()
    handoff.put(0)
    for item in range(3):
        assert list(taken_one(handoff)) == [item]
        assert readable(handoff)
    assert list(handoff.drain()) == [3]
    assert not readable(handoff)


def test_what_a_taker_leaves_wakes_it_again() -> None:
    handoff: Handoff[int] = Handoff()
    for item in range(3):
        handoff.put(item)
    try:
        for item in handoff.drain():
            raise ValueError(item)
    except ValueError:
        pass
    assert readable(handoff) and len(handoff) == 2
    assert next(handoff.drain()) == 1
    assert readable(handoff)
    assert list(handoff.drain()) == [2]
    assert not readable(handoff)


def taken_one(handoff: Handoff[int]) -> Iterator[int]:
    for item in handoff.drain():
        handoff.put(item + 1)
        yield item


def test_a_taker_that_polls_gets_everything_of_many_putters() -> None:
    handoff: Handoff[tuple[int, int]] = Handoff()
    each, putters = 500, 4
    threads = [
        threading.Thread(target=lambda n=n: [handoff.put((n, i)) for i in range(each)]) for n in range(putters)
    ]
    for thread in threads:
        thread.start()
    taken: list[tuple[int, int]] = []
    while len(taken) < each * putters:
        assert readable(handoff, 10)  # type: ignore[arg-type]
        taken += handoff.drain()
    for thread in threads:
        thread.join()
    for n in range(putters):
        assert [i for m, i in taken if m == n] == list(range(each))

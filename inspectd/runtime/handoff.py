"""Handing items from one thread to another that may be waiting on sockets as well."""

import os
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Handoff(Generic[T]):
    """A queue with a file descriptor.

    Bounded by what it holds: each item stands for a frame in a slot, or for triggers that were missed (a long run
    of those is one item). Any thread may `put`; one thread polls `fileno()` beside its
    sockets and then takes with `drain`. (`queue.Queue` can't be polled, and a thread asleep in it does not
    serve its ZeroMQ socket.)
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def put(self, item: T) -> None:
        """Append and wake the taker; never blocks."""
        self._items.append(item)
        os.eventfd_write(self._wake, 1)

    def drain(self) -> Iterator[T]:
        """Take the items that wait now, oldest first; never blocks. Later ones wake the taker again, and so do
        those that a loop over this has not taken, however it was left.
        """
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return
        left = len(self._items)
        try:
            while left:
                left -= 1
                yield self._items.popleft()
        finally:
            if left:
                os.eventfd_write(self._wake, 1)

    def fileno(self) -> int:
        """File descriptor that is readable while items wait."""
        return self._wake

    def close(self) -> None:
        """Close the descriptor, when no thread puts or polls any more."""
        os.close(self._wake)

    def __len__(self) -> int:
        return len(self._items)

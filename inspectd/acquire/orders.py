"""Software triggers that were asked for: as they wait in the camera process, and are pending in the daemon."""

import threading
from collections import deque
from collections.abc import Callable

from inspectd.acquire.protocol import Declined, SendTrigger, Triggered
from inspectd.runtime.clock import now_ns

MAX_ORDER_AGE_S = 0.5
"""Longest wait of a software trigger for its turn, in seconds; later another part lies under the camera."""

Tell = Callable[[Triggered], None]
"""How a camera reports a software trigger, before it sends it."""
Ordered = Callable[[int, str], None]
"""What became of an order: the frame id of its trigger, or 0 and why it was not sent."""


class Orders:
    """Software triggers that were asked for: put by one thread, taken by the acquisition thread."""

    def __init__(self, decline: Callable[[Declined], None] = lambda _: None) -> None:
        self._decline, self._why = decline, "the camera takes no software triggers"
        self._waiting: deque[SendTrigger] = deque()
        self._changed = threading.Condition()

    def open(self) -> None:
        """Let orders wait from now on: the camera takes them."""
        with self._changed:
            self._why = ""

    def close(self, why: str) -> None:
        """Decline what waits, and all that comes until `open`: a later part is not the one meant."""
        with self._changed:
            self._why = why
            while self._waiting:
                self._decline(Declined(self._waiting.popleft().order, why))

    def put(self, order: SendTrigger) -> None:
        """Ask for one software trigger; it is declined at once while the camera takes none."""
        with self._changed:
            if self._why:
                self._decline(Declined(order.order, self._why))
            else:
                self._waiting.append(order)
                self._changed.notify()

    def wait(self, timeout_s: float) -> None:
        """Wait until there is an order, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout_s)

    def take(self) -> SendTrigger | None:
        """The oldest order that has not waited too long; None if there is none. Older ones are declined."""
        with self._changed:
            while self._waiting:
                order = self._waiting.popleft()
                if now_ns() - order.asked_ns <= MAX_ORDER_AGE_S * 1e9:
                    return order
                self._decline(Declined(order.order, f"the camera could not take it within {MAX_ORDER_AGE_S} s"))
        return None


class PendingOrders:
    """Software triggers that the daemon asked for, and that were neither sent nor declined yet. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._pending: dict[int, Ordered] = {}

    def send(self, send: Callable[[SendTrigger], bool], part_ref: str, done: Ordered, else_why: str) -> None:
        """Send one order; `done` is called once with what became of it, `else_why` if it can't be sent."""
        with self._lock:
            self._last += 1
            number = self._last
            self._pending[number] = done
        if not send(SendTrigger(number, part_ref, now_ns())):
            self.end(number, 0, else_why)

    def end(self, number: int, frame_id: int, why: str = "") -> None:
        """An order was sent as the trigger `frame_id`, or declined (0) and why; ignored if it is not pending."""
        with self._lock:
            done = self._pending.pop(number, None)
        if done is not None:
            done(frame_id, why)

    def decline_all(self, why: str) -> None:
        """No order that is pending was sent, or will be."""
        with self._lock:
            numbers = list(self._pending)
        for number in numbers:
            self.end(number, 0, why)

"""How the daemon is: the books of every camera, the progress of every stage, and what systemd is told."""

import os
import socket
import threading
from collections.abc import Sequence

import msgspec

from inspectd.clock import now_ns
from inspectd.results import Books, Judgement, Reason, Verdict

NEVER_RECEIVED = (Reason.INCOMPLETE, Reason.LOST, Reason.CAMERA)


class Ledger:
    """The books of all cameras, written by the engine, judge and publish threads, each entry whole."""

    def __init__(self, cameras: int) -> None:
        self._lock = threading.Lock()
        self._books = [Books() for _ in range(cameras)]

    def trigger(self, camera: int, reason: Reason | None) -> None:
        """One trigger: its frame was received (reason None or overrun), or never will be."""
        with self._lock:
            books = self._books[camera]
            books.triggered += 1
            if reason in NEVER_RECEIVED:
                setattr(books, str(reason), getattr(books, str(reason)) + 1)
            else:
                books.received += 1

    def publish(self, camera: int, judgement: Judgement) -> None:
        """The one result of a frame went out."""
        verdict, reason = judgement[:2]
        if reason in NEVER_RECEIVED:
            return  # booked with its trigger
        field = {Verdict.PASS: "passed", Verdict.FAIL: "failed"}.get(verdict, str(reason))
        with self._lock:
            books = self._books[camera]
            setattr(books, field, getattr(books, field) + 1)

    def late(self, camera: int) -> None:
        """An answer came after its deadline."""
        with self._lock:
            self._books[camera].late += 1

    def reset(self) -> list[Books]:
        """All books begin anew, at one moment: with the frames that are in flight, so that they balance.

        Returns them as they were then.
        """
        with self._lock:
            old = self._books
            self._books = [Books(triggered=b.in_flight, received=b.in_flight) for b in old]
            return old

    @property
    def in_flight(self) -> bool:
        """Whether any frame was received and has no result yet."""
        with self._lock:
            return any(books.in_flight > 0 for books in self._books)

    def read(self, camera: int) -> Books:
        """A consistent copy."""
        with self._lock:
            books = self._books[camera]
            return msgspec.structs.replace(books)


STAGE_WAIT_S = 0.25
"""No stage sleeps longer than this in one turn of its loop."""
STUCK_S = 3.0
"""A stage that does not turn its loop for so long hangs: systemd's watchdog is no longer fed."""


class Progress:
    """When each stage last turned its loop."""

    def __init__(self, stages: Sequence[str]) -> None:
        self._stamps = dict.fromkeys(stages, now_ns())

    def stamp(self, stage: str) -> None:
        """The stage turned its loop."""
        self._stamps[stage] = now_ns()

    def stuck(self) -> str:
        """The stages that hang, as a sentence; empty if all move."""
        ages_s = {stage: (now_ns() - stamp) / 1e9 for stage, stamp in self._stamps.items()}
        return ", ".join(f"{stage} for {age:.1f} s" for stage, age in ages_s.items() if age > STUCK_S)


def notify(*assignments: str) -> None:
    """Tell systemd, by the datagram protocol of sd_notify(3); nothing happens outside a notify unit."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.sendall("\n".join(text.replace("\n", " ") for text in assignments).encode())
        except OSError:
            return  # a manager that does not listen must not stop the line


def watchdog_period_s() -> float | None:
    """How often systemd wants a sign of life, a third of its limit; None if it wants none."""
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    wanted_of = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit_us.isdecimal() or wanted_of != str(os.getpid()):
        return None
    return int(limit_us) / 3e6

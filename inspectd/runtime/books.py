"""The books: where every trigger of every camera went, and what was lost on the way."""

import threading

import msgspec

from inspectd.runtime.frame import Judgement, Reason, Verdict


class Losses(msgspec.Struct):
    """Frames that did not come as they should, by what showed it; counted since the daemon started."""

    frame_id_gaps: int = 0
    """Frame ids that were skipped."""
    incomplete: int = 0
    """Frames of which only a part arrived."""
    underrun: int = 0
    """Frames that found no free buffer, by the producer's own count since the acquisition began."""
    stream_lost: int = 0
    """Frames lost on their way, by the producer's own count since the acquisition began."""
    timeouts: int = 0
    """Times that frames were due and did not come."""
    late: int = 0
    """Frames that came after they were given up."""
    clock_jumps: int = 0
    restarts: int = 0
    """Restarts of the acquisition while the device stayed connected."""
    reconnects: int = 0

    def plus(self, others: "Losses") -> "Losses":
        """The sum of both, count by count."""
        return Losses(*(getattr(self, name) + getattr(others, name) for name in self.__struct_fields__))


class Books(msgspec.Struct):
    """Where every trigger of one camera went. At any time
    `triggered = received + incomplete + lost + camera`, and `received = passed + failed + undecided + image
    + overrun + deadline + engine + not_ready + in_flight`.
    """

    triggered: int = 0
    received: int = 0
    incomplete: int = 0
    lost: int = 0
    camera: int = 0
    passed: int = 0
    failed: int = 0
    undecided: int = 0
    image: int = 0
    overrun: int = 0
    deadline: int = 0
    engine: int = 0
    not_ready: int = 0
    late: int = 0
    """Answers that came after their deadline; they are no results of their own."""

    @property
    def in_flight(self) -> int:
        """Frames that were received and have no result yet."""
        ended = self.passed + self.failed + self.undecided + self.image
        return self.received - ended - self.overrun - self.deadline - self.engine - self.not_ready

    @property
    def balanced(self) -> bool:
        """Whether each trigger is accounted for exactly once."""
        return self.triggered == self.received + self.incomplete + self.lost + self.camera and self.in_flight >= 0


NEVER_RECEIVED = (Reason.INCOMPLETE, Reason.LOST, Reason.CAMERA)


class Ledger:
    """The books of all cameras, each entry whole. Engine and publish thread write, the main thread resets."""

    def __init__(self, cameras: int) -> None:
        self._lock = threading.Lock()
        self._books = [Books() for _ in range(cameras)]

    def trigger(self, camera: int, reason: Reason | None, parts: int = 1) -> None:
        """Count the triggers of `parts` parts: they were received (reason None or overrun), or never will be."""
        with self._lock:
            books = self._books[camera]
            books.triggered += parts
            if reason in NEVER_RECEIVED:
                _add(books, str(reason), parts)
            else:
                books.received += parts

    def publish(self, camera: int, judgement: Judgement, parts: int = 1) -> None:
        """Count the one result of `parts` parts."""
        verdict, reason = judgement[:2]
        if reason in NEVER_RECEIVED:
            return  # counted with its trigger
        field = {Verdict.PASS: "passed", Verdict.FAIL: "failed"}.get(verdict, str(reason))
        with self._lock:
            _add(self._books[camera], field, parts)

    def rebook(self, camera: int, was: Reason, now: Reason, parts: int) -> None:
        """Count triggers, counted as never received for one reason, under another: their result gives that one."""
        with self._lock:
            books = self._books[camera]
            moved = min(parts, getattr(books, str(was)))  # the books may have been reset in between
            _add(books, str(was), -moved)
            _add(books, str(now), moved)

    def late(self, camera: int) -> None:
        """Count an answer that came after its deadline."""
        with self._lock:
            self._books[camera].late += 1

    def reset(self) -> list[Books]:
        """Restart all books at one moment: with the frames that are in flight, so that they balance.

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
        """A consistent copy of a camera's books."""
        with self._lock:
            books = self._books[camera]
            return msgspec.structs.replace(books)


def _add(books: Books, field: str, count: int) -> None:
    setattr(books, field, getattr(books, field) + count)

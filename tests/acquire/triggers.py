"""A line in the test's hand: triggers, a camera that misbehaves, an oracle that knows whose each picture is.

It drives the pure code alone: the identity of frames and the account of triggers, without camera, clock or socket.
"""

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from inspectd.acquire.account import MAX_SINGLES, Account, Alarm, Counted
from inspectd.acquire.camera import MAX_GAP
from inspectd.acquire.genicam.identity import ByNumber, ByTrigger, Surplus
from inspectd.acquire.genicam.witnesses import WRAP_WINDOW, Evidence
from inspectd.runtime.frame import Reason

PERIOD_NS = 25_000_000
FAULTS = (
    "whole", "incomplete", "without chunks", "lost", "missed", "twice", "wrong id", "swapped", "stray before",
    "stray after", "stray incomplete", "incomplete with a wild id", "lost, and stray", "without an id",
)  # fmt: skip


class Frame(NamedTuple):
    """A delivered frame: what it says, and what it really shows."""

    evidence: Evidence
    encoder: int
    trigger: int | None
    """Number of the trigger whose part it shows, of all that there ever were; None: nobody triggered it."""


class Setup(NamedTuple):
    """What kind of camera it is."""

    mode: str
    """What counts the parts: counter, frame_id, encoder or software."""
    has_clock: bool = True
    first_id: int = 1
    id_bits: int = 64
    skips_zero: bool = True
    counts_ids: bool = True
    counter_bits: int = 64
    is_signed: bool = False
    counter: int = 0


class Oracle:
    """Checks the results of one camera: which picture was taken for which part.

    Part ids and pictures are counted alike, until a result says that counting restarted.
    """

    def __init__(self, pictures: int = 2**64) -> None:
        """pictures: after so many the same ones come again."""
        self.pictures = pictures
        self.offset: int | None = None
        self.last_part = self.results = self.parts = self.judged = 0

    def take(self, items: Iterable[Counted | Alarm], shown: int | None) -> None:
        """Check results as they come out; one may be judged, by the picture `shown`, if that is not None."""
        found = [item for item in items if isinstance(item, Counted)]
        assert len(found) <= 2 * MAX_SINGLES + 2, "results must be bounded"
        for item in found:
            self.results, self.parts = self.results + 1, self.parts + item.parts
            assert item.part_id > self.last_part, "two results for one part"
            self.last_part = item.part_id + item.parts - 1
            if item.counting_restarted:
                self.offset = None
            if item.reason is not None:
                continue
            assert shown is not None and item.parts == 1
            offset = (item.part_id - shown) % self.pictures
            assert self.offset in (None, offset), "a part was judged on another part's picture"
            self.offset, self.judged = offset, self.judged + 1


class Line:
    """A camera and the daemon's books of it; every result is checked as it comes."""

    def __init__(self, setup: Setup, random: Random) -> None:
        self.setup, self.random = setup, random
        self.account = Account(0, 1, PERIOD_NS)
        self.trigger, self.counter, self.now_ns, self.offset_ns = 0, setup.counter, 10**12, 0
        self.next_id, self.sent = setup.first_id, 0
        self.oracle = Oracle()
        self.judged: set[int] = set()
        self.exposed: set[int | None] = {0}
        self.events = 0
        self.is_due, self.is_clock_trusted, self.jumped_at = False, True, -6
        self.switches = [(0, 1)]  # from which part on, which setup
        self.start()

    # ---- the camera ----

    def start(self) -> None:
        """The acquisition begins, the first time or once more; frame ids restart."""
        self.next_id = self.setup.first_id
        self.has_missed = False  # a trigger had no frame: then one frame more than triggers does not show
        self.has_shown = False  # where its frame ids began
        self.waiting: list[Frame] = []
        if self.setup.mode == "software":
            self.by_trigger = ByTrigger(self.sent)
            self.take(self.account.streams(self.sent))
            return
        has_counter = self.setup.mode == "counter"
        self.by_number = ByNumber(has_counter, self.raw_counter() if has_counter else 0)
        self.take(self.account.streams(self.by_number.last if has_counter else None))

    def raw_counter(self) -> int:
        raw = self.counter % 2**self.setup.counter_bits
        return (
            raw - 2**self.setup.counter_bits
            if self.setup.is_signed and raw >> (self.setup.counter_bits - 1)
            else raw
        )

    def take_id(self) -> int:
        """The next frame id; a camera whose ids do not count says 0 for ever."""
        if not self.setup.counts_ids:
            return 0
        this, self.next_id = self.next_id, (self.next_id + 1) % 2**self.setup.id_bits
        if self.next_id == 0 and self.setup.skips_zero:
            self.next_id = 1
        return this

    def shot(
        self, trigger: int | None, frame_id: int | None = None, unfit: str = "", chunks: bool = True
    ) -> Frame:
        """Expose a frame now."""
        self.now_ns += 1000
        if trigger is None and self.setup.mode == "counter" and self.trigger not in self.exposed:
            trigger = self.trigger  # by all that the camera says the trigger that it missed
        number = self.take_id() if frame_id is None else frame_id
        counter = self.raw_counter() if chunks and self.setup.mode == "counter" and not unfit else None
        has_time = self.setup.has_clock and self.is_clock_trusted and not unfit
        self.is_clock_trusted = self.is_clock_trusted or not unfit
        device_ns = self.now_ns + self.offset_ns if has_time else None
        exposed_ns = self.now_ns if self.setup.has_clock and not unfit else None
        encoder = 100 * self.counter + 7 if chunks and self.setup.mode == "encoder" and not unfit else 0
        return Frame(Evidence(number, unfit, counter, encoder or None, device_ns, exposed_ns), encoder, trigger)

    def pulse(self, fault: str) -> None:
        """One trigger, and what the camera makes of it."""
        self.events += 1
        self.now_ns += PERIOD_NS
        if fault == "stray before":
            early = self.shot(None)
            is_late = self.setup.has_clock and self.random.random() < 0.5  # it arrives after the trigger was sent
            if not is_late:
                self.deliver(early)
        self.now_ns += 5_000_000
        self.trigger += 1
        self.counter += 1
        self.has_missed = (self.has_missed or fault == "missed") and fault not in ("whole", "twice")
        if self.setup.mode == "software":
            self.sent += 1
            self.account.sent(self.sent, self.now_ns, "")
            self.by_trigger.sent(self.sent, self.now_ns)
        if fault == "stray before" and is_late:
            self.deliver(early)
        for frame in self.frames(fault):
            self.deliver(frame)
        self.has_shown = self.has_shown or fault in ("whole", "twice")
        if self.setup.mode == "software" and self.by_trigger.last < self.sent:
            self.by_trigger.missing(self.sent)  # given up after a while; a new start is due then
            self.take(self.account.missing(self.sent, "no frame came"))
            self.start()
        if self.is_due:
            self.is_due = False
            self.start()

    def frames(self, fault: str) -> Iterator[Frame]:
        own = self.trigger
        kept, self.waiting = self.waiting, []
        match fault:
            case "incomplete":
                yield self.shot(own, unfit="cut off")
            case "incomplete with a wild id":
                self.take_id()
                yield self.shot(own, self.random.choice((0, 90_000, 2**64 - 1)), "cut off")
            case "stray incomplete":
                yield self.shot(None, unfit="cut off")
                yield self.shot(own)
            case "without chunks":
                yield self.shot(own, chunks=False)
            case "lost":
                self.take_id()
            case "lost, and stray" if self.has_shown and 3 < self.next_id < 2**self.setup.id_bits - 3:
                # By frame ids, where they count, one more was exposed than was triggered.
                self.take_id()
                if self.setup.counts_ids and not self.has_missed:
                    self.exposed.add(own)
                yield self.shot(None)
            case "without an id":
                frame = self.shot(own)
                yield frame._replace(evidence=frame.evidence._replace(frame_id=None))
            case "missed":
                pass
            case "twice":
                frame = self.shot(own)
                yield from (frame, frame)
            case "wrong id" if self.has_shown:
                self.take_id()
                yield self.shot(own, self.random.choice((0, 3, 90_000, 10**9)))
            case "swapped":
                self.waiting = [self.shot(own)]
            case "stray after":
                yield self.shot(own)
                yield self.shot(None)
            case _:
                yield self.shot(own)
        yield from kept

    def probe(self) -> None:
        """The camera is silent, and is asked how far it has counted; what is behind is given up."""
        self.events += 1
        if self.setup.mode != "counter":
            return
        count = self.by_number.reached(self.raw_counter())
        if count > self.by_number.last:
            self.by_number.missing(count)
            self.take(self.account.missing(count, "no frame came"))

    def jump_counter(self, by: int) -> None:
        """The counter jumps. Ahead and not too far these are triggers that nobody saw; else nobody knows."""
        if self.setup.mode != "counter":
            return
        self.events += 1
        if self.counter + by < 0 or self.events - self.jumped_at < 6:  # two jumps unseen are one
            return
        self.jumped_at = self.events
        before, self.has_missed = self.raw_counter(), True
        self.counter += by
        seen = self.raw_counter() - before  # of a narrow counter, or of one that wraps around just then
        self.trigger += seen if 0 < seen <= MAX_GAP else by if seen < 0 < by < WRAP_WINDOW else 0

    def jump_clock(self, by_ns: int) -> None:
        """The device's clock jumps. Its next frame's time is no witness: it can't be compared with the others."""
        self.events += 1
        self.offset_ns += by_ns
        self.is_clock_trusted = False

    def die(self) -> None:
        """The camera process dies and comes back; the camera goes on counting."""
        self.events += 1
        self.take(self.account.process_ended([], self.sent))
        self.start()

    def switch(self, ahead: int) -> None:
        """The line changes to another recipe, from a part on; one that is pending is forgotten."""
        self.events += 1
        number = self.switches[-1][1] + 1
        is_pending = len(self.account.setups) > 1
        first = self.account.switch(number, PERIOD_NS, self.last_part + ahead)
        assert first > self.last_part
        self.switches = [*(self.switches[:-1] if is_pending else self.switches), (first, number)]

    # ---- the daemon ----

    def deliver(self, frame: Frame) -> None:
        """The daemon gets a frame: it is a part, or none."""
        if frame.evidence.counter is not None and frame.trigger is not None:
            self.exposed.add(frame.trigger)
        identity = self.by_trigger if self.setup.mode == "software" else self.by_number
        found = identity.show(frame.evidence)
        if isinstance(found, Surplus):
            self.is_due = self.setup.mode != "software" and bool(self.by_number.trouble)
            return
        args = found.trigger, self.now_ns, frame.encoder
        reason = found.reason
        if self.setup.mode == "encoder" and not frame.encoder and reason is None:
            reason = Reason.INCOMPLETE
        if reason is None:
            may_judge, items = self.account.filled(*args, found.restarted)
        else:
            may_judge, items = False, self.account.unfilled(*args, reason, found.detail, found.restarted)
        self.take(items, frame if may_judge else None)

    def take(self, items: Iterable[Counted | Alarm], frame: Frame | None = None) -> None:
        """Check results as they come out. Only a result of `frame` may be judged."""
        found = list(items)
        for item in found:
            if isinstance(item, Counted):
                for part_id in (item.part_id, item.part_id + item.parts - 1):
                    setup = next(number for first, number in reversed(self.switches) if first <= part_id)
                    assert item.setup == setup, "a part was inspected under another part's recipe"
        if frame is not None:
            assert frame.trigger is not None, "a picture that nobody triggered was judged"
            by_encoder = self.setup.mode == "encoder"
            number = 100 * (frame.trigger + self.setup.counter) + 7 if by_encoder else frame.trigger
            assert number not in self.judged, "a picture was judged twice"
            self.judged.add(number)
            self.oracle.take(found, number)
        else:
            self.oracle.take(found, None)

    @property
    def last_part(self) -> int:
        return self.oracle.last_part


def any_camera(random: Random) -> Line:
    """A line with a camera of any kind; its narrow numbers are often about to wrap around."""
    mode = random.choice(("counter", "frame_id", "encoder", "software"))
    counter_bits, id_bits, skips_zero = (
        random.choice((16, 32, 64)),
        random.choice((16, 32, 64)),
        random.random() < 0.5,
    )
    edges = [0, 2 ** (counter_bits - 1) - 20, 2**counter_bits - 20] if counter_bits < 64 else [0, 5]
    line = Line(
        Setup(
            mode,
            has_clock=random.random() < 0.7,
            first_id=1 if skips_zero else random.choice((0, 1)),
            id_bits=id_bits,
            skips_zero=skips_zero,
            counts_ids=mode in ("frame_id", "encoder") or random.random() < 0.8,
            counter_bits=counter_bits,
            is_signed=random.random() < 0.5,
            counter=random.choice(edges),
        ),
        random,
    )
    if id_bits < 64 and random.random() < 0.5:
        line.next_id = 2**id_bits - 1 - random.randrange(30)
    return line


def faults_of(setup: Setup) -> list[str]:
    """What can befall a trigger without that nobody could ever tell.

    Where frame ids alone count, a frame without a trigger, a trigger without a frame, and a wrong id go unnoticed:
    the log says so of such a camera. So does a frame in place of a software trigger's own.
    """
    by_ids = setup.mode in ("frame_id", "encoder")
    stray = ("stray before", "stray after", "stray incomplete", "lost, and stray")
    unseen = ("missed", "wrong id", "without an id", *stray) if by_ids else ()
    if setup.mode == "software" and not setup.counts_ids:
        unseen = ("lost, and stray",)
    return [fault for fault in FAULTS if fault not in unseen]


def happen(line: Line, events: int) -> None:
    """So many events of any kind, most of them triggers; how often those go wrong is the camera's own."""
    random, faults = line.random, faults_of(line.setup)
    share = random.choice((0.02, 0.2, 0.6))
    for _ in range(events):
        kind = random.random()
        if kind < 0.96:
            line.pulse(random.choice(faults) if random.random() < share else "whole")
        elif kind < 0.97:
            line.probe()
        elif kind < 0.975:
            line.jump_counter(random.choice((3, 40, 5000, 10**6, -30, -(10**6))))
        elif kind < 0.98:
            line.jump_clock(random.choice((-1, 1)) * 3600 * 10**9)
        elif kind < 0.985:
            line.switch(random.randrange(-5, 300))
        elif kind < 0.99:
            line.die()
        else:
            line.start()

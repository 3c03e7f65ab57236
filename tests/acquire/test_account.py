"""The pure account of triggers: any sequence of events, no camera, no socket, no clock."""

from collections.abc import Iterator

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inspectd.acquire.account import Account, Alarm, Counted
from inspectd.acquire.camera import MAX_GAP
from inspectd.runtime.frame import Reason

DEADLINE_NS = 1_000
FAR = st.integers(-(2**40), 2**40).filter(lambda step: abs(step) > MAX_GAP + 1)


def account(part_id: int = 0) -> Account:
    made = Account(part_id, 1, DEADLINE_NS)
    assert list(made.streams(0)) == []
    return made


def parts(items: Iterator[Counted | Alarm]) -> list[tuple[int, int, Reason | None]]:
    """Part id, frame id and reason of each trigger."""
    return [(c.part_id, c.frame_id, c.reason) for c in items if isinstance(c, Counted)]


def test_what_is_skipped_is_lost_and_has_no_moment_of_its_own() -> None:
    one = account()
    found = list(one.filled(3, 70, 0)[1])
    assert parts(iter(found)) == [(1, 1, Reason.LOST), (2, 2, Reason.LOST), (3, 3, None)]
    assert [c.trigger_ns for c in found if isinstance(c, Counted)] == [0, 0, 70]


def test_while_the_camera_is_away_what_is_missing_is_not_ready() -> None:
    one = account()
    one.away = "the line changes"
    _, (missed, whole) = one.filled(2, 70, 0)
    assert isinstance(missed, Counted) and isinstance(whole, Counted)
    assert (missed.reason, missed.detail, whole.reason) == (Reason.NOT_READY, "the line changes", None)


def test_a_jump_is_an_alarm_and_the_part_is_not_judged() -> None:
    one = account()
    list(one.filled(1, 70, 0)[1])
    may_judge, (alarm, counted) = one.filled(MAX_GAP + 3, 71, 0)
    assert not may_judge
    assert alarm == Alarm("the trigger count jumped", 1, MAX_GAP + 3)
    assert isinstance(counted, Counted) and counted.counting_restarted
    assert (counted.part_id, counted.reason) == (2, Reason.CAMERA)
    assert parts(one.filled(MAX_GAP + 4, 72, 0)[1]) == [(3, MAX_GAP + 4, None)]


def test_what_the_dead_process_was_writing_and_had_triggered_is_the_cameras() -> None:
    one = account()
    list(one.filled(1, 70, 0)[1])
    assert parts(one.process_ended([3, 2], sent=4)) == [(n, n, Reason.CAMERA) for n in (2, 3, 4)]
    assert parts(one.streams(4)) == []


class AnyCamera(RuleBasedStateMachine):
    """Whatever a camera says: part ids only grow, each trigger is accounted for once, and nothing is unbounded."""

    def __init__(self) -> None:
        super().__init__()
        self.account = Account(5, 1, DEADLINE_NS)
        self.last_part, self.last_count = 5, 0
        self.is_started = False
        self.switches = [(0, 1)]  # from which part on, which setup
        self.refs: dict[int, str] = {}  # by count, of triggers sent since the last alarm

    def take(self, items: Iterator[Counted | Alarm], at_most: int) -> list[Counted]:
        """The parts of one event, checked."""
        found = list(items)
        counted = [item for item in found if isinstance(item, Counted)]
        alarms = [item for item in found if isinstance(item, Alarm)]
        assert len(counted) <= at_most and len(alarms) <= 1
        if any(alarm.what == "the trigger count jumped" for alarm in alarms):
            self.refs.clear()
        assert not alarms or not counted or counted[0].counting_restarted
        assert all(isinstance(item, Alarm) for item in found[: len(alarms)])  # before the parts
        for before, item in zip([None, *counted], counted, strict=False):
            assert item.part_id > self.last_part
            assert before is None or item.frame_id == before.frame_id + 1
            assert item.setup == next(n for part, n in reversed(self.switches) if part <= item.part_id)
            assert item.deadline_ns == item.setup * DEADLINE_NS
            assert item.part_ref == self.refs.pop(item.frame_id, "")
            assert (item.reason is Reason.NOT_READY) <= bool(self.account.away)
            self.last_part, self.last_count = item.part_id, item.frame_id
        return counted

    @rule(step=st.none() | st.integers(-3, 40) | FAR)
    def streams(self, step: int | None) -> None:
        counted = None if step is None else max(0, self.last_count + step)
        missed = self.take(self.account.streams(counted), 40)
        assert {item.reason for item in missed} <= {Reason.NOT_READY if self.account.away else Reason.CAMERA}
        self.last_count = counted or 0
        self.is_started = True

    @precondition(lambda self: self.is_started)
    @rule(
        step=st.integers(-3, 40) | FAR,
        encoder=st.just(0) | st.integers(1, 500),
        is_whole=st.booleans(),
    )
    def exposure(self, step: int, encoder: int, is_whole: bool) -> None:
        frame_id = max(0, self.last_count + step)
        skipped = frame_id - self.last_count - 1
        if is_whole:
            may_judge, items = self.account.filled(frame_id, 70, encoder)
            found = self.take(items, 41)
            assert may_judge == (found[-1].reason is None)
        else:
            of = self.account.unfilled(frame_id, 70, encoder, Reason.OVERRUN, "no free slot")
            found = self.take(of, 41)
        *lost, own = found
        assert own.frame_id == frame_id and own.trigger_ns == 70
        jumped = Reason.NOT_READY if self.account.away else Reason.CAMERA
        assert own.reason in ((None, jumped) if is_whole else (Reason.OVERRUN,))
        reason = Reason.NOT_READY if self.account.away else Reason.LOST
        assert [item.reason for item in lost] == [reason] * (skipped if 0 <= skipped <= MAX_GAP else 0)

    @rule(ahead=st.integers(1, 5), part_ref=st.sampled_from(["", "a", "b"]))
    def sent(self, ahead: int, part_ref: str) -> None:
        self.account.sent(self.last_count + ahead, part_ref)
        if part_ref:
            self.refs[self.last_count + ahead] = part_ref

    @rule(why=st.sampled_from(["", "the line changes"]))
    def pause_or_resume(self, why: str) -> None:
        self.account.away = why

    @rule(writing=st.lists(st.integers(1, 10), max_size=3), sent=st.integers(0, 300))
    def process_ended(self, writing: list[int], sent: int) -> None:
        found = self.take(self.account.process_ended([self.last_count + n for n in writing], sent), 400)
        assert not found or self.is_started
        away = {Reason.NOT_READY} if self.account.away else {Reason.LOST, Reason.CAMERA}
        assert {item.reason for item in found} <= away

    @rule(ahead=st.integers(-5, 20))
    def switch(self, ahead: int) -> None:
        number = self.switches[-1][1] + 1
        is_pending = len(self.account.setups) > 1
        first = self.account.switch(number, number * DEADLINE_NS, self.last_part + ahead)
        assert first == max(self.last_part + ahead, self.last_part + 1)
        done = self.switches[:-1] if is_pending else self.switches  # a pending one is forgotten
        self.switches = [*done, (first, number)]

    @invariant()
    def it_knows_where_it_is(self) -> None:
        assert self.account.part_id >= self.last_part
        self.last_part = self.account.part_id  # of a camera that had counted on while the daemon was down


TestAnyCamera = AnyCamera.TestCase

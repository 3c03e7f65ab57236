"""The pure account of triggers: any sequence of events, no camera, no socket, no clock."""

from collections.abc import Iterable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inspectd.acquire.account import MAX_SINGLES, Account, Alarm, Counted
from inspectd.acquire.camera import MAX_GAP
from inspectd.runtime.frame import Reason

DEADLINE_NS = 1_000
FAR = st.integers(-(2**40), 2**40).filter(lambda step: abs(step) > MAX_GAP + 1)


def account(part_id: int = 0) -> Account:
    made = Account(part_id, 1, DEADLINE_NS)
    assert list(made.streams(0)) == []
    return made


def parts(items: Iterable[Counted | Alarm]) -> list[tuple[int, int, Reason | None]]:
    """Part id, frame id and reason of each trigger."""
    return [(c.part_id, c.frame_id, c.reason) for c in items if isinstance(c, Counted)]


def test_what_is_skipped_is_lost_and_has_no_moment_of_its_own() -> None:
    one = account()
    found = list(one.filled(3, 70, 0)[1])
    assert parts(found) == [(1, 1, Reason.LOST), (2, 2, Reason.LOST), (3, 3, None)]
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


def test_a_count_that_was_reported_is_late_and_no_part() -> None:
    one = account()
    list(one.filled(5, 70, 0)[1])
    for late in (5, 3):
        may_judge, items = one.filled(late, 71, 0)
        assert not may_judge and list(items) == []
        assert list(one.unfilled(late, 71, 0, Reason.OVERRUN, "no free slot")) == []
    assert parts(one.filled(6, 72, 0)[1]) == [(6, 6, None)]


def test_a_new_count_that_the_camera_process_vouches_for_is_judged_and_says_so() -> None:
    one = account()
    list(one.filled(5, 70, 0)[1])
    may_judge, (alarm, counted) = one.filled(2, 71, 0, restarted=True)
    assert may_judge and alarm == Alarm("the trigger count jumped", 5, 2)
    assert isinstance(counted, Counted) and counted.counting_restarted
    assert (counted.part_id, counted.frame_id, counted.reason) == (6, 2, None)


def test_a_long_gap_is_one_result_of_many_parts() -> None:
    one = account()
    gap, own = one.filled(50_001, 70, 0)[1]
    assert isinstance(gap, Counted) and isinstance(own, Counted)
    assert (gap.part_id, gap.frame_id, gap.parts, gap.reason) == (1, 1, 50_000, Reason.LOST)
    assert (own.part_id, own.frame_id, own.parts) == (50_001, 50_001, 1)
    (missing,) = one.missing(100_001, "no frame came")
    assert isinstance(missing, Counted) and (missing.parts, missing.detail) == (50_000, "no frame came")


def test_a_long_gap_ends_where_another_setup_begins() -> None:
    one = account()
    one.switch(2, 2 * DEADLINE_NS, 31)
    found = [(c.part_id, c.parts, c.setup) for c in one.missing(100, "") if isinstance(c, Counted)]
    assert found == [(1, 30, 1), (31, 70, 2)]


def test_the_first_result_after_the_daemon_was_down_says_so_whatever_counts() -> None:
    for counted in (None, 0):
        one = Account(7, 1, DEADLINE_NS)
        assert list(one.streams(counted)) == []
        (first,) = one.filled(1, 70, 0)[1]
        assert isinstance(first, Counted) and (first.part_id, first.counting_restarted) == (8, True)


def test_a_software_trigger_without_a_frame_has_its_result_at_its_deadline() -> None:
    one = account()
    one.sent(1, 500, "a")
    assert one.due_ns == 500 + DEADLINE_NS
    assert list(one.overdue(500 + DEADLINE_NS - 1, Reason.CAMERA, "gone")) == []
    (given_up,) = one.overdue(500 + DEADLINE_NS, Reason.CAMERA, "gone")
    assert (given_up.part_id, given_up.trigger_ns, given_up.reason, given_up.part_ref) == (
        1,
        500,
        Reason.CAMERA,
        "a",
    )
    assert one.due_ns is None
    assert not one.filled(1, 700, 0)[0]  # its frame is late


class AnyCamera(RuleBasedStateMachine):
    """Whatever a camera says: part ids only grow, each trigger is accounted for once, and nothing is unbounded."""

    def __init__(self) -> None:
        super().__init__()
        self.account = Account(5, 1, DEADLINE_NS)
        self.last_part, self.last_count = 5, 0
        self.is_started = False
        self.switches = [(0, 1)]  # from which part on, which setup
        self.refs: dict[int, str] = {}  # by count, of triggers sent since the last alarm

    def take(self, items: Iterable[Counted | Alarm]) -> list[Counted]:
        """The parts of one event, checked."""
        found = list(items)
        counted = [item for item in found if isinstance(item, Counted)]
        alarms = [item for item in found if isinstance(item, Alarm)]
        assert len(counted) <= MAX_SINGLES * (2 + len(self.refs)) + 3 and len(alarms) <= 2
        if any(alarm.what == "the trigger count jumped" for alarm in alarms):
            self.refs.clear()
        assert all(isinstance(item, Alarm) for item in found[: len(alarms)])  # before the parts
        next_count = None
        for item in counted:
            assert item.part_id > self.last_part
            assert next_count in (None, item.frame_id)
            assert item.parts == 1 or item.reason in (Reason.LOST, Reason.CAMERA, Reason.NOT_READY)
            next_count = item.frame_id + item.parts
            self.last_part, self.last_count = item.part_id + item.parts - 1, next_count - 1
            for part_id in (item.part_id, self.last_part):
                assert item.setup == next(n for part, n in reversed(self.switches) if part <= part_id)
            assert item.deadline_ns == item.setup * DEADLINE_NS
            refs = [self.refs.pop(n, "") for n in range(item.frame_id, next_count)]
            assert item.part_ref == refs[0] and not any(refs[1:])
            assert (item.reason is Reason.NOT_READY) <= bool(self.account.away)
        return counted

    @rule(step=st.none() | st.integers(-3, 400) | FAR)
    def streams(self, step: int | None) -> None:
        counted = None if step is None else max(0, self.last_count + step)
        if counted is None:
            self.refs.clear()
        missed = self.take(self.account.streams(counted))
        assert {item.reason for item in missed} <= {Reason.NOT_READY if self.account.away else Reason.CAMERA}
        self.last_count = counted or 0
        self.is_started = True

    @precondition(lambda self: self.is_started)
    @rule(
        step=st.integers(-3, 400) | FAR,
        encoder=st.just(0) | st.integers(1, 500),
        is_whole=st.booleans(),
        restarted=st.booleans(),
    )
    def exposure(self, step: int, encoder: int, is_whole: bool, restarted: bool) -> None:
        frame_id = max(0, self.last_count + step)
        may_judge = False
        if is_whole:
            may_judge, items = self.account.filled(frame_id, 70, encoder, restarted)
            found = self.take(items)
        else:
            found = self.take(self.account.unfilled(frame_id, 70, encoder, Reason.OVERRUN, "no slot", restarted))
        if not found:  # it was late
            assert step <= 0 and not restarted and not may_judge
            return
        *lost, own = found
        assert own.frame_id == frame_id and own.trigger_ns == 70 and own.parts == 1
        jumped = Reason.NOT_READY if self.account.away else Reason.CAMERA
        assert own.reason in ((None,) if may_judge else (jumped,) if is_whole else (Reason.OVERRUN,))
        reason = Reason.NOT_READY if self.account.away else Reason.LOST
        assert {item.reason for item in lost} <= {reason}

    @precondition(lambda self: self.is_started)
    @rule(step=st.integers(-3, 400) | FAR)
    def missing(self, step: int) -> None:
        found = self.take(self.account.missing(self.last_count + step, "no frame came"))
        assert bool(found) == (0 < step <= MAX_GAP)

    @rule(ahead=st.integers(1, 5), part_ref=st.sampled_from(["", "a", "b"]))
    def sent(self, ahead: int, part_ref: str) -> None:
        self.account.sent(self.last_count + ahead, 60, part_ref)
        self.refs[self.last_count + ahead] = part_ref

    @rule()
    def their_deadline_passes(self) -> None:
        self.take(self.account.overdue(10**9, Reason.LOST, "no frame came before its deadline"))
        assert self.account.due_ns is None or not self.is_started

    @rule(why=st.sampled_from(["", "the line changes"]))
    def pause_or_resume(self, why: str) -> None:
        self.account.away = why

    @rule(writing=st.lists(st.integers(1, 10), max_size=3), sent=st.integers(0, 300))
    def process_ended(self, writing: list[int], sent: int) -> None:
        found = self.take(self.account.process_ended([self.last_count + n for n in writing], sent))
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


def test_a_camera_that_was_off_counts_something_else_however_its_count_stands() -> None:
    one = account()
    list(one.filled(5, 70, 0)[1])
    (alarm,) = one.streams(12, was_off=True)
    assert alarm == Alarm("the trigger count jumped", 5, 12)
    may_judge, items = one.filled(13, 80, 0)
    (found,) = items
    assert isinstance(found, Counted) and not may_judge
    assert (found.part_id, found.reason, found.counting_restarted) == (6, Reason.CAMERA, True)
    assert parts(one.filled(14, 90, 0)[1]) == [(7, 14, None)]

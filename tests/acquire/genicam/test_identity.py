"""Which trigger a frame shows: whatever a camera does, no part is judged on another part's picture."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspectd.acquire.camera import MAX_GAP
from inspectd.acquire.genicam.identity import MAX_SURPLUS, ByNumber, ByTrigger, Shown, Surplus
from inspectd.acquire.genicam.witnesses import PROVEN, Evidence, step_between
from inspectd.runtime.frame import Reason
from tests.acquire.triggers import any_camera, happen

PROOF = [pytest.mark.proof, pytest.mark.timeout(3600)]
MS = 1_000_000


def shown(found: Shown | Surplus) -> tuple[int, Reason | None] | str:
    return (found.trigger, found.reason) if isinstance(found, Shown) else "surplus"


def by_ids(*ids: int, has_clock: bool = True) -> list[tuple[int, Reason | None] | str]:
    """What becomes of frames with these ids that were exposed one after the other."""
    identity = ByNumber(has_counter=False, counted=0)
    times = (n * MS if has_clock else None for n in range(1, 10**6))
    return [shown(identity.show(Evidence(i, device_ns=ns))) for i, ns in zip(ids, times, strict=False)]


@pytest.mark.parametrize("events", [20_000, pytest.param(1_000_000, marks=PROOF)])
def test_whatever_a_camera_does_no_part_is_judged_on_another_ones_picture(events: int) -> None:
    """An oracle knows whose each picture is; it also sees results for one part twice, and unbounded ones."""
    seed, happened, judged, results = 0, 0, 0, 0
    while happened < events:
        line = any_camera(Random(seed))
        try:
            happen(line, 250)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {line.setup}: {error}") from error
        seed, happened = seed + 1, happened + line.events
        judged, results = judged + line.oracle.judged, results + line.oracle.results
    assert judged > 0.5 * happened and results < 1.1 * happened
    print(f"{happened} events of {seed} cameras: {judged} parts judged, {results} results")


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_the_shortest_way_to_a_wrong_picture(random: Random, events: int) -> None:
    """The same, for hypothesis to look for the shortest sequence, should there be one."""
    happen(any_camera(random), events)


def test_ids_that_are_skipped_are_lost_and_one_that_comes_after_all_is_late() -> None:
    assert by_ids(1, 2, 4, 3, 5, has_clock=False) == [(1, None), (2, None), (4, None), "surplus", (5, None)]


def test_a_frame_twice_is_one_part() -> None:
    identity = ByNumber(has_counter=False, counted=0)
    frames = [Evidence(n, device_ns=n * MS) for n in (1, 2, 2, 3)]
    assert [shown(identity.show(frame)) for frame in frames] == [(1, None), (2, None), "surplus", (3, None)]


def test_an_incomplete_frames_id_proves_nothing() -> None:
    for wild in (0, 90_000, 2**64 - 1, None):
        identity = ByNumber(has_counter=False, counted=0)
        identity.show(Evidence(1))
        assert shown(identity.show(Evidence(wild, "cut off"))) == (2, Reason.INCOMPLETE)
        assert shown(identity.show(Evidence(3))) == (3, None)


def test_a_first_id_that_is_none_says_that_frames_may_have_been_lost() -> None:
    for first, restarted in ((0, False), (1, False), (4, True)):
        found = ByNumber(has_counter=False, counted=0).show(Evidence(first))
        assert found == Shown(1, restarted=restarted)


def test_new_frames_with_an_old_id_are_unknown_until_two_agree() -> None:
    """The ids began again, and the device's clock went on: it is no late frame."""
    identity = ByNumber(has_counter=False, counted=0)
    found = [identity.show(Evidence(i, device_ns=n * MS)) for n, i in enumerate((1, 2, 3, 1, 2, 3), 1)]
    assert [shown(f) for f in found[2:]] == [(3, None), (4, Reason.CAMERA), (5, None), (6, None)]
    assert [isinstance(f, Shown) and f.restarted for f in found] == [False, False, False, False, True, False]


def test_ids_that_never_count_are_said_to_without_a_clock() -> None:
    identity = ByNumber(has_counter=False, counted=0)
    found = [shown(identity.show(Evidence(0))) for _ in range(MAX_SURPLUS + 1)]
    assert found == [(1, None), *["surplus"] * MAX_SURPLUS]
    assert "show no new part" in identity.trouble


def test_more_ids_than_a_camera_can_expose_are_no_lost_frames() -> None:
    """A wild id that is not too far: by the clock there was no time for so many frames."""
    assert by_ids(1, 2, 3, 5000, 5, 6) == [
        (1, None),
        (2, None),
        (3, None),
        (4, Reason.CAMERA),
        (5, None),
        (6, None),
    ]


@pytest.mark.parametrize(
    ("before", "now", "uses_zero", "step"),
    [
        (65535, 1, False, (1, True)), (65535, 0, False, (1, True)), (65535, 1, True, (2, True)),
        (65534, 2, False, (3, False)), (65534, 2, None, (3, False)), (0, 65535, True, (-1, True)),
        (2**32 - 1, 0, True, (1, True)), (2**31 - 1, -(2**31), True, (1, True)), (-1, 0, True, (1, True)),
        (32767, -32768, True, (1, True)), (2**16 - 2000, 3, True, (2003 - 2**16, True)), (7, 12, None, (5, True)),
    ],
)  # fmt: skip
def test_numbers_wrap_around(before: int, now: int, uses_zero: bool | None, step: tuple[int, bool]) -> None:
    assert step_between(before, now, uses_zero) == step


class TestByCounter:
    def identity(self, counted: int = 0) -> ByNumber:
        identity = ByNumber(has_counter=True, counted=counted)
        for n in range(1, PROVEN + 2):
            assert identity.show(Evidence(n, counter=counted + n, device_ns=n * MS)) == Shown(identity.last)
        return identity

    def test_a_frame_that_nobody_triggered_is_none(self) -> None:
        identity = self.identity()
        assert shown(identity.show(Evidence(4, counter=3, device_ns=4 * MS))) == "surplus"
        assert shown(identity.show(Evidence(5, counter=4, device_ns=5 * MS))) == (4, None)

    def test_triggers_that_the_camera_missed_are_skipped(self) -> None:
        assert shown(self.identity().show(Evidence(4, counter=9, device_ns=4 * MS))) == (9, None)

    @pytest.mark.parametrize("evidence", [
        Evidence(3, counter=4, device_ns=4 * MS), Evidence(4, counter=4, device_ns=3 * MS),
        Evidence(9, counter=4, device_ns=4 * MS),
    ])  # fmt: skip
    def test_where_counter_frame_id_and_time_contradict_the_part_is_unknown(self, evidence: Evidence) -> None:
        identity = self.identity()
        assert shown(identity.show(evidence)) == (4, Reason.CAMERA)
        assert shown(identity.show(Evidence((evidence.frame_id or 0) + 1, counter=5, device_ns=20 * MS))) == (
            5,
            None,
        )

    @pytest.mark.parametrize("to", [0, -5, MAX_GAP + 500, 2**40])
    def test_a_counter_that_jumps_is_believed_when_two_frames_agree(self, to: int) -> None:
        identity = self.identity(counted=100)
        assert shown(identity.show(Evidence(4, counter=to, device_ns=4 * MS))) == (104, Reason.CAMERA)
        found = identity.show(Evidence(5, counter=to + 1, device_ns=5 * MS))
        assert found == Shown((to + 1) % 2**64 if to >= 0 else 2**32 + to + 1, restarted=True)

    def test_one_false_value_shifts_nothing(self) -> None:
        identity = self.identity()
        assert shown(identity.show(Evidence(4, counter=2**40, device_ns=4 * MS))) == (4, Reason.CAMERA)
        assert identity.show(Evidence(5, counter=5, device_ns=5 * MS)) == Shown(5)

    def test_a_signed_counter_goes_on_past_its_highest_value(self) -> None:
        identity = self.identity(counted=2**31 - 5)
        found = [identity.show(Evidence(None, counter=n - 2**32)) for n in (2**31, 2**31 + 1)]
        assert found == [Shown(2**31), Shown(2**31 + 1)]
        assert identity.reached(2**31 + 3 - 2**32) == 2**31 + 3

    def test_what_was_given_up_is_late(self) -> None:
        identity = self.identity()
        identity.missing(5)
        assert shown(identity.show(Evidence(4, counter=4, device_ns=4 * MS))) == "surplus"
        assert shown(identity.show(Evidence(6, counter=6, device_ns=6 * MS))) == (6, None)


@pytest.mark.parametrize("lost", [1, 2, 3, 5])
def test_a_lost_frame_and_one_that_nobody_triggered_are_no_part_however_soon_after_a_start(lost: int) -> None:
    """What comes has the counter of the trigger whose frame was lost; two frames were counted for one trigger."""
    identity = ByNumber(has_counter=True, counted=0)
    for n in range(1, lost):
        assert identity.show(Evidence(n, counter=n, device_ns=50 * n * MS)) == Shown(n)
    stray = Evidence(lost + 1, counter=lost, device_ns=50 * lost * MS + 5 * MS)
    assert shown(identity.show(stray)) == (lost, Reason.CAMERA)


@pytest.mark.parametrize("odd_id", [None, 2**64 - 1, 0, 90_000])
def test_one_odd_frame_id_hides_no_frame_that_nobody_triggered(odd_id: int | None) -> None:
    identity = ByNumber(has_counter=True, counted=0)
    for n in range(1, 50):
        identity.show(Evidence(odd_id if n == 49 else n, counter=n, device_ns=50 * n * MS))
    assert shown(identity.show(Evidence(51, counter=50, device_ns=2500 * MS))) == (50, Reason.CAMERA)


def test_a_camera_whose_ids_begin_anywhere_is_believed() -> None:
    identity = ByNumber(has_counter=True, counted=0)
    frames = [Evidence(1000 + n, counter=n, device_ns=50 * n * MS) for n in (1, 2, 3)]
    assert [shown(identity.show(frame)) for frame in frames] == [(1, None), (2, None), (3, None)]


class TestByTrigger:
    def test_a_frame_exposed_before_its_trigger_is_not_that_triggers(self) -> None:
        identity = ByTrigger(0)
        identity.sent(1, sent_ns=500 * MS)
        assert shown(identity.show(Evidence(1, device_ns=3, exposed_ns=400 * MS))) == "surplus"
        assert shown(identity.show(Evidence(2, device_ns=4, exposed_ns=501 * MS))) == (1, None)

    def test_a_frame_that_waited_before_any_trigger_is_nobodys(self) -> None:
        identity = ByTrigger(0)
        assert shown(identity.show(Evidence(1))) == "surplus"
        identity.sent(1, sent_ns=500 * MS)
        assert shown(identity.show(Evidence(2))) == (1, None)

    def test_the_last_triggers_frame_once_more_is_not_the_next_ones(self) -> None:
        identity = ByTrigger(0)
        for n in (1, 2, 3):
            identity.sent(n, n * MS)
            assert shown(identity.show(Evidence(n))) == (n, None)
        identity.sent(4, 4 * MS)
        assert shown(identity.show(Evidence(3))) == "surplus"
        assert shown(identity.show(Evidence(4))) == (4, None)

    @pytest.mark.parametrize("has_clock", [True, False])
    def test_a_skipped_id_leaves_it_open_whose_frame_it_is(self, has_clock: bool) -> None:
        identity = ByTrigger(0)
        for n in (1, 2, 3, 5):
            identity.sent(min(n, 4), n * MS)
            time_ns = n * MS if has_clock else None
            found = shown(identity.show(Evidence(n, device_ns=time_ns, exposed_ns=time_ns)))
        assert found == (4, Reason.CAMERA)

    def test_where_times_are_gone_frames_are_unknown_until_that_is_how_the_camera_is(self) -> None:
        identity = ByTrigger(0)
        found = []
        for n in range(1, 8):
            identity.sent(n, n * MS)
            time_ns = n * MS if n < 3 else None
            found.append(shown(identity.show(Evidence(n, device_ns=time_ns, exposed_ns=time_ns))))
        unknown = [(n, Reason.CAMERA) for n in (3, 4, 5)]
        assert found == [(1, None), (2, None), *unknown, (6, None), (7, None)]

    def test_a_frame_that_came_in_part_is_one_of_those_that_are_counted(self) -> None:
        identity = ByTrigger(0)
        for n, unfit in ((1, ""), (2, "cut off"), (3, "")):
            identity.sent(n, n * MS)
            found = shown(identity.show(Evidence(n, unfit)))
        assert found == (3, None)


def test_a_frame_at_which_the_encoder_stood_still_is_none() -> None:
    identity = ByNumber(has_counter=False, counted=0)
    frames = [Evidence(n, encoder=value) for n, value in enumerate((100, 200, 200, 300), 1)]
    assert [shown(identity.show(frame)) for frame in frames] == [(1, None), (2, None), "surplus", (3, None)]

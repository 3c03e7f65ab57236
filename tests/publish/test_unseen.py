"""Results of triggers that no picture came of: none lost, none invented, and few, however many triggers."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.publish.journal.records import read_entries
from inspectd.publish.journal.writer import Journal
from inspectd.publish.messages import Identity, Messages
from inspectd.publish.unseen import AT_ONCE, FIRST_PAUSE_NS, LONGEST_PAUSE_NS, Unseen, is_unseen
from inspectd.runtime.books import Ledger
from inspectd.runtime.frame import Ended, Frame, Judgement, Reason, unknown
from inspectd.settings.publish import JournalConfig
from inspectd.wire.results import VerdictCode, unpack_header
from tests.makers import examples, frame, gap
from tests.publish.lines import FAIL, PASS, SETUPS, Camera

LOST, CAMERA, AWAY = unknown(Reason.LOST), unknown(Reason.CAMERA), unknown(Reason.NOT_READY, "paused")
S = 1_000_000_000


def put(unseen: Unseen, ledger: Ledger, part_id: int, parts: int, why: Judgement, camera: int = 0) -> None:
    ledger.trigger(camera, why.reason, parts)
    unseen.put(gap(part_id, parts, camera), why)


def parts_of(items: list[Ended]) -> list[tuple[int, int]]:
    return [(one.frame.part_id, one.frame.last_part_id) for one in items]


def test_a_few_go_out_at_once_each_by_itself() -> None:
    ledger = Ledger(1)
    unseen = Unseen(1, ledger)
    for n in range(1, AT_ONCE + 1):
        put(unseen, ledger, n, 1, LOST)
    assert parts_of(list(unseen.due(0))) == [(n, n) for n in range(1, AT_ONCE + 1)]
    assert not unseen.is_due(0) and ledger.read(0).lost == AT_ONCE


def test_what_is_more_is_joined_and_waits_the_longer_the_more_come() -> None:
    ledger = Ledger(1)
    unseen, now_ns, out = Unseen(1, ledger), 0, []
    part_id, times = 1, []
    while now_ns < 3600 * S:  # an hour of a camera that is away, its count going on in steps
        put(unseen, ledger, part_id, 7, CAMERA)
        part_id += 7
        for one in unseen.due(now_ns):
            out.append(one)
            times.append(now_ns)
        now_ns += S // 10
    out += unseen.rest()
    pauses = [later - earlier for earlier, later in pairwise(times[AT_ONCE:])]
    assert len(pauses) > 10
    assert pauses == [min(FIRST_PAUSE_NS << (n + 1), LONGEST_PAUSE_NS) for n in range(len(pauses))]
    assert len(out) < AT_ONCE + 20
    assert [first for first, _ in parts_of(out)] == [1, *(last + 1 for _, last in parts_of(out)[:-1])]
    assert parts_of(out)[-1][1] == part_id - 1 == ledger.read(0).camera


def test_each_exposure_pays_for_one_more() -> None:
    """A noisy trigger input beside real parts: at worst every other result is of a part that nobody saw."""
    ledger = Ledger(1)
    unseen, out, part_id = Unseen(1, ledger), list[Ended](), 1
    for _ in range(1000):
        for _ in range(5):
            put(unseen, ledger, part_id, 3, LOST)
            part_id += 3
        part_id += 1  # its picture
        unseen.seen(0)
        out += unseen.due(0)
    assert 1000 <= len(out) <= 1000 + AT_ONCE
    out += unseen.rest()
    assert sum(one.frame.parts for one in out) == 15_000 and len(out) <= 1000 + 2 * AT_ONCE


def test_a_joined_result_gives_one_reason_and_the_books_say_the_same() -> None:
    ledger = Ledger(1)
    unseen, part_id = Unseen(1, ledger), 1
    for n in range(100):  # a camera that counts, sends nothing, and is started again and again
        put(unseen, ledger, part_id, 1 + n, LOST if n % 2 else CAMERA)
        part_id += 1 + n
    out = [*unseen.due(0), *unseen.rest()]
    assert len(out) == AT_ONCE + 1
    counted = Counter[str]()
    for one in out:
        counted[str(one.judgement.reason)] += one.frame.parts
    books = ledger.read(0)
    assert counted == {"lost": books.lost, "camera": books.camera} and books.balanced
    assert books.triggered == part_id - 1


def test_what_is_never_joined() -> None:
    ledger = Ledger(1)
    unseen = Unseen(1, ledger)
    for n in range(AT_ONCE + 1):
        put(unseen, ledger, n + 1, 1, LOST)
    list(unseen.due(0))
    put(unseen, ledger, 100, 5, LOST)  # not behind the one that waits
    put(unseen, ledger, 105, 5, AWAY)
    put(unseen, ledger, 110, 5, AWAY)
    later = gap(115, 5)
    later.setup = 2
    ledger.trigger(0, AWAY.reason, 5)
    unseen.put(later, AWAY)
    assert parts_of(list(unseen.due(FIRST_PAUSE_NS))) == [(17, 17), (100, 104), (105, 114), (115, 119)]
    assert ledger.read(0).not_ready == 15 and ledger.read(0).in_flight == 0  # told, though they waited


def test_that_triggers_may_be_uncounted_is_not_lost() -> None:
    ledger = Ledger(1)
    unseen = Unseen(1, ledger)
    for n in range(AT_ONCE + 3):
        one = gap(n + 1)
        one.counting_restarted = n == AT_ONCE + 2
        unseen.put(one, LOST)
    assert [one.frame.counting_restarted for one in unseen.due(0)] == [False] * AT_ONCE
    assert [one.frame.counting_restarted for one in unseen.rest()] == [True]


def test_what_somebody_waits_for_or_was_exposed_does_not_wait() -> None:
    ordered = gap(1)
    ordered.part_ref = "pallet 7"
    assert is_unseen(gap(1)) and not is_unseen(ordered) and not is_unseen(frame(1))


def test_no_camera_waits_for_anothers_many() -> None:
    ledger = Ledger(2)
    unseen = Unseen(2, ledger)
    for n in range(1, 11):
        put(unseen, ledger, n, 1, LOST, 0)
    put(unseen, ledger, 1, 1, LOST, 1)
    assert [one.frame.camera for one in unseen.due(0)][:3] == [0, 1, 0]


STEPS = st.lists(
    st.tuples(st.sampled_from(["gap", "gap", "gap", "picture", "wait"]), st.integers(1, 1000), st.integers(0, 2)),
    max_size=150,
)


@examples(150)
@given(STEPS)
def test_each_part_is_in_one_result_and_the_results_are_bounded(steps: list[tuple[str, int, int]]) -> None:
    ledger = Ledger(1)
    unseen, part_id, now_ns, seen = Unseen(1, ledger), 1, 0, 0
    out: list[Ended] = []
    for what, number, why in steps:
        if what == "gap":
            put(unseen, ledger, part_id, number, (LOST, CAMERA, AWAY)[why])
            part_id += number
        elif what == "picture":
            part_id, seen = part_id + 1, seen + 1
            unseen.seen(0)
        else:
            now_ns += number * S // 10
        out += unseen.due(now_ns)
        assert ledger.read(0).balanced
    out += unseen.rest()
    assert not unseen.is_due(2**63)
    found = sorted(parts_of(out))
    assert all(last < first for (_, last), (first, _) in pairwise(found))
    assert sum(one.frame.parts for one in out) + seen == part_id - 1
    books = Counter[str]()
    for one in out:
        books[str(one.judgement.reason)] += one.frame.parts
    kept = ledger.read(0)
    assert (books["lost"], books["camera"], books["not_ready"]) == (kept.lost, kept.camera, kept.not_ready)


HOUR_S, RATE_HZ, MISSED = 3600, 20, 1_000_000
PROOF = [pytest.mark.proof, pytest.mark.timeout(900)]


@pytest.mark.parametrize("part", [8, pytest.param(1, marks=PROOF)])
def test_a_storm_of_missed_triggers_pushes_no_result_of_a_picture_out_of_the_journal(
    tmp_path: Path, part: int
) -> None:
    """The last hour of a line of 20 parts/s, at the default size of the journal. Its camera misses triggers
    between its parts, and one beside it, that is away, counts a million in many steps. By simulated time, with the
    real messages; or an eighth of an hour in an eighth of the journal.
    """
    ledger, default = Ledger(2), JournalConfig()
    config = JournalConfig(segment_mib=default.segment_mib // part, segments=default.segments)
    journal, cameras = Journal(tmp_path / "j", config, "boot"), [Camera("top"), Camera("side")]
    messages = Messages(Identity("a", (False, True)), SETUPS, journal, ledger, cameras, lambda: ("", ""))
    unseen, count, at_least = Unseen(2, ledger), HOUR_S * RATE_HZ // part, MISSED // (HOUR_S * RATE_HZ) + 1
    part_id = away_id = 1
    for n in range(count):
        put(unseen, ledger, away_id, at_least, CAMERA if n % 2 else LOST, 1)
        away_id += at_least
        if n % 8 == 0:
            put(unseen, ledger, part_id, n + 1, LOST, 0)
            part_id += n + 1
        journal.append(messages.entry(_exposed(part_id), PASS if n % 10 else FAIL, journal.seq + 1))
        part_id += 1
        unseen.seen(0)
        for ended in unseen.due(n * S // RATE_HZ):
            journal.append(messages.entry(*ended, journal.seq + 1))
    journal.close()
    kept = list(read_entries(tmp_path / "j"))
    side = [one.part_id for one in kept if one.camera == "side"]
    codes = [unpack_header(one.header).verdict for one in kept]
    assert sum(code is not VerdictCode.UNKNOWN for code in codes) == count
    assert away_id > MISSED // part and len(side) < AT_ONCE + 20
    assert journal.part_ids == {"top": part_id - 1, "side": max(side)}


def _exposed(part_id: int) -> Frame:
    one = frame(part_id, slot=0)
    one.ring_ns = one.engine_ns = one.judge_ns = one.trigger_ns + 12_345_678
    return one

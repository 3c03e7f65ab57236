"""`inspectd bench faults`: its table, its pictures, and how a verdict shows which picture was judged."""

import time
from itertools import groupby
from pathlib import Path

import pytest

from inspectd.bench.pictures import MOST, alternate, is_of
from inspectd.bench.scenarios import scenarios
from inspectd.bench.trial import Fired, numbers_of
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Judgement, Reason, Region, Verdict, unknown
from inspectd.settings import config
from inspectd.wire.results import ModelRef, RecipeRef, Result, Times

CLEAN = Judgement(Verdict.PASS, Reason.NONE)
ROOT = Path(__file__).parents[2]
NAMES = [f"part_{i:03}.jpg" for i in range(40)]


def defective(x: float, y: int, area_px: float = 100.0) -> Judgement:
    return Judgement(Verdict.FAIL, Reason.DEFECT, (region(x, y, area_px),))


def region(x: float, y: int, area_px: float) -> Region:
    return Region("pitting", 1.0, 1.0, (int(x), y, 10, 10), (x, float(y)), area_px, 10.0, [])


def linked(tmp_path: Path, judged: dict[str, Judgement]) -> tuple[list[str], list[Judgement]]:
    """Names of the demo line's pictures that were linked, in order, and what was said of them."""
    settings = config.load(ROOT / "config.toml")
    said = alternate(
        settings, lambda path: judged.get(path.name, unknown(Reason.UNDECIDED)), tmp_path / "pictures"
    )
    links = sorted((tmp_path / "pictures").iterdir())
    return [link.resolve().name for link in links], said


def test_the_table_is_flat_and_groups_alike_cameras() -> None:
    every = scenarios()
    assert len(every) >= 40 and len({one.name for one in every}) == len(every)
    kinds = [kind for kind, _ in groupby(one.kind for one in every)]
    assert len(set(kinds)) == len(kinds) == len({kind.config + kind.name for kind in kinds})
    assert all(one.within_s > 0 and one.lasts_s >= 0 for one in every)


def test_clean_and_defective_pictures_in_turn(tmp_path: Path) -> None:
    judged = {name: CLEAN if i % 3 else defective(i, 300 if i > 20 else 20) for i, name in enumerate(NAMES)}
    names, said = linked(tmp_path, judged)
    assert [one.verdict for one in said] == [Verdict.PASS, Verdict.FAIL] * MOST
    assert said == [judged[name] for name in names] and len(set(names)) == len(names) == 2 * MOST
    lower = [one.regions[0].bbox[1] for one in said if one.regions]
    assert lower == [300] * 7 + [20] * 3  # those that a short frame hides come first


def test_as_many_of_each_sort_as_of_the_rarer_one(tmp_path: Path) -> None:
    names, said = linked(tmp_path, {NAMES[5]: CLEAN, NAMES[6]: CLEAN, NAMES[7]: defective(1, 1)})
    assert names == [NAMES[5], NAMES[7]] and said == [CLEAN, defective(1, 1)]


@pytest.mark.parametrize(("all_are", "missing"), [(CLEAN, "FAIL"), (defective(1, 1), "PASS")])
def test_pictures_of_one_sort_are_refused(tmp_path: Path, all_are: Judgement, missing: str) -> None:
    with pytest.raises(UserError, match=f"is a {missing} by the recipe: this bench needs clean and"):
        linked(tmp_path, dict.fromkeys(NAMES, all_are))


def test_which_picture_a_verdict_is_of() -> None:
    assert is_of(Verdict.PASS, (), CLEAN) and is_of(Verdict.PASS, (region(9, 9, 1),), CLEAN)
    assert not is_of(Verdict.FAIL, (region(9, 9, 1),), CLEAN) and not is_of(Verdict.PASS, (), defective(9, 9))
    near, far = region(110, 200, 50), region(300, 200, 50)
    assert is_of(Verdict.FAIL, (near, region(300, 20, 8)), defective(100, 200))
    assert not is_of(Verdict.FAIL, (far, region(100, 200, 8)), defective(100, 200))


def result(
    part_id: int,
    frame_id: int = 0,
    part_ref: str = "",
    at_ns: int = 0,
    restarted: bool = False,
    verdict: Verdict = Verdict.PASS,
) -> Result:
    utc_ns = at_ns - time.monotonic_ns() + time.time_ns()
    return Result(
        line="line", camera="sim", part_id=part_id, part_ref=part_ref, frame_id=frame_id, verdict=verdict,
        reason=Reason.NONE, simulated=True, counting_restarted=restarted, recipe=RecipeRef("", ""),
        model=ModelRef("", ""), times=Times(utc_ns, None, None, None, 0.0, 0.0),
    )  # fmt: skip


FIRED = [Fired(10 + i, 10**9 * (1 + i), str(i)) for i in range(5)]
"""Five triggers a second apart, from number 10 on."""


def test_parts_without_a_count_are_known_by_their_order() -> None:
    found = [result(7), result(8, verdict=Verdict.UNKNOWN), result(9)]
    assert numbers_of(found, FIRED, "line", "frame_id") == [10, 11, 12]
    assert numbers_of([result(i) for i in range(7)], FIRED, "line", "encoder") == [10, 11, 12, 13, 14, 0, 0]


def test_after_a_restart_the_next_part_that_was_judged_is_known_by_its_time() -> None:
    lost = result(8, restarted=True, verdict=Verdict.UNKNOWN)
    found = [result(7), lost, result(9, at_ns=4 * 10**9 + 1000), result(10)]
    assert numbers_of(found, FIRED, "line", "frame_id") == [10, 0, 13, 14]
    assert numbers_of([result(7, restarted=True)], [], "line", "frame_id") == [0]


def test_counted_parts_are_known_by_the_count_however_few_bits_it_has() -> None:
    found = [result(1, frame_id=12), result(2, frame_id=12 + 2**16), result(3, frame_id=12 - 2**32), result(4, 99)]
    assert numbers_of(found, FIRED, "line", "counter") == [12, 12, 12, 0]


def test_software_triggers_are_known_by_their_part() -> None:
    fired = [*FIRED, Fired(0, 6 * 10**9, "5")]  # which the camera did not take
    found = [result(1, part_ref="3"), result(2, part_ref="5"), result(3)]
    assert numbers_of(found, fired, "software", "frame_id") == [13, 0, 0]

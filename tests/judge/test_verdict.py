"""Regions to verdict: nothing but a kept limit is a PASS."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.extract.plan import Plan
from inspectd.extract.regions import Extraction
from inspectd.judge.verdict import judge
from inspectd.runtime.errors import ConfigError
from inspectd.runtime.frame import Judgement, Reason, Region, Verdict
from inspectd.settings.recipe import Limits, View, Zone
from tests.makers import LIMITS, examples, plan_for, region

NUMBERS = st.sampled_from([0.0, 10.0, 49.9, 50.0, 50.1, 100.0])
SCORES = st.sampled_from([0.4, 0.5, 0.599999, 0.6, 0.7, 1.0])


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    maybe = st.none() | NUMBERS
    return Limits(
        suspect=0.4, reject=draw(SCORES), min_area_px=draw(NUMBERS), max_count=draw(st.integers(0, 2)),
        max_area_px=draw(maybe), max_length_px=draw(maybe),
    )  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    zone = Zone([(0, 0), (32, 0), (32, 64)], {"spot": draw(limits())})
    return plan_for(limits={"spot": draw(limits()), "scratch": draw(limits())}, view=View(zones={"seal": zone}))


REGIONS = st.builds(
    region, SCORES, NUMBERS, NUMBERS, st.sampled_from(["", "seal"]), st.sampled_from(["spot", "scratch"])
)
LISTS = st.lists(REGIONS, max_size=5).map(tuple)


def verdict(plan: Plan, *regions: Region, truncated: bool = False) -> Judgement:
    return judge(Extraction(regions, truncated), plan)


def breaks(regions: list[Region], limits: Limits) -> bool:
    """Whether regions of one class and zone, all taken as defects, break a limit. Written anew."""
    counted = [r for r in regions if r.area_px >= limits.min_area_px]
    too_many = len(counted) > limits.max_count
    too_large = limits.max_area_px is not None and any(r.area_px > limits.max_area_px for r in counted)
    too_long = limits.max_length_px is not None and any(r.length_px > limits.max_length_px for r in counted)
    return too_many or too_large or too_long


@examples(300)
@given(plans(), LISTS, st.booleans())
def test_the_verdict_is_that_of_the_rule(plan: Plan, regions: tuple[Region, ...], truncated: bool) -> None:
    def broken(wanted: float) -> bool:
        return any(
            breaks([r for r in regions if (r.zone, r.class_) == key and r.score >= wanted * lim.reject], lim)
            for key, lim in plan.limits.items()
        )

    found = judge(Extraction(regions, truncated), plan)
    certain, possible = broken(1.0), broken(0.0)
    wanted = Verdict.FAIL if certain else Verdict.UNKNOWN if possible or truncated else Verdict.PASS
    assert found.verdict is wanted
    reasons = {Verdict.FAIL: Reason.DEFECT, Verdict.UNKNOWN: Reason.UNDECIDED, Verdict.PASS: Reason.NONE}
    assert found.reason is reasons[wanted]
    assert found.regions == regions
    assert found.truncated == truncated
    assert bool(found.detail) == (wanted is not Verdict.PASS)


@examples(200)
@given(plans(), LISTS, REGIONS)
def test_one_more_region_never_makes_it_better(plan: Plan, regions: tuple[Region, ...], more: Region) -> None:
    before, after = verdict(plan, *regions).verdict, verdict(plan, *regions, more).verdict
    assert before is Verdict.PASS or after is not Verdict.PASS
    assert before is not Verdict.FAIL or after is Verdict.FAIL


@examples(200)
@given(plans(), LISTS.filter(bool), st.data())
def test_a_higher_score_never_makes_it_better(
    plan: Plan, regions: tuple[Region, ...], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(regions) - 1))
    old = regions[index]
    score = data.draw(SCORES.filter(lambda s: s >= old.score))
    area, length = old.area_px + data.draw(NUMBERS), old.length_px + data.draw(NUMBERS)
    worse = msgspec.structs.replace(old, score=score, area_px=area, length_px=length)
    before = verdict(plan, *regions).verdict
    after = verdict(plan, *regions[:index], worse, *regions[index + 1 :]).verdict
    assert before is Verdict.PASS or after is not Verdict.PASS
    assert before is not Verdict.FAIL or after is Verdict.FAIL


@examples(200)
@given(plans(), LISTS)
def test_a_pass_holds_even_if_every_doubt_is_a_defect(plan: Plan, regions: tuple[Region, ...]) -> None:
    if verdict(plan, *regions).verdict is Verdict.PASS:
        sure = [msgspec.structs.replace(r, score=1.0) for r in regions]
        assert verdict(plan, *sure).verdict is Verdict.PASS


@examples(100)
@given(plans(), LISTS)
def test_truncated_is_never_a_pass(plan: Plan, regions: tuple[Region, ...]) -> None:
    assert verdict(plan, *regions, truncated=True).verdict is not Verdict.PASS


def test_no_region_is_a_pass() -> None:
    assert verdict(plan_for()) == (Verdict.PASS, Reason.NONE, (), False, "")


@pytest.mark.parametrize(
    ("score", "expected"), [(0.6, Verdict.FAIL), (0.599999, Verdict.UNKNOWN), (0.4, Verdict.UNKNOWN)]
)
def test_at_the_thresholds(score: float, expected: Verdict) -> None:
    assert verdict(plan_for(), region(score=score)).verdict is expected


@pytest.mark.parametrize(("area", "expected"), [(50.0, Verdict.FAIL), (49.9, Verdict.PASS)])
def test_at_the_smallest_area(area: float, expected: Verdict) -> None:
    plan = plan_for(limits={"spot": Limits(suspect=0.4, reject=0.6, min_area_px=50)})
    assert verdict(plan, region(area_px=area)).verdict is expected


@pytest.mark.parametrize("score", [0.5, 0.9])
def test_at_the_largest_values(score: float) -> None:
    bad = Verdict.FAIL if score > 0.6 else Verdict.UNKNOWN
    spot = Limits(suspect=0.4, reject=0.6, max_count=2, max_area_px=100, max_length_px=20)
    plan = plan_for(limits={"spot": spot})
    kept = region(score, area_px=100, length_px=20)
    assert verdict(plan, kept, kept).verdict is Verdict.PASS
    assert verdict(plan, kept, kept, kept).verdict is bad
    assert verdict(plan, region(score, area_px=100.1, length_px=20)).verdict is bad
    assert verdict(plan, region(score, area_px=100, length_px=20.1)).verdict is bad


def test_each_zone_and_class_counts_for_itself() -> None:
    zone = Zone([(0, 0), (32, 0), (32, 64)], {"spot": Limits(suspect=0.1, reject=0.2)})
    spot = Limits(suspect=0.4, reject=0.6, max_count=1)
    plan = plan_for(limits={"spot": spot, "scratch": spot}, view=View(zones={"seal": zone}))
    assert verdict(plan, region(class_="spot"), region(class_="scratch")).verdict is Verdict.PASS
    assert verdict(plan, region(class_="spot"), region(class_="spot")).verdict is Verdict.FAIL
    in_seal = verdict(plan, region(score=0.3, zone="seal"))
    assert in_seal.verdict is Verdict.FAIL
    assert in_seal.detail == "spot in zone seal: 1 found, 0 allowed"


def test_the_sentence_says_what_was_broken() -> None:
    assert verdict(plan_for(), region(0.5)).detail == "in doubt: spot: 1 found, 0 allowed"
    assert verdict(plan_for(max_regions=7), truncated=True).detail == "more than 7 regions"
    spot = Limits(suspect=0.4, reject=0.6, max_count=9, max_area_px=100, max_length_px=20)
    plan = plan_for(limits={"spot": spot})
    assert verdict(plan, region(area_px=300)).detail == "spot: area 300 px, 100 allowed"
    assert verdict(plan, region(length_px=30)).detail == "spot: length 30 px, 20 allowed"


def test_the_exact_reject_score_of_the_map_is_a_defect() -> None:
    """0.6 is 153 of 255; the score of a region is rounded, the threshold is not."""
    from tests.extract.test_regions import blank, extract

    plan = plan_for(limits={"spot": LIMITS})
    for units, expected in (
        (153, Verdict.FAIL),
        (152, Verdict.UNKNOWN),
        (102, Verdict.UNKNOWN),
        (101, Verdict.PASS),
    ):
        scores = blank(plan)
        scores[0, 3, 3] = units
        assert judge(extract(scores, plan), plan).verdict is expected


IN_MM = (
    ({"max_length_mm": 3.0}, "length 3.25 mm, 3 allowed"),
    ({"max_length_mm": 3.25}, ""),
    ({"max_area_mm2": 0.4}, "area 0.5 mm2, 0.4 allowed"),
    ({"max_area_mm2": 0.5}, ""),
)


@pytest.mark.parametrize(("more", "broken"), IN_MM)
def test_a_limit_in_mm_is_held_against_the_region_in_mm(more: dict[str, float], broken: str) -> None:
    """One defect is allowed, of any size in px."""
    plan = plan_for(limits={"spot": Limits(0.4, 0.6, max_count=1, **more)}, scale=(0.05, 0.06))
    found = msgspec.structs.replace(region(0.7, 9999.0, 9999.0), area_mm2=0.5, length_mm=3.25)
    judged = verdict(plan, found)
    assert (judged.verdict, judged.detail) == (("FAIL", f"spot: {broken}") if broken else ("PASS", ""))


@pytest.mark.parametrize(("least", "wanted"), [(0.5, Verdict.FAIL), (0.51, Verdict.PASS)])
def test_a_region_too_small_in_mm_counts_for_nothing(least: float, wanted: Verdict) -> None:
    plan = plan_for(limits={"spot": Limits(0.4, 0.6, min_area_mm2=least)}, scale=(0.05, 0.06))
    found = msgspec.structs.replace(region(0.7, 9999.0, 9999.0), area_mm2=0.5, length_mm=3.25)
    assert verdict(plan, found).verdict is wanted


def test_limits_in_mm_without_a_scale_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"limits in mm \(max_length_mm\), and no camera's mm_per_px"):
        plan_for(limits={"spot": Limits(0.4, 0.6, max_length_mm=3.0)})

"""Regions -> verdict, by the limits of the recipe."""

from collections import defaultdict
from collections.abc import Iterable

from inspectd.extract.plan import Plan
from inspectd.extract.regions import Extraction
from inspectd.runtime.frame import Judgement, Reason, Region, Verdict
from inspectd.settings.recipe import Limits


def judge(extraction: Extraction, plan: Plan) -> Judgement:
    """PASS, FAIL or UNKNOWN/undecided.

    A region smaller than `min_area_px` or `min_area_mm2` counts for nothing. One whose score reaches `reject` is a
    defect, a lower one is in doubt. The part is bad if a limit is broken by the defects alone; it is good if none
    would be broken even were every doubtful region a defect; else nobody knows. More regions than could
    be described are doubt as well, so never a PASS.
    """
    certain: dict[tuple[str, str], list[Region]] = defaultdict(list)
    possible: dict[tuple[str, str], list[Region]] = defaultdict(list)
    for region in extraction.regions:
        key = region.zone, region.class_
        if not counts(region, plan):
            continue
        possible[key].append(region)
        if region.score >= plan.limits[key].reject:
            certain[key].append(region)
    regions, truncated = extraction
    for key, found in certain.items():
        if broken := _broken_limit(found, plan.limits[key]):
            return Judgement(Verdict.FAIL, Reason.DEFECT, regions, truncated, _sentence(key, broken))
    for key, found in possible.items():
        if broken := _broken_limit(found, plan.limits[key]):
            detail = f"in doubt: {_sentence(key, broken)}"
            return Judgement(Verdict.UNKNOWN, Reason.UNDECIDED, regions, truncated, detail)
    if truncated:
        detail = f"more than {plan.max_regions} regions"
        return Judgement(Verdict.UNKNOWN, Reason.UNDECIDED, regions, truncated, detail)
    return Judgement(Verdict.PASS, Reason.NONE, regions)


def counts(region: Region, plan: Plan) -> bool:
    """Whether a region is large enough to count: its area reaches the least one of its zone and class."""
    limits = plan.limits[region.zone, region.class_]
    if limits.min_area_mm2 is not None:
        return _in_mm(region.area_mm2) >= limits.min_area_mm2
    return region.area_px >= limits.min_area_px


def _broken_limit(regions: list[Region], limits: Limits) -> str:
    """The first limit that these regions, taken as defects, break; empty if they keep all."""
    if len(regions) > limits.max_count:
        return f"{len(regions)} found, {limits.max_count} allowed"
    if broken := _over(limits.max_area_px, (r.area_px for r in regions)):
        return f"area {broken[0]:.0f} px, {broken[1]:.0f} allowed"
    if broken := _over(limits.max_length_px, (r.length_px for r in regions)):
        return f"length {broken[0]:.0f} px, {broken[1]:.0f} allowed"
    if broken := _over(limits.max_area_mm2, (_in_mm(r.area_mm2) for r in regions)):
        return f"area {broken[0]:.4g} mm2, {broken[1]:g} allowed"
    if broken := _over(limits.max_length_mm, (_in_mm(r.length_mm) for r in regions)):
        return f"length {broken[0]:.4g} mm, {broken[1]:g} allowed"
    return ""


def _over(limit: float | None, values: Iterable[float]) -> tuple[float, float] | None:
    if limit is None:
        return None
    worst = max(values, default=0.0)
    return None if worst <= limit else (worst, limit)


def _in_mm(measure: float | None) -> float:
    assert measure is not None  # `make_plan` refuses limits in mm where regions have no such measure
    return measure


def _sentence(key: tuple[str, str], broken: str) -> str:
    zone, class_ = key
    return f"{class_}{f' in zone {zone}' if zone else ''}: {broken}"

"""Regions of a score map, against a slow reference made another way."""

import math
import time
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.extract.plan import Plan
from inspectd.extract.regions import MAX_CONTOUR_POINTS, Extraction, extract_regions
from inspectd.runtime.frame import Region
from inspectd.settings.recipe import Limits, View, Zone
from tests.makers import LIMITS, examples, plan_for

U8 = np.ndarray


class Blob(NamedTuple):
    """A region as the reference finds it."""

    class_: str
    cells: frozenset[tuple[int, int]]  # x, y
    scores: tuple[int, ...]

    def key(self, plan: Plan) -> tuple[object, ...]:
        """What of it can be compared."""
        left, top, width, height = plan.rect
        s = plan.stride
        xs, ys = [x for x, _ in self.cells], [y for _, y in self.cells]
        bbox = (
            left + min(xs) * s,
            top + min(ys) * s,
            min((max(xs) + 1) * s, width) - min(xs) * s,
            min((max(ys) + 1) * s, height) - min(ys) * s,
        )
        area = s * s * sum(self.scores) / 255
        mean = sum(self.scores) / len(self.cells) / 255
        return self.class_, bbox, round(max(self.scores) / 255, 6), round(mean, 4), round(area, 1)

    @property
    def rank(self) -> int:
        return max(self.scores) * sum(self.scores)


def reference(scores: U8, plan: Plan) -> list[Blob]:
    """All regions, by flood fill."""
    blobs = []
    for k, name in enumerate(plan.classes):
        left = {(x, y) for y, x in np.argwhere(scores[k].astype(int) > plan.floor[k]).tolist()}
        while left:
            todo, cells = [left.pop()], set()
            while todo:
                x, y = todo.pop()
                cells.add((x, y))
                near = {(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)} & left
                left -= near
                todo += near
            blobs.append(Blob(name, frozenset(cells), tuple(int(scores[k, y, x]) for x, y in cells)))
    return blobs


def key(region: Region) -> tuple[object, ...]:
    return region.class_, region.bbox, region.score, region.mean_score, region.area_px


def extract(scores: U8, plan: Plan) -> Extraction:
    return extract_regions(scores, scores.max(axis=(1, 2)), plan)


def one(scores: U8, plan: Plan) -> Region:
    found = extract(scores, plan)
    assert not found.truncated
    (region,) = found.regions
    return region


def blank(plan: Plan) -> U8:
    return np.zeros(plan.floor.shape, np.uint8)


@st.composite
def maps(draw: st.DrawFn, max_regions: int = 1024, clipped: bool = True) -> tuple[U8, Plan]:
    """A score map of up to 2 classes on a random grid, with a plan for it."""
    stride = draw(st.sampled_from([1, 2, 4, 8]))
    h, w = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    odd = stride - 1 if clipped else 0
    rect = (
        draw(st.integers(0, 30)), draw(st.integers(0, 30)),
        w * stride - draw(st.integers(0, odd)), h * stride - draw(st.integers(0, odd)),
    )  # fmt: skip
    names = draw(st.sampled_from([("spot",), ("spot", "scratch")]))
    limits = {name: Limits(suspect=draw(st.sampled_from([0.004, 0.4, 1.0])), reject=1.0) for name in names}
    values = st.sampled_from([0, 0, 0, 1, 101, 102, 103, 254, 255])
    cells = draw(st.lists(values, min_size=len(names) * h * w, max_size=len(names) * h * w))
    corners = st.tuples(st.integers(0, 120), st.integers(0, 120))
    ignore = draw(st.lists(st.lists(corners, min_size=3, max_size=4), max_size=1))
    plan = plan_for(rect, stride, limits, View(ignore=ignore), max_regions)
    return np.array(cells, np.uint8).reshape(len(names), h, w), plan


@examples(250)
@given(maps())
def test_the_regions_are_those_of_the_reference(case: tuple[U8, Plan]) -> None:
    scores, plan = case
    found, truncated = extract(scores, plan)
    blobs = reference(scores, plan)
    assert not truncated
    assert sorted(map(key, found)) == sorted(blob.key(plan) for blob in blobs)
    assert all(region.zone == "" for region in found)


@examples(150)
@given(maps(clipped=False))
def test_the_centroid_lies_in_the_box_and_is_the_scores_centre(case: tuple[U8, Plan]) -> None:
    scores, plan = case
    wanted = {}
    for blob in reference(scores, plan):
        scored = {cell: int(scores[plan.classes.index(blob.class_)][cell[1], cell[0]]) for cell in blob.cells}
        x, y = (sum(c[axis] * s for c, s in scored.items()) / sum(scored.values()) + 0.5 for axis in (0, 1))
        centre = (plan.rect[0] + x * plan.stride, plan.rect[1] + y * plan.stride)
        wanted.setdefault(blob.key(plan), []).append(centre)
    for region in extract(scores, plan).regions:
        left, top, width, height = region.bbox
        x, y = region.centroid
        assert left <= x <= left + width
        assert top <= y <= top + height
        assert any(math.dist(region.centroid, c) < 0.1 for c in wanted[key(region)])


def test_the_centroid_lies_in_the_box_at_the_border_too() -> None:
    plan = plan_for((0, 0, 65, 64))
    scores = blank(plan)
    scores[0, 3, 16] = 255
    region = one(scores, plan)
    assert region.bbox == (64, 12, 1, 4)
    assert 64 <= region.centroid[0] <= 65


def test_a_zone_over_the_whole_image_holds_every_region() -> None:
    square = [(0.0, 0.0), (65.0, 0.0), (65.0, 64.0), (0.0, 64.0)]
    strict, lenient = Limits(suspect=0.1, reject=0.2), Limits(suspect=0.1, reject=0.9)
    view = View(zones={"all": Zone(square, {"spot": strict})})
    plan = plan_for((0, 0, 65, 64), limits={"spot": lenient}, view=view)
    scores = blank(plan)
    scores[0, 3, 16] = 100
    assert one(scores, plan).zone == "all"


@examples(150)
@given(maps())
def test_the_contour_is_of_the_regions_cells_and_inside_the_image(case: tuple[U8, Plan]) -> None:
    scores, plan = case
    cells: dict[object, set[tuple[int, int]]] = {}
    for blob in reference(scores, plan):
        cells.setdefault(blob.key(plan), set()).update(blob.cells)
    left, top, width, height = plan.rect
    for region in extract(scores, plan).regions:
        assert 1 <= len(region.contour) <= MAX_CONTOUR_POINTS
        for x, y in region.contour:
            assert left <= x < left + width
            assert top <= y < top + height
            assert ((x - left) // plan.stride, (y - top) // plan.stride) in cells[key(region)]


@examples(150)
@given(maps(max_regions=2))
def test_the_largest_by_score_and_area_are_described(case: tuple[U8, Plan]) -> None:
    scores, plan = case
    found, truncated = extract(scores, plan)
    blobs = sorted(reference(scores, plan), key=lambda blob: blob.rank, reverse=True)
    assert truncated == (len(blobs) > 2)
    assert len(found) == min(2, len(blobs))
    ranks: dict[object, set[int]] = {}
    for blob in blobs:
        ranks.setdefault(blob.key(plan), set()).add(blob.rank)
    for region, blob in zip(found, blobs, strict=False):
        assert blob.rank in ranks[key(region)]


@examples(100)
@given(maps())
def test_an_ignored_cell_is_in_no_region(case: tuple[U8, Plan]) -> None:
    scores, plan = case
    plan.floor[:, ::2] = 255  # ignore every second row
    rows = {(region.bbox[1] - plan.rect[1]) // plan.stride for region in extract(scores, plan).regions}
    assert not any(row % 2 == 0 for row in rows)
    scores[...] = 255
    for region in extract(scores, plan).regions:
        assert (region.bbox[1] - plan.rect[1]) // plan.stride % 2 == 1
        assert region.bbox[3] <= plan.stride


def test_a_peak_below_suspect_is_nothing_at_all() -> None:
    plan = plan_for()
    scores = blank(plan)
    scores[0, 2:9, 3] = 101
    assert extract(scores, plan) == Extraction((), False)
    scores[0, 2, 3] = 102
    assert one(scores, plan).bbox == (12, 8, 4, 4)


def test_a_suspicious_peak_in_an_ignored_cell_alone_is_nothing() -> None:
    plan = plan_for(view=View(ignore=[[(0, 0), (64, 0), (64, 64), (0, 64)]]))
    scores = blank(plan)
    scores[...] = 255
    assert extract(scores, plan) == Extraction((), False)


@pytest.mark.parametrize(
    ("cells", "length"),
    [
        ([(0, 0)], math.sqrt(2)),
        ([(x, 0) for x in range(10)], math.hypot(10, 1)),
        ([(0, y) for y in range(7)], math.hypot(7, 1)),
        ([(i, i) for i in range(8)], 8 * math.sqrt(2)),
        ([(x, y) for x in range(3) for y in range(4)], 5.0),
        ([(x, 0) for x in range(9)] + [(4, y) for y in range(1, 9)], math.hypot(9, 5)),
    ],
)
def test_the_length_of_known_shapes(cells: list[tuple[int, int]], length: float) -> None:
    plan = plan_for(scale=(0.5, 0.5))
    scores = blank(plan)
    for x, y in cells:
        scores[0, y + 2, x + 3] = 255
    region = one(scores, plan)
    assert region.length_px == round(length * 4, 1)
    assert region.length_mm == pytest.approx(length * 4 * 0.5)
    assert region.area_px == 16 * len(cells)
    assert region.area_mm2 == pytest.approx(16 * len(cells) * 0.25)


@pytest.mark.parametrize(
    ("cells", "length_mm"),
    [
        ([(x, 0) for x in range(10)], math.hypot(10 * 0.5, 0.25)),
        ([(0, y) for y in range(10)], math.hypot(0.5, 10 * 0.25)),
        ([(i, i) for i in range(8)], 8 * math.hypot(0.5, 0.25)),
        # the longest extent in px is not the one in mm
        ([(x, 0) for x in range(9)] + [(0, y) for y in range(1, 12)], math.hypot(9 * 0.5, 12 * 0.25)),
    ],
)
def test_a_pixel_may_be_wider_than_high(cells: list[tuple[int, int]], length_mm: float) -> None:
    plan = plan_for(scale=(0.5, 0.25))
    scores = blank(plan)
    for x, y in cells:
        scores[0, y + 2, x + 3] = 255
    region = one(scores, plan)
    assert region.length_mm == pytest.approx(length_mm * 4)
    assert region.area_mm2 == pytest.approx(16 * len(cells) * 0.125)


def test_without_a_scale_there_are_no_millimetres() -> None:
    plan = plan_for()
    scores = blank(plan)
    scores[0, 0, 0] = 255
    region = one(scores, plan)
    assert region.area_mm2 is None
    assert region.length_mm is None


def test_a_clipped_cell_does_not_reach_beyond_the_image() -> None:
    plan = plan_for((10, 20, 65, 67))
    scores = blank(plan)
    scores[0, 15:, 15:] = 255
    region = one(scores, plan)
    assert region.bbox == (10 + 60, 20 + 60, 5, 7)
    assert max(x for x, _ in region.contour) <= 10 + 64
    assert max(y for _, y in region.contour) <= 20 + 66


def test_regions_of_different_classes_do_not_join() -> None:
    plan = plan_for(limits={"spot": LIMITS, "scratch": LIMITS})
    scores = blank(plan)
    scores[0, 3, 3] = scores[1, 3, 4] = 255
    assert sorted(region.class_ for region in extract(scores, plan).regions) == ["scratch", "spot"]


def test_the_centroid_decides_the_zone_and_the_first_zone_wins() -> None:
    left = Zone([(0, 0), (32, 0), (32, 64), (0, 64)], {})
    whole = Zone([(0, 0), (64, 0), (64, 64), (0, 64)], {})
    plan = plan_for(view=View(zones={"left": left, "whole": whole}))
    scores = blank(plan)
    scores[0, 4, 4:11] = 255
    assert one(scores, plan).zone == "left"
    scores[0, 4, 11:13] = 255
    assert one(scores, plan).zone == "whole"
    scores[0, 4, 4] = 0
    scores[0, 4, 0:4] = 200
    assert {region.zone for region in extract(scores, plan).regions} == {"left", "whole"}


def test_a_zone_has_its_own_suspect() -> None:
    zone = Zone([(0, 0), (32, 0), (32, 64), (0, 64)], {"spot": Limits(suspect=0.1, reject=0.2)})
    plan = plan_for(view=View(zones={"seal": zone}))
    scores = blank(plan)
    scores[0, 4, 2] = scores[0, 4, 12] = 30
    assert one(scores, plan).zone == "seal"


def test_a_long_contour_is_thinned() -> None:
    plan = plan_for((0, 0, 1200, 64))
    scores = blank(plan)
    scores[0, 4, :] = 255
    scores[0, 3, ::2] = 255  # a comb of 150 teeth
    region = one(scores, plan)
    assert 32 < len(region.contour) <= MAX_CONTOUR_POINTS


def test_noise_with_thousands_of_regions_stays_bounded() -> None:
    plan = plan_for((0, 0, 1600, 1600), stride=4)
    scores = (np.random.default_rng(1).random(plan.floor.shape) < 0.12).astype(np.uint8) * 255
    began = time.process_time()
    found = extract(scores, plan)
    assert time.process_time() - began < 1.0
    assert found.truncated
    assert len(found.regions) == 64

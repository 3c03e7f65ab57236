import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inspectd.extract.plan import Plan, make_plan
from inspectd.settings.recipe import Limits, Recipe, View
from inspectd_train.measure import defects

STRIDE = 4
CLASSES = ("pit", "crack")
SHAPE = (26, 35)  # not a multiple of the stride
CELLS = (2, 7, 9)


def plan(suspect: float = 0.5, min_area_px: float = 0.0) -> Plan:
    limits = dict.fromkeys(CLASSES, Limits(suspect=suspect, reject=1.0, min_area_px=min_area_px))
    recipe = Recipe(model=".", deadline_ms=1, limits=limits, max_regions=1024)
    return make_plan(recipe, View(), (0, 0, SHAPE[1], SHAPE[0]), CLASSES, STRIDE)


def match(scores: np.ndarray, mask: np.ndarray, **limits: float) -> defects.Match:
    return defects.match(scores, scores.max((1, 2)), mask, plan(**limits))


@given(
    arrays(np.uint8, CELLS, elements=st.sampled_from([0, 0, 0, 200])),
    arrays(np.uint8, SHAPE, elements=st.sampled_from([0] * 12 + [1, 2, 255])),
)
@settings(max_examples=60, deadline=None)
def test_matching_is_that_of_a_pixel_by_pixel_look(scores: np.ndarray, mask: np.ndarray) -> None:
    found = match(scores, mask)
    hit = (scores >= 128).any(0).repeat(STRIDE, 0).repeat(STRIDE, 1)[: SHAPE[0], : SHAPE[1]]
    wanted = []
    for k in (1, 2):
        count, labels = cv2.connectedComponents((mask == k).astype(np.uint8), connectivity=8)
        wanted += [(CLASSES[k - 1], bool(hit[labels == n].any())) for n in range(1, count)]
    assert [(d.class_, d.found) for d in found.defects] == wanted
    false = 0
    for of_class in scores:
        count, labels = cv2.connectedComponents((of_class >= 128).astype(np.uint8), connectivity=8)
        fine = labels.repeat(STRIDE, 0).repeat(STRIDE, 1)[: SHAPE[0], : SHAPE[1]]
        false += sum(not mask[fine == n].any() for n in range(1, count))
    assert len(found.false) == false


def test_a_region_of_another_class_finds_but_does_not_name() -> None:
    scores, mask = np.zeros(CELLS, np.uint8), np.zeros(SHAPE, np.uint8)
    scores[1, 1:3, 1:3], mask[5:11, 5:11] = 255, 1
    (defect,) = match(scores, mask).defects
    assert (defect.class_, defect.found, defect.named) == ("pit", True, False)
    assert (defect.area_px, defect.box, defect.found_area_px, defect.largest_px) == (36, (5, 5, 6, 6), 64.0, 64.0)


def test_regions_below_the_minimum_area_find_nothing_and_are_not_false() -> None:
    scores, mask = np.zeros(CELLS, np.uint8), np.zeros(SHAPE, np.uint8)
    scores[0, 1, 1] = scores[0, 5, 5] = 255
    mask[4:8, 4:8] = 1
    assert [d.found for d in match(scores, mask, min_area_px=16).defects] == [True]
    none = match(scores, mask, min_area_px=17)
    assert (none.defects[0].found, none.false) == (False, ())


def test_a_region_where_nobody_cares_is_not_false() -> None:
    scores, mask = np.zeros(CELLS, np.uint8), np.zeros(SHAPE, np.uint8)
    scores[0, 1, 1], mask[7, 7] = 255, 255
    assert match(scores, mask) == defects.Match((), ())


def test_summary_by_class_size_and_width() -> None:
    scores, mask = np.zeros(CELLS, np.uint8), np.zeros(SHAPE, np.uint8)
    mask[0:10, 0:10] = 1  # size 10, width 10
    mask[20, 4:30] = 2  # one pixel wide, size 5
    scores[0, 0, 0] = 255
    found = defects.summary([match(scores, mask), defects.Match((), ())])
    assert (found["defects"], found["found"], found["missed"], found["recall"]) == (2, 1, 1, 0.5)
    assert found["by_class"]["crack"]["missed"] == 1
    assert [name for name, own in found["by_size"].items() if own["defects"]] == ["< 8 px", "8-16 px"]
    assert [name for name, own in found["by_width"].items() if own["defects"]] == ["< 2 px", "8-16 px"]
    assert found["by_class"]["pit"]["area_ratio"] == 0.16
    assert found["false_regions_per_picture"] == 0


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 8])
def test_width_is_that_of_a_line(width: int) -> None:
    line = np.zeros((20, 60), np.bool_)
    line[5 : 5 + width, 4:50] = True
    assert defects.width_px(line) == width == defects.width_px(line.T)


def test_summary_of_nothing_is_undefined_not_zero() -> None:
    found = defects.summary([])
    assert found["recall"] is None
    assert found["false_regions_per_picture"] is None

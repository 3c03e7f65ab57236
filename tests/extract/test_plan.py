"""A recipe resolved for one camera: floors, ignored cells, zones."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.extract.plan import make_plan
from inspectd.runtime.errors import ConfigError
from inspectd.settings.recipe import Limits, Recipe, View, Zone
from tests.makers import LIMITS, examples, plan_for

STRICT = Limits(suspect=0.1, reject=0.2)


def square(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def ignored_cells(polygons: list[list[tuple[float, float]]], rect: tuple[int, int, int, int]) -> np.ndarray:
    return plan_for(rect, limits={"spot": LIMITS}, view=View(ignore=polygons)).floor[0] == 255


@examples(60)
@given(st.integers(1, 255), st.floats(0, 1, exclude_max=True))
def test_the_floor_is_the_last_score_below_suspect(unit: int, part: float) -> None:
    suspect = max(0.004, (unit - part) / 255)
    plan = plan_for(limits={"spot": Limits(suspect=suspect, reject=1.0)})
    floor = int(plan.floor[0, 0, 0])
    assert floor / 255 < suspect <= (floor + 1) / 255 + 1e-11
    assert plan.lowest[0] == floor + 1


def test_the_grid_covers_a_size_that_is_no_multiple_of_the_stride() -> None:
    assert plan_for((0, 0, 65, 63), stride=4).floor.shape == (1, 16, 17)
    assert plan_for((5, 9, 65, 70), stride=8, limits={"a": LIMITS, "b": LIMITS}).floor.shape == (2, 9, 9)


def test_a_polygon_of_whole_cells_ignores_just_these() -> None:
    found = ignored_cells([square(8, 16, 16, 24)], (0, 0, 64, 64))
    assert found[4:6, 2:4].all()
    assert found.sum() == 4


def test_ignored_pixels_are_of_the_sensor_not_of_the_roi() -> None:
    found = ignored_cells([square(108, 216, 116, 224)], (100, 200, 64, 64))
    assert found[4:6, 2:4].all()
    assert found.sum() == 4


def test_two_polygons_that_cover_a_cell_only_together_do_not_ignore_it() -> None:
    found = ignored_cells([square(8, 8, 10, 12), square(10, 8, 12, 12)], (0, 0, 64, 64))
    assert not found.any()


def test_a_cell_on_the_border_is_ignored_when_all_that_it_has_of_the_image_is() -> None:
    found = ignored_cells([square(60, 60, 66, 66)], (0, 0, 66, 66))
    assert found.shape == (17, 17)
    assert found[15:, 15:].all()
    assert found.sum() == 4


def test_nothing_is_ignored_without_a_polygon_or_far_from_one() -> None:
    assert not ignored_cells([], (0, 0, 65, 65)).any()
    assert not ignored_cells([square(1000, 1000, 1100, 1100)], (0, 0, 65, 65)).any()
    assert not ignored_cells([square(-100, -100, -1, -1)], (0, 0, 65, 65)).any()


def test_an_ignored_image_is_ignored_whole() -> None:
    assert ignored_cells([square(-5, -5, 100, 100)], (0, 0, 65, 65)).all()


@pytest.mark.parametrize("edge", [10.6, 11.0, 11.4])
def test_a_cell_partly_outside_is_never_ignored(edge: float) -> None:
    """Cell 2 spans 8 to 12: pixel 11 lies (at least partly) beyond the edge."""
    assert not ignored_cells([square(0, 0, edge, 64)], (0, 0, 64, 64))[:, 2].any()


def test_a_polygon_may_reach_far_beyond_the_image() -> None:
    """`ignore all right of x = 32`, said with a number that needs no knowledge of the image's size."""
    with np.errstate(invalid="ignore"):
        found = ignored_cells([square(32, 0, 1e10, 64)], (0, 0, 64, 64))
    assert found[:, 8:].all()
    assert not found[:, :8].any()


POINT = st.tuples(st.floats(-10, 90, width=32), st.floats(-10, 90, width=32))


@examples(80)
@given(st.lists(POINT, min_size=3, max_size=3), st.integers(0, 3))
def test_no_ignored_cell_has_a_pixel_outside(polygon: list[tuple[float, float]], odd: int) -> None:
    rect = (3, 5, 64 + odd, 64 + odd)
    outline = np.array(polygon, np.float32)
    for row, column in np.argwhere(ignored_cells([polygon], rect)):
        for y in range(row * 4, min(row * 4 + 4, rect[3])):
            for x in range(column * 4, min(column * 4 + 4, rect[2])):
                assert cv2.pointPolygonTest(outline, (x + 3.5, y + 5.5), True) > -1e-3


def test_a_zone_has_its_own_thresholds_where_its_cells_are() -> None:
    zone = Zone(square(16, 16, 32, 32), {"spot": STRICT})
    plan = plan_for(view=View(zones={"seal": zone}))
    inside = np.zeros((16, 16), bool)
    inside[4:8, 4:8] = True
    assert set(plan.floor[0][inside].tolist()) == {25}
    assert set(plan.floor[0][~inside].tolist()) == {101}
    assert plan.lowest.tolist() == [26]
    assert plan.limits == {("", "spot"): LIMITS, ("seal", "spot"): STRICT}


def test_a_class_that_a_zone_leaves_out_keeps_the_recipes_limits() -> None:
    both = {"spot": LIMITS, "scratch": Limits(suspect=0.3, reject=0.5)}
    plan = plan_for(limits=both, view=View(zones={"seal": Zone(square(0, 0, 32, 32), {"spot": STRICT})}))
    assert plan.limits["seal", "scratch"] == both["scratch"]
    assert plan.floor[1].min() == plan.floor[1].max()


def test_where_zones_overlap_the_first_wins() -> None:
    zones = {"a": Zone(square(0, 0, 32, 64), {"spot": STRICT}), "b": Zone(square(0, 0, 64, 64), {})}
    plan = plan_for(view=View(zones=zones))
    assert plan.floor[0, 0, 0] == 25
    assert plan.floor[0, 0, 15] == 101
    swapped = plan_for(view=View(zones=dict(reversed(zones.items()))))
    assert swapped.floor[0, 0, 0] == 101


def test_an_ignored_cell_is_ignored_in_a_zone_too() -> None:
    view = View(ignore=[square(0, 0, 8, 8)], zones={"a": Zone(square(0, 0, 64, 64), {"spot": STRICT})})
    floor = plan_for(view=view).floor[0]
    assert (floor[:2, :2] == 255).all()
    assert (floor == 255).sum() == 4


def test_a_zone_over_the_whole_image_holds_its_clipped_cells() -> None:
    """Its stricter `suspect` must hold in the last column, of which one pixel is in the image."""
    zone = Zone(square(0, 0, 65, 65), {"spot": STRICT})
    assert (plan_for((0, 0, 65, 65), view=View(zones={"all": zone})).floor == 25).all()


def test_a_recipe_that_does_not_fit_the_model_is_told_whole() -> None:
    view = View(zones={"seal": Zone(square(0, 0, 8, 8), {"dent": LIMITS})})
    recipe = Recipe(model=".", deadline_ms=100, limits={"spot": LIMITS, "crack": LIMITS})
    with pytest.raises(ConfigError) as caught:
        make_plan(recipe, view, (0, 0, 64, 64), ["spot", "scratch"], 4)
    assert caught.value.problems == [
        "the recipe's limits names the class 'crack', which the model does not know; it knows spot, scratch",
        "the recipe's zones.seal.limits names the class 'dent', which the model does not know; "
        "it knows spot, scratch",
        "the recipe has no limits for the class 'scratch' of the model: add [limits.scratch]",
    ]

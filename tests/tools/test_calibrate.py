import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.extract.plan import make_plan
from inspectd.extract.regions import extract_regions
from inspectd.runtime.errors import ConfigError, UserError
from inspectd.settings.recipe import Limits, Recipe, View, load_recipe
from inspectd_train.bundle.calibrate import calibrate, choose, choose_mask_levels, choose_reject
from inspectd_train.bundle.recipe import recipe_text
from inspectd_train.bundle.search import LEVELS, Wish, areas_at, highest_at
from inspectd_train.data.dataset import DataSet, open_data_set
from inspectd_train.files import write_text
from inspectd_train.measure.evaluate import evaluate
from inspectd_train.measure.froc import Froc
from inspectd_train.measure.limits import as_score
from inspectd_train.measure.verdicts import ScoredPart, stable_share
from tests.bundles import write_bundle
from tests.makers import disk_for
from tests.tools.greys import Spot, write_greys

STRIDE = 4


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("one") / "b", 1))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("two") / "b", 1, ("pit", "crack")))


def part(shows: set[int], *squares: tuple[int, int, int], classes: int = 1) -> ScoredPart:
    """A part whose scores are zero but for squares of (class, score, side in cells)."""
    scores = np.zeros((classes, 24, 32), np.uint8)
    for k, score, side in squares:
        scores[k, 5 : 5 + side, 8 : 8 + side] = score
    return ScoredPart("", scores, scores.max((1, 2)), (96, 128), frozenset(shows))


def chosen(parts: list[ScoredPart], bundle: Bundle, wish: Wish) -> tuple[dict[str, Limits], dict[str, Any]]:
    return choose(parts, bundle, wish, Froc(tuple(bundle.manifest.classes), STRIDE))


@given(
    arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 0, 40, 90, 200, 255])),
    st.sampled_from(LEVELS[1:-1]),
    st.sampled_from([0.0, 4.0, 16.0, 48.0]),
)
@settings(deadline=None)
def test_regions_are_those_of_the_daemon(scores: np.ndarray, level: int, area_px: float) -> None:
    recipe = Recipe(
        model=".", deadline_ms=1, limits={"a": Limits(suspect=as_score(level), reject=1)}, max_regions=99
    )
    plan = make_plan(recipe, View(), (0, 0, 44, 36), ["a"], STRIDE)
    regions = extract_regions(scores[None], scores.max(keepdims=True)[0], plan).regions
    assert sorted(areas_at(scores, level, STRIDE)) == sorted(r.area_px for r in regions)
    highest = max((round(255 * r.score) for r in regions if r.area_px >= area_px), default=0)
    assert highest_at(scores, level, area_px, STRIDE) == highest


def test_separable_parts_are_separated_in_the_middle(one: Bundle) -> None:
    parts = [part(set(), (0, 60, 3)), part({0}, (0, 200, 3)), part({0}, (0, 240, 6))]
    limits, figures = chosen(parts, one, Wish())
    assert (figures["escapes"], figures["overkill"], figures["stable_share"]) == (0, 0, 1.0)
    assert abs(255 * limits["spot"].suspect - 130) <= 6
    assert figures["notes"] == []


def test_area_separates_what_scores_do_not(one: Bundle) -> None:
    parts = [part(set(), (0, 250, 1)), part({0}, (0, 250, 3))]
    limits, figures = chosen(parts, one, Wish())
    assert (figures["escapes"], figures["overkill"]) == (0, 0)
    assert 24 <= limits["spot"].min_area_px <= 96  # the regions have 15.7 and 141 px


def test_classes_are_chosen_together(two: Bundle) -> None:
    # class 0 alone is hopeless on the clean parts, but class 1 finds all the bad ones
    clean = [part(set(), (0, score, 3), (1, 20, 3), classes=2) for score in range(100, 200, 10)]
    bad = [part({0}, (0, score, 3), (1, 90, 3), classes=2) for score in range(100, 200, 10)]
    limits, figures = chosen(clean + bad, two, Wish(max_overkill=0.0))
    assert (figures["escapes"], figures["overkill"]) == (0, 0)
    assert 20 < 255 * limits["crack"].suspect < 90


@pytest.mark.parametrize(
    ("wish", "figure", "most"),
    [
        (Wish(max_overkill=0.05), "overkill", 2),
        (Wish(max_overkill=0.2), "overkill", 8),
        (Wish(max_escape=0.1), "escapes", 4),
    ],
)
def test_wish_is_kept_where_scores_overlap(one: Bundle, wish: Wish, figure: str, most: int) -> None:
    rng = np.random.default_rng(1)
    clean = [part(set(), (0, int(s), 3)) for s in rng.integers(20, 150, 40)]
    bad = [part({0}, (0, int(s), 3)) for s in rng.integers(100, 256, 40)]
    _, figures = chosen(clean + bad, one, wish)
    assert figures[figure] <= most
    assert figures["escapes"] + figures["overkill"] < 40
    offers = [(o["overkill"], o["escapes"]) for o in figures["alternatives"]]
    assert offers == sorted(offers)
    assert [e for _, e in offers] == sorted((e for _, e in offers), reverse=True)


def test_noise_turns_few_verdicts(one: Bundle) -> None:
    clean = [part(set(), (0, score, 3)) for score in range(10, 90)]
    bad = [part({0}, (0, score, 3)) for score in range(110, 256)]
    limits, figures = chosen(clean + bad, one, Wish())
    assert figures["stable_share"] >= 0.95  # of reject some parts' scores are always near
    assert (figures["escapes"], figures["overkill"]) == (0, 0)
    assert 94 <= 255 * limits["spot"].suspect <= 106
    assert stable_share(clean + bad, limits, ("spot",), STRIDE) == figures["stable_share"]


def test_without_a_clean_part_regions_decide_and_escapes_are_not_said(tmp_path: Path) -> None:
    """Each picture has a defect at 200 and a larger spot at 120 that is none: the picture is ejected anyway."""
    spots = {f"{n}.png": [(8, 8, 16, 200, 1), (60, 40, 24, 120, 0)] for n in range(5)}
    data = open_data_set(write_greys(tmp_path / "data", {"train": spots, "dev": spots, "test": spots}))
    bundle = write_bundle(tmp_path / "b", 1)
    (bundle / "recipe.toml").unlink()
    figures = calibrate(bundle, data, None, Wish(), 1)
    limits = load_recipe(bundle / "recipe.toml").recipe.limits["spot"]
    assert 120 < 255 * limits.suspect < 200
    assert figures["regions"] == {"defects": 5, "found": 5, "false_per_picture": 0.0}
    assert (figures["escape_rate"], figures["overkill_rate"], figures["alternatives"]) == (None, None, [])
    assert "no dev part is clean" in figures["notes"][0]
    assert "at most 0.2 false regions per picture" in (bundle / "recipe.toml").read_text()
    found = evaluate(bundle, data, "test", None, 1)
    assert (found["part_ap"], found["part_auroc"], found["escape_rate"]) == (None, None, None)


def test_an_impossible_wish_is_said(one: Bundle) -> None:
    parts = [*[part(set(), (0, 255, 20))] * 4, part({0}, (0, 255, 3))]
    _, figures = chosen(parts, one, Wish(max_overkill=0.05))
    assert figures["overkill"] == 4
    assert any("can't be met" in note for note in figures["notes"])


def test_reject_spares_clean_parts_a_fail() -> None:
    peaks = np.array([0] * 60 + [120, 130, 140] + [150, 160, 250, 250])
    bad = np.arange(len(peaks)) >= 63
    assert 134 <= choose_reject(peaks, bad, 100, 1) <= 146  # one of 63 clean parts may fail, near no part's score
    assert choose_reject(peaks, bad, 200, 1) >= 200


def test_mask_levels_are_those_of_the_best_iou() -> None:
    scores = np.zeros((2, 8, 8), np.uint8)
    scores[0, 2:5, 2:5], scores[0, 6, 6] = 200, 90
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = 1
    levels = choose_mask_levels([(scores, mask)], 2, STRIDE)
    assert 75 < levels[0] <= 125  # the edge of a square is where its score has fallen to half
    assert levels[1] == 128  # never seen


def test_calibrate_writes_a_recipe_that_loads(tmp_path: Path) -> None:
    spots = {f"c{n}.png": [(8, 8, 16, 20 + 8 * n, 0)] for n in range(5)}
    spots |= {f"b{n}.png": [(40, 20, 16, 150 + 20 * n, 1)] for n in range(5)}
    data = open_data_set(write_greys(tmp_path / "data", {"train": spots, "dev": spots, "test": spots}))
    bundle = write_bundle(tmp_path / "b", 1)
    figures = calibrate(bundle, data, None, Wish(), 1)
    limits = load_recipe(bundle / "recipe.toml").recipe.limits["spot"]
    assert (figures["escapes"], figures["overkill"]) == (0, 0)
    assert 52 < 255 * limits.suspect < 150
    assert (
        json.loads((bundle / "training/calibration.json").read_text())["limits"]["spot"]["suspect"]
        == limits.suspect
    )
    assert not list(bundle.glob(".*"))
    by_regions = calibrate(bundle, data, None, Wish(max_false_regions=0.1), 1)
    assert (by_regions["escapes"], by_regions["overkill"]) == (0, 0)


EDITED = """# of press 7
model = "."
deadline_ms = 80   # the belt is short
max_regions = 9

[image]
min_mean = 20.0

[limits.spot]
reject = 0.9
max_count = 2
min_area_px = 3.0  # px
suspect = 0.2

[limits.gone]
suspect = 0.1
reject = 0.2

[camera.top]
roi = [0, 0, 64, 64]
"""


def separable(tmp_path: Path) -> DataSet:
    spots = {"c.png": [(8, 8, 16, 20, 0)], "b.png": [(40, 20, 16, 200, 1)]}
    return open_data_set(write_greys(tmp_path / "data", {"train": spots, "dev": spots, "test": spots}))


def test_calibrate_changes_thresholds_and_nothing_else_of_a_recipe(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", 1)
    (bundle / "recipe.toml").write_text(EDITED)
    calibrate(bundle, separable(tmp_path), None, Wish(), 1)
    text, recipe = (bundle / "recipe.toml").read_text(), load_recipe(bundle / "recipe.toml").recipe
    assert set(recipe.limits) == {"spot"}
    assert 0.2 < recipe.limits["spot"].suspect <= recipe.limits["spot"].reject
    assert (recipe.limits["spot"].max_count, recipe.deadline_ms, recipe.max_regions) == (2, 80, 9)
    assert (recipe.image.min_mean, recipe.camera["top"].roi) == (20.0, (0, 0, 64, 64))
    assert text.startswith("# of press 7\n") and "# the belt is short" in text and "# px" in text


def test_a_recipe_that_is_wrong_is_not_replaced(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", 1)
    (bundle / "recipe.toml").write_text(broken := EDITED.replace("max_regions", "max_regoins"))
    with pytest.raises(ConfigError, match="max_regoins"):
        calibrate(bundle, separable(tmp_path), None, Wish(), 1)
    assert (bundle / "recipe.toml").read_text() == broken


def test_a_wish_is_named_anew_in_the_head_of_a_recipe() -> None:
    limits = {"spot": Limits(suspect=0.4, reject=0.6, min_area_px=4.0)}
    first = recipe_text(limits, "one wish")
    assert recipe_text(limits, "another wish", first) == first.replace("one wish", "another wish")


def test_foreign_classes_leave_int8_as_it_was(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", 1)
    before = (bundle / "manifest.json").read_bytes()
    spots: dict[str, list[Spot]] = {"a.png": []}
    data = open_data_set(write_greys(tmp_path / "data", dict.fromkeys(("train", "dev", "test"), spots), ("dent",)))
    with pytest.raises(UserError, match="must agree"):
        calibrate(bundle, data, None, Wish(), 1)
    assert (bundle / "manifest.json").read_bytes() == before


def test_recipe_keeps_names_that_toml_would_split(tmp_path: Path) -> None:
    limits = {
        'deep "pit".1': Limits(suspect=0.4, reject=0.6, min_area_px=4),
        "crack": Limits(suspect=0.1, reject=1.0),
    }
    (tmp_path / "recipe.toml").write_text(recipe_text(limits, "a wish"))
    assert load_recipe(tmp_path / "recipe.toml").recipe.limits == limits


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("old")
    with disk_for(4), pytest.raises(UserError, match="can't be written"):
        write_text(file, "longer than that")
    assert [f.name for f in tmp_path.iterdir()] == ["recipe.toml"]
    assert file.read_text() == "old"

import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np

from inspectd.config import load_recipe
from inspectd.engine.bundle import Bundle
from tools.calibrate import LEVELS, ScoredPart, choose_limits, recipe_text

BUNDLE = cast(Bundle, SimpleNamespace(manifest=SimpleNamespace(classes=["pitting"], stride=4)))


def part(score: int, side_cells: int, defective: bool) -> ScoredPart:
    """A part whose scores are zero but for one square of `score`."""
    scores = np.zeros((1, 96, 128), np.uint8)
    scores[0, 10 : 10 + side_cells, 20 : 20 + side_cells] = score
    return ScoredPart(scores, scores.max((1, 2)), frozenset({0}) if defective else frozenset())


def test_separable_parts_are_separated_with_margin() -> None:
    parts = [part(60, 3, False), part(250, 1, False), part(200, 4, True), part(240, 6, True)]
    best, others = choose_limits(parts, BUNDLE, 0)
    assert (best.escapes, best.escapes_at_margin, best.clean_ejected) == (0, 0, 0)
    assert 1.25 * best.limits.min_area_px <= 16 * 16 * 200 / 255
    assert [(c.escapes, c.clean_ejected) for c in others] == [(0, 0)]


def test_no_escape_comes_before_few_ejected() -> None:
    parts = [part(30, 2, True), *[part(120, 3, False)] * 5]
    best, others = choose_limits(parts, BUNDLE, 0)
    assert (best.escapes, best.clean_ejected) == (0, 5)
    assert [(c.escapes, c.clean_ejected) for c in others] == [(0, 5), (1, 0)]


def test_recipe_is_read_as_it_was_chosen(tmp_path: Path) -> None:
    best, _ = choose_limits([part(200, 4, True), part(60, 2, False)], BUNDLE, 0)
    (tmp_path / "recipe.toml").write_text(recipe_text({"pitting": best.limits}))
    limits = load_recipe(tmp_path / "recipe.toml").recipe.limits["pitting"]
    assert limits == best.limits
    assert math.ceil(limits.suspect * 255 - 1e-9) in LEVELS

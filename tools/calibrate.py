"""Chooses a recipe's thresholds on parts of the dev split, with the daemon's own engine and region code.

First no defective part may pass (escape), then as few clean parts as possible may be ejected, then the lower
thresholds win. Margin: escapes count with `suspect` and `min_area_px` a quarter above what the recipe gets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspectd.config import Limits, Recipe, View
from inspectd.engine.bundle import Bundle
from inspectd.engine.openvino import Segmenter
from inspectd.extract.plan import Plan, make_plan
from inspectd.extract.regions import extract_regions
from tools.dataset import DONT_CARE, Sample
from tools.demo_parts import HEIGHT_PX, WIDTH_PX, crop, find_parts

MARGIN = 1.25
LEVELS = (13, 16, 20, 25, 31, 39, 49, 61, 76, 95, 119, 149, 186, 232)
"""Scores of 255 tried as `suspect`, each a quarter above the one before; the last serves as margin only. None
below 5 %: a pit that the network gives less it does not see, and ejecting its part would be chance."""
AREAS_PX = (0.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0)
CLEAN_FAILS_ALLOWED = 0.02
HIGHEST_REJECT = 250
"""Of 255; above it the rounding of the engine's arithmetic would decide between a defect and a doubt."""
DEADLINE_MS = 250
CLEAN_PER_PICTURE, DEFECTIVE_PER_PICTURE = 3, 2
SEED = 7
PART_RECT = (0, 0, WIDTH_PX, HEIGHT_PX)

Image = NDArray[np.uint8]
Regions = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredPart:
    """Scores uint8 [K, h, w] and peaks uint8 [K] of a part, and the indices of the classes it shows."""

    scores: Image
    peak: Image
    shows: frozenset[int]


@dataclass(frozen=True)
class Choice:
    """Limits for a class and what they do on the dev parts, in numbers of parts."""

    limits: Limits
    escapes: int
    escapes_at_margin: int
    clean_ejected: int


def scored_parts(samples: list[Sample], segmenter: Segmenter) -> list[ScoredPart]:
    """Cuts parts by the rule of the demo parts, several per picture, and runs the bundle's network on them."""
    rng = np.random.default_rng(SEED)
    found = []
    for index, sample in enumerate(samples):
        for part in find_parts(sample.mask, index, CLEAN_PER_PICTURE, DEFECTIVE_PER_PICTURE, rng):
            x, y, w, h = part.box
            shown = set(np.unique(sample.mask[y : y + h, x : x + w]).tolist()) - {0, DONT_CARE}
            scores, peak = segmenter.segment(crop(sample, part))
            found.append(ScoredPart(scores, peak, frozenset(k - 1 for k in shown)))
    return found


def choose_limits(parts: list[ScoredPart], bundle: Bundle, k: int) -> tuple[Choice, list[Choice]]:
    """The limits of class `k`, and what else there is to choose: for each number of escapes the fewest ejected.

    Parts that show other defects only have no say.
    """
    clean = [_regions_by_level(part, bundle, k) for part in parts if not part.shows]
    bad = [_regions_by_level(part, bundle, k) for part in parts if k in part.shows]
    choices = [_choice(clean, bad, step, area) for step in range(len(LEVELS) - 1) for area in AREAS_PX]
    best = min(choices, key=lambda c: (c.escapes_at_margin, c.clean_ejected, c.limits.suspect))
    others: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (c.escapes, c.clean_ejected, c.escapes_at_margin)):
        if not others or choice.clean_ejected < others[-1].clean_ejected:
            others.append(choice)
    return best, others


def _choice(clean: list[list[Regions]], bad: list[list[Regions]], step: int, area: float) -> Choice:
    """What the dev parts say to one pair of thresholds; `reject` spares all but a few clean parts a FAIL."""
    peaks = sorted((_highest(part[step], area) for part in clean), reverse=True)
    spared = int(CLEAN_FAILS_ALLOWED * len(peaks))
    highest_spared = peaks[spared] if peaks else 0
    reject = max(LEVELS[step], min(highest_spared + 1, HIGHEST_REJECT))
    return Choice(
        Limits(suspect=_as_score(LEVELS[step]), reject=_as_score(reject), min_area_px=area),
        escapes=sum(_highest(part[step], area) == 0 for part in bad),
        escapes_at_margin=sum(_highest(part[step + 1], MARGIN * area) == 0 for part in bad),
        clean_ejected=sum(peak > 0 for peak in peaks),
    )


def _highest(regions: Regions, area_px: float) -> int:
    """The highest score, 0..255, in any region of at least `area_px`; 0 if there is none."""
    return int(regions[regions[:, 0] >= area_px, 1].max(initial=0))


def _regions_by_level(part: ScoredPart, bundle: Bundle, k: int) -> list[Regions]:
    """Per level, area (px) and highest score (0..255) of each region of class `k`, [n, 2]."""
    found = []
    for level in LEVELS:
        plan = _plan_at(level, bundle.manifest.classes[k], bundle.manifest.stride)
        regions = extract_regions(part.scores[k : k + 1], part.peak[k : k + 1], plan).regions
        found.append(np.array([(r.area_px, round(255 * r.score)) for r in regions]).reshape(-1, 2))
    return found


def _plan_at(level: int, name: str, stride: int) -> Plan:
    limits = Limits(suspect=_as_score(level), reject=1.0)
    recipe = Recipe(model=".", deadline_ms=DEADLINE_MS, limits={name: limits}, max_regions=1024)
    return make_plan(recipe, View(), PART_RECT, [name], stride)


def _as_score(level: int) -> float:
    """A score of three decimals that exactly the levels from `level` (1..255) on reach."""
    return math.floor(1000 * level / 255) / 1000


def recipe_text(limits: dict[str, Limits]) -> str:
    """A recipe.toml for the bundle, with a comment on each key for the engineer at the line."""
    lines = [
        "# Recipe chosen on the dev pictures by `inspectd-train evaluate`. Scores run from 0 to 1.",
        "# A part without a region that counts passes; report.md says how often that was right.",
        'model = "."              # the bundle\'s folder, relative to this file',
        f"deadline_ms = {DEADLINE_MS}        # the result is due this long after the trigger",
        "",
        "[image]",
        "refuse_identical = true  # a picture equal to the last one: a frozen camera, nobody saw the part",
    ]
    for name, chosen in limits.items():
        lines += [
            "",
            f"[limits.{name}]",
            f"suspect = {chosen.suspect:<10g}     # cells from here on form regions; lower finds and ejects more",
            f"reject = {chosen.reject:<10g}      # a region that reaches it is a defect, a lower one a doubt",
            f"min_area_px = {chosen.min_area_px:<10.1f} # smaller regions (area weighted by score) do not count",
        ]
    return "\n".join(lines) + "\n"

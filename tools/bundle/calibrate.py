"""Chooses a recipe's thresholds on the parts of the dev split, for a stated wish of escapes and overkill.

`suspect` and `min_area_px` come from `inspectd_train.bundle.search`; `reject` then spares all but a few clean
parts a FAIL. The figures are counted by the daemon's own region and judging code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.runtime.errors import UserError
from inspectd.settings.recipe import Limits, load_recipe
from inspectd_train.bundle.parity import distrust
from inspectd_train.bundle.proof import record_proof, why_unproven
from inspectd_train.bundle.recipe import recipe_text
from inspectd_train.bundle.search import (
    AREAS_PX,
    LEVELS,
    STABLE_SHARE,
    Bools,
    Complaints,
    Outcome,
    Wish,
    complaints_of,
    highest_at,
    search,
)
from inspectd_train.bundle.trained import trained_passes
from inspectd_train.data.dataset import DONT_CARE, DataSet, Sample, pictures
from inspectd_train.data.parts import SizePx, parts_of, shown
from inspectd_train.files import write_text
from inspectd_train.measure import metrics
from inspectd_train.measure.froc import Froc
from inspectd_train.measure.limits import as_score, limits_as_dict
from inspectd_train.measure.scores import U8, Score, check_classes, open_engine
from inspectd_train.measure.verdicts import NOISE, Figures, ScoredPart, part_counts, stable_share, verdict

CLEAN_FAILS_ALLOWED = 0.02
HIGHEST_REJECT = 250
"""The highest `reject`, of 255; above it the rounding of the engine would decide between defect and doubt."""
NO_CLASS_LEVEL = 128
Threshold = tuple[int, float]
"""A pair of `suspect`, 1..255, and `min_area_px`."""
FALSE_REGIONS = 0.2
"""The most false regions per picture where no dev part is clean, and so nobody could keep to a share of those."""
OFFERED = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
"""Wishes of overkill that the report's table of alternatives answers."""


def calibrate(bundle_dir: Path, data: DataSet, part_px: SizePx | None, wish: Wish, threads: int) -> Figures:
    """Writes recipe.toml, and training/calibration.json with the figures, which it returns.

    A recipe that is there keeps all but its thresholds. INT8 is then unproven until `measure_parity` of
    `inspectd_train.bundle.parity` has seen it. UserError, ConfigError.
    """
    bundle, recipe_file = load_bundle(bundle_dir), bundle_dir / "recipe.toml"
    check_classes(bundle, data)
    if recipe_file.is_file():
        load_recipe(recipe_file)
    engine = open_engine(bundle, threads, "float")

    def scored(wish: Wish) -> tuple[list[ScoredPart], Froc]:
        return _scored(engine.score, pictures(data, "dev", bundle.manifest.channels), part_px, bundle, wish)

    parts, froc = scored(wish)
    if not parts:
        raise UserError(f"{data.folder}: no part of {part_px} px fits into a dev picture; ask for smaller parts")
    if wish.max_false_regions is None and all(part.shows for part in parts):
        wish = Wish(max_false_regions=FALSE_REGIONS)  # anything ejects such a part: its verdict shows nothing
        parts, froc = scored(wish)
    limits, figures = choose(parts, bundle, wish, froc)
    old = recipe_file.read_text("utf-8") if recipe_file.is_file() else ""
    distrust(bundle_dir, "the recipe was chosen anew, and INT8 not proven under it")
    write_text(recipe_file, recipe_text(limits, _wish_in_words(wish), old))
    figures |= {"engine": engine.description, "part_px": part_px, "split_file": data.split_file}
    figures["unproven"] = why_unproven(figures, trained_passes(bundle_dir))
    record_proof(bundle_dir, figures["unproven"])
    (bundle_dir / "training").mkdir(exist_ok=True)
    write_text(bundle_dir / "training/calibration.json", json.dumps(figures, indent=1) + "\n")
    return figures


def _scored(
    score: Score, samples: Iterator[Sample], part_px: SizePx | None, bundle: Bundle, wish: Wish
) -> tuple[list[ScoredPart], Froc]:
    """Scores all parts; where the wish asks for them, the defects of whole pictures are counted too."""
    parts: list[ScoredPart] = []
    froc = Froc(tuple(bundle.manifest.classes), bundle.manifest.stride)
    for picture, crops in parts_of(samples, part_px):
        for part in crops:
            shape = part.mask.shape[0], part.mask.shape[1]
            parts.append(ScoredPart(part.name, *score(part.image), shape, shown(part)))
        if wish.max_false_regions is not None:
            whole = (parts[-1].scores, parts[-1].peak) if crops == [picture] else score(picture.image)
            froc.add(*whole, picture.mask)
    return parts, froc


def choose(parts: list[ScoredPart], bundle: Bundle, wish: Wish, froc: Froc) -> tuple[dict[str, Limits], Figures]:
    """Chooses the limits per class for the wish; returns them and the figures of the dev parts under them."""
    classes, stride = tuple(bundle.manifest.classes), bundle.manifest.stride
    complaints = complaints_of(parts, len(classes), stride)
    thresholds, notes = _thresholds(complaints, wish, froc)
    limits = _limits(thresholds, complaints, parts, classes, stride)
    verdicts = [verdict(part, limits, classes, stride) for part in parts]
    offered = [search(complaints, Wish(max_overkill=most)) for most in OFFERED] if complaints.clean.any() else []
    figures = part_counts([bool(p.shows) for p in parts], verdicts) | {
        "wish": wish._asdict(),
        "regions": froc.at(*thresholds[0]) if wish.max_false_regions is not None else None,
        "limits": {name: limits_as_dict(own) for name, own in limits.items()},
        "stable_share": stable_share(parts, limits, classes, stride),
        "alternatives": [_offer(o, complaints, classes) for o in _distinct(offered)],
    }
    if figures["stable_share"] < STABLE_SHARE:
        notes.append(
            f"scores {NOISE}/255 higher or lower would change the verdict of "
            f"{100 * (1 - figures['stable_share']):.1f} % of the dev parts: they lie densely around the thresholds"
        )
    return limits, figures | {"notes": notes + _unmet(figures, wish)}


def _thresholds(complaints: Complaints, wish: Wish, froc: Froc) -> tuple[list[Threshold], list[str]]:
    """Chooses `suspect` (1..255) and `min_area_px` per class; returns them and notes on how they were found."""
    notes = []
    if not complaints.bad.any():
        notes.append("no dev part shows a defect: escapes can't be known; add defective pictures to dev")
    if not complaints.clean.any():
        notes.append(
            "no dev part is clean, so escapes and overkill can't be known, and the thresholds are chosen by "
            "regions; add good parts to dev, or give the size of a part (--part WxH) if pictures are larger"
        )
    if wish.max_false_regions is not None:
        found = froc.best(wish.max_false_regions)
        if found is None:
            found = froc.strictest()
            notes.append(
                f"not even {found[0]}/255 and {found[1]:g} px keep to {wish.max_false_regions:g} false regions"
            )
        return [found] * len(complaints.by_class), notes
    return [(LEVELS[level], AREAS_PX[area]) for level, area in search(complaints, wish).settings], notes


def _limits(
    thresholds: list[Threshold],
    complaints: Complaints,
    parts: list[ScoredPart],
    classes: tuple[str, ...],
    stride: int,
) -> dict[str, Limits]:
    limits = {}
    for k, (name, (suspect, area_px)) in enumerate(zip(classes, thresholds, strict=True)):
        peaks = np.array([highest_at(part.scores[k], suspect, area_px, stride) for part in parts])
        reject = choose_reject(peaks, complaints.bad, suspect, len(classes))
        limits[name] = Limits(suspect=as_score(suspect), reject=as_score(reject), min_area_px=area_px)
    return limits


def choose_reject(peaks: NDArray[np.int64], bad: Bools, suspect: int, classes: int) -> int:
    """Chooses the level that parts a defect from a doubt, by each part's highest score (0 = no complaint).

    Few parts' scores shall lie near it, few clean parts FAIL, and few defective ones stay in doubt: in this
    order, for a part of either kind is ejected all the same, but a verdict that rounding turns is unsound.
    """
    spared = int(CLEAN_FAILS_ALLOWED * int((~bad).sum()) / classes)
    ejected = peaks >= suspect

    def cost(level: int) -> float:
        near = ejected & (np.abs(peaks - level + 0.5) < NOISE)
        failed_clean = max(int((peaks >= level)[~bad].sum()) - spared, 0)
        return float(near.sum() + 0.5 * failed_clean + 0.1 * (ejected & bad & (peaks < level)).sum())

    return min(range(suspect, max(suspect, HIGHEST_REJECT) + 1), key=cost)


def choose_mask_levels(scored: Iterable[tuple[U8, U8]], classes: int, stride: int) -> list[int]:
    """Chooses per class the score, 1..255, with the best IoU against all else at full resolution.

    `scored`: scores uint8 [K, h, w] and mask uint8 [H, W] of each dev picture. A class that no mask shows gets
    128.
    """
    totals = [metrics.empty() for _ in range(classes)]
    for scores, mask in scored:
        fine = metrics.full_resolution(scores, stride, (mask.shape[0], mask.shape[1]))
        for k, of_class in enumerate(fine):
            totals[k] += metrics.histogram(of_class, mask == k + 1, mask != DONT_CARE)
    return [metrics.best_f1_level(t) if t[1].any() else NO_CLASS_LEVEL for t in totals]


def _wish_in_words(wish: Wish) -> str:
    """The wish as the head of recipe.toml says it."""
    if wish.max_false_regions is not None:
        return f"at most {wish.max_false_regions:g} false regions per picture, then the fewest missed defects"
    if wish.max_escape is not None:
        return f"at most {100 * wish.max_escape:g} % escapes, then the least overkill"
    most = 0.05 if wish.max_overkill is None else wish.max_overkill
    return f"at most {100 * most:g} % overkill, then the fewest escapes"


def _unmet(figures: Figures, wish: Wish) -> list[str]:
    """A note if the dev parts do not allow what is wished."""
    if wish.max_false_regions is not None:
        return []
    name, most = ("escape", wish.max_escape) if wish.max_escape is not None else ("overkill", wish.max_overkill)
    rate = figures[f"{name}_rate"]
    if rate is None or most is None or rate <= most + 1e-9:
        return []
    return [
        f"the wish of at most {100 * most:g} % {name} can't be met on dev: {100 * rate:.1f} % is the least found"
    ]


def _distinct(outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes that no other beats in both escapes and overkill, by overkill."""
    kept: list[Outcome] = []
    for found in sorted(outcomes, key=lambda o: (o.overkill, o.escapes)):
        if not kept or found.escapes < kept[-1].escapes:
            kept.append(found)
    return kept


def _offer(found: Outcome, complaints: Complaints, classes: tuple[str, ...]) -> Figures:
    """One row of the report's table of alternatives."""
    pairs = zip(classes, found.settings, strict=True)
    return {
        "escapes": found.escapes,
        "overkill": found.overkill,
        "unstable": found.unstable,
        "escape_rate": found.escapes / int(complaints.bad.sum()) if complaints.bad.any() else None,
        "overkill_rate": found.overkill / int(complaints.clean.sum()),
        "limits": {n: {"suspect": as_score(LEVELS[k]), "min_area_px": AREAS_PX[a]} for n, (k, a) in pairs},
    }

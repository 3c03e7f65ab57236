"""Matches labelled defects with found regions: found, missed, false; by class, by size, by width.

A defect is an 8-connected component of one class in the mask. It is found when a cell of a region that counts
holds one of its pixels, whatever class the region has: the part is ejected either way. A region is false when
its cells hold neither a defect's pixel nor one that nobody cares about.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.extract.plan import Plan
from inspectd.judge.inspect import counted_regions
from inspectd.runtime.frame import Region
from inspectd_train.data.dataset import DONT_CARE

U8 = NDArray[np.uint8]
SIZES_PX = (8, 16, 32, 64)
"""The bounds of the bins of size, which is the square root of the area."""
WIDTHS_PX = (2, 4, 8, 16)
"""The bounds of the bins of width, as `width_px` measures it."""


@dataclass(frozen=True)
class Defect:
    """A labelled defect: its class, size and width in px, box x, y, w, h, and what was found of it.

    `named`: a region of its class touches it. `found_area_px`, `largest_px`: area of all regions that touch it,
    and of the largest of them; 0 if it was missed.
    """

    class_: str
    area_px: int
    width_px: float
    box: tuple[int, int, int, int]
    found: bool
    named: bool
    found_area_px: float
    largest_px: float


@dataclass(frozen=True)
class Match:
    """The defects of one picture, and the regions that touch none.

    `truncated`: there were more regions than the recipe allows, and the rest is not seen.
    """

    defects: tuple[Defect, ...]
    false: tuple[Region, ...]
    truncated: bool = False


def match(scores: U8, peak: U8, mask: U8, plan: Plan) -> Match:
    """Matches one picture: scores uint8 [K, h, w], mask uint8 [H, W]; a region counts from `min_area_px` on."""
    regions, truncated = counted_regions(scores, peak, plan)
    labels, kinds = _labelled(mask, len(plan.classes))
    touched = [_touched(r, scores, labels, plan) for r in regions]
    by_defect: dict[int, list[Region]] = defaultdict(list)
    for region, under in zip(regions, touched, strict=True):
        for label in under - {-1}:
            by_defect[label].append(region)
    defects = [_describe(labels, n, plan.classes[k], by_defect[n]) for n, k in kinds.items()]
    false = tuple(r for r, under in zip(regions, touched, strict=True) if not under)
    return Match(tuple(defects), false, truncated)


def summary(matches: list[Match]) -> dict[str, Any]:
    """Counts all pictures: in all, by class, by size and by width; None where there is nothing to divide."""
    defects = [d for m in matches for d in m.defects]
    false = [r for m in matches for r in m.false]
    classes = sorted({d.class_ for d in defects} | {r.class_ for r in false})
    by_class = {
        c: _counts([d for d in defects if d.class_ == c]) | {"false": sum(r.class_ == c for r in false)}
        for c in classes
    }
    return _counts(defects) | {
        "false": len(false),
        "false_regions_per_picture": len(false) / len(matches) if matches else None,
        "by_class": by_class,
        "by_size": _by_bin(defects, [d.area_px**0.5 for d in defects], SIZES_PX),
        "by_width": _by_bin(defects, [d.width_px for d in defects], WIDTHS_PX),
    }


def _counts(defects: list[Defect]) -> dict[str, Any]:
    found = [d for d in defects if d.found]
    ratios = sorted(d.found_area_px / d.area_px for d in found)
    return {
        "defects": len(defects),
        "found": len(found),
        "missed": len(defects) - len(found),
        "named": sum(d.named for d in found),
        "recall": len(found) / len(defects) if defects else None,
        "area_ratio": ratios[len(ratios) // 2] if ratios else None,
    }


def _by_bin(defects: list[Defect], values: list[float], bounds: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    names = [f"< {bounds[0]} px", *(f"{a}-{b} px" for a, b in pairwise(bounds))]
    names.append(f">= {bounds[-1]} px")
    bins = np.digitize(values, bounds).tolist()
    return {
        name: _counts([d for d, place in zip(defects, bins, strict=True) if place == n])
        for n, name in enumerate(names)
    }


def _labelled(mask: U8, classes: int) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Numbers the defects per pixel (0 = none, -1 = don't care), and finds each number's class index, from 0."""
    labels = np.zeros(mask.shape, np.int32)
    labels[mask == DONT_CARE] = -1
    kinds: dict[int, int] = {}
    for k in range(classes):
        of_class = mask == k + 1
        if not of_class.any():
            continue
        count, found = cv2.connectedComponents(of_class.astype(np.uint8), connectivity=8)
        labels[of_class] = np.asarray(found)[of_class] + len(kinds)
        kinds |= dict.fromkeys(range(len(kinds) + 1, len(kinds) + count), k)
    return labels, kinds


def _touched(region: Region, scores: U8, labels: NDArray[np.int32], plan: Plan) -> set[int]:
    """Finds the numbers of the defects (-1: don't care) under the region's cells."""
    k, stride = plan.classes.index(region.class_), plan.stride
    x, y, w, h = region.bbox
    left, top = x - plan.rect[0], y - plan.rect[1]
    x0, y0, x1, y1 = left // stride, top // stride, -(-(left + w) // stride), -(-(top + h) // stride)
    cells = (scores[k, y0:y1, x0:x1] > plan.floor[k, y0:y1, x0:x1]).astype(np.uint8)
    _, components = cv2.connectedComponents(cells, connectivity=8)
    # the box may hold cells of other regions; the outline's first point names the own component
    px, py = region.contour[0]
    own = np.asarray(components)[(py - plan.rect[1]) // stride - y0, (px - plan.rect[0]) // stride - x0]
    fine = (np.asarray(components) == own).repeat(stride, 0).repeat(stride, 1)[:h, :w]
    return set(np.unique(labels[top : top + h, left : left + w][fine]).tolist()) - {0}


def width_px(defect: NDArray[np.bool_]) -> float:
    """The width of a defect's mask [H, W]: the diameter of the largest circle inside, as a line's width is."""
    # in pixels of half the size every width is even, and half of it the distance to the nearest one outside
    halves = np.pad(defect.astype(np.uint8).repeat(2, 0).repeat(2, 1), 1)
    return float(cv2.distanceTransform(halves, cv2.DIST_L2, 5).max())


def _describe(labels: NDArray[np.int32], number: int, class_: str, regions: list[Region]) -> Defect:
    own = labels == number
    x, y, w, h = cv2.boundingRect(own.astype(np.uint8))
    return Defect(
        class_,
        int(own.sum()),
        width_px(own[y : y + h, x : x + w]),
        (x, y, w, h),
        bool(regions),
        any(r.class_ == class_ for r in regions),
        sum(r.area_px for r in regions),
        max((r.area_px for r in regions), default=0.0),
    )

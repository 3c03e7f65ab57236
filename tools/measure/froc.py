"""Counts defects found against false regions, for thresholds that are the same for every class."""

from __future__ import annotations

from typing import Any

import numpy as np

from inspectd.extract.plan import make_plan
from inspectd.settings.recipe import Limits, Recipe, View
from inspectd_train.measure import defects
from inspectd_train.measure.limits import DEADLINE_MS, as_score
from inspectd_train.measure.scores import U8

LEVELS = (13, 26, 51, 77, 102, 128, 153, 179, 204, 230, 242, 250)
"""The `suspect` tried, of 255."""
AREAS_PX = (0.0, 8.0, 16.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0)
"""The `min_area_px` tried."""
MOST_REGIONS = 1024


class Froc:
    """The free-response ROC, as radiologists call it: defects found and false regions at many thresholds."""

    def __init__(self, classes: tuple[str, ...], stride: int) -> None:
        self.classes, self.stride = classes, stride
        self.pictures = self.defects = 0
        self.found = np.zeros((len(LEVELS), len(AREAS_PX)), int)
        self.false = np.zeros_like(self.found)

    def add(self, scores: U8, peak: U8, mask: U8) -> None:
        """Adds one picture: scores uint8 [K, h, w], peaks uint8 [K], mask uint8 [H, W]."""
        rect = (0, 0, mask.shape[1], mask.shape[0])
        areas = np.array(AREAS_PX)
        self.pictures += 1
        for n, level in enumerate(LEVELS):
            limits = dict.fromkeys(self.classes, Limits(suspect=as_score(level), reject=1.0))
            recipe = Recipe(model=".", deadline_ms=DEADLINE_MS, limits=limits, max_regions=MOST_REGIONS)
            match = defects.match(scores, peak, mask, make_plan(recipe, View(), rect, self.classes, self.stride))
            largest = np.array([d.largest_px for d in match.defects if d.found])
            self.found[n] += (largest[:, None] >= areas).sum(0)
            self.false[n] += (np.array([r.area_px for r in match.false])[:, None] >= areas).sum(0)
            self.defects += len(match.defects) if n == 0 else 0
            if not largest.size and not match.false:
                break

    def best(self, most_false: float) -> tuple[int, float] | None:
        """The level and area that find most with so many false regions per picture; of several the middle."""
        allowed = self.false <= most_false * self.pictures + 1e-9
        if not allowed.any():
            return None
        value = np.where(allowed, self.found - self.false / (self.false.max() + 1.0), -1.0)
        best = np.argwhere(value == value.max())
        level, area = best[np.abs(best - best.mean(0)).sum(1).argmin()].tolist()
        return LEVELS[level], AREAS_PX[area]

    def at(self, level: int, area_px: float) -> dict[str, float]:
        """What thresholds that were tried do: `defects` labelled, `found` of them, `false_per_picture`."""
        n, a = LEVELS.index(level), AREAS_PX.index(area_px)
        false = self.false[n, a] / max(self.pictures, 1)
        return {"defects": self.defects, "found": int(self.found[n, a]), "false_per_picture": float(false)}

    def strictest(self) -> tuple[int, float]:
        """The highest thresholds tried."""
        return LEVELS[-1], AREAS_PX[-1]

    def front(self) -> list[dict[str, Any]]:
        """The points that no other beats in recall and false regions, by the latter; empty without a defect."""
        points = [
            (self.false[n, a] / self.pictures, -self.found[n, a] / self.defects, as_score(level), area)
            for n, level in enumerate(LEVELS)
            for a, area in enumerate(AREAS_PX)
            if self.defects
        ]
        kept: list[dict[str, Any]] = []
        for false, missed, suspect, area in sorted(points):
            if not kept or -missed > kept[-1]["defect_recall"]:
                point = {"suspect": suspect, "min_area_px": area, "defect_recall": abs(float(missed))}
                kept.append(point | {"false_regions_per_picture": float(false)})
        return kept

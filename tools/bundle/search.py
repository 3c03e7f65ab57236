"""Searches the thresholds of all classes together: a part passes only when no class complains.

From several starts, one class after the other gets the pair (`suspect`, `min_area_px`) that serves the wish best
while the others stay, until nothing changes. Among equals the widest margin wins: the middle of the settings
under which no part's fate differs. Parts whose fate a change of all scores by `NOISE` would turn count against
a choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd_train.measure.scores import U8
from inspectd_train.measure.verdicts import NOISE, ScoredPart

LEVELS = (*range(8, 253, NOISE), 255)
"""Scores tried as `suspect`, all but the first and the last, which serve as neighbours only.

None is below 5 %: what the network gives less it does not see, and ejecting its part would be chance.
"""
AREAS_PX = (0.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0)
AREA_STEPS = 3
"""A step of AREAS_PX is as good a margin as so many steps of LEVELS."""
STABLE_SHARE = 0.995
ROUNDS = 6

Bools = NDArray[np.bool_]
Setting = tuple[int, int]
"""A pair of indices, into LEVELS and into AREAS_PX."""


class Wish(NamedTuple):
    """What the line allows; the other figure is made as low as the parts let it be. The last field set decides."""

    max_overkill: float | None = 0.05
    """The most overkill, as a share of the clean parts."""
    max_escape: float | None = None
    """The most escapes, as a share of the defective parts."""
    max_false_regions: float | None = None
    """The most regions beside any defect, per picture; all classes then get one pair of thresholds."""


class Complaints(NamedTuple):
    """Whether each setting ejects each part, per class [P, levels, areas]; and which of the P parts are bad."""

    by_class: list[Bools]
    bad: Bools

    @property
    def clean(self) -> Bools:
        """The parts without a defect."""
        return ~self.bad


class Outcome(NamedTuple):
    """Settings per class and what they do to the dev parts, in numbers of parts."""

    settings: tuple[Setting, ...]
    escapes: int
    overkill: int
    unstable: int


def search(complaints: Complaints, wish: Wish) -> Outcome:
    """Finds the best settings from several starts, each moved to the middle of its margin."""
    last = len(LEVELS) - 2
    starts = [((level, 0),) * len(complaints.by_class) for level in range(1, last + 1, last // 8)]
    ends = {_descend(complaints, wish, list(start)) for start in starts}
    best = min(ends, key=lambda o: (*_badness(o, complaints, wish), o.settings))
    return _centred(complaints, best)


def _descend(complaints: Complaints, wish: Wish, settings: list[Setting]) -> Outcome:
    """Improves one class after the other until nothing changes."""
    for _ in range(ROUNDS):
        before = list(settings)
        for k in range(len(settings)):
            settings[k] = _best_of_class(complaints, wish, settings, k)
        if settings == before:
            break
    return outcome(complaints, tuple(settings))


def _best_of_class(complaints: Complaints, wish: Wish, settings: list[Setting], k: int) -> Setting:
    """Finds the best setting of class `k` while the others stay; what is in use wins among equals."""
    grids = []
    for step in (-1, 0, 1):
        others = _ejected(complaints, settings, step, without=k)
        own = complaints.by_class[k][:, 1 + step : len(LEVELS) - 1 + step]
        grids.append(others[:, None, None] | own)
    escapes = (~grids[1][complaints.bad]).sum(0)
    overkill = grids[1][complaints.clean].sum(0)
    unstable = (grids[0] != grids[2]).sum(0)
    first, second = _keys(escapes, overkill, unstable, complaints, wish)
    used = np.ones(escapes.shape)
    used[settings[k][0] - 1, settings[k][1]] = 0
    order = np.lexsort((used.ravel(), second.ravel(), first.ravel()))
    level, area = np.unravel_index(int(order[0]), escapes.shape)
    return int(level) + 1, int(area)


def _keys(escapes: Any, overkill: Any, unstable: Any, complaints: Complaints, wish: Wish) -> tuple[Any, Any]:
    """What to minimise, the first before the second; numbers of parts, scalars or arrays.

    First what exceeds the wish; then the other figure and the parts that noise would turn, beyond the few
    allowed, each counting as one misjudged part; the figure within the wish breaks ties by a hair.
    """
    allowed = math.floor((1 - STABLE_SHARE) * len(complaints.bad))
    turned = np.maximum(unstable - allowed, 0)
    if wish.max_escape is not None:
        limit = math.floor(wish.max_escape * int(complaints.bad.sum()) + 1e-9)
        return np.maximum(escapes - limit, 0), overkill + turned + escapes / 1000
    most = 0.05 if wish.max_overkill is None else wish.max_overkill
    limit = math.floor(most * int(complaints.clean.sum()) + 1e-9)
    return np.maximum(overkill - limit, 0), escapes + turned + overkill / 1000


def _badness(found: Outcome, complaints: Complaints, wish: Wish) -> tuple[float, float]:
    """What makes an outcome worse than another, the graver figure first."""
    first, second = _keys(found.escapes, found.overkill, found.unstable, complaints, wish)
    return float(first), float(second)


def outcome(complaints: Complaints, settings: tuple[Setting, ...]) -> Outcome:
    """Counts what the settings do to the parts."""
    low, ejected, high = (_ejected(complaints, settings, step) for step in (-1, 0, 1))
    escapes, overkill = int((~ejected[complaints.bad]).sum()), int(ejected[complaints.clean].sum())
    return Outcome(settings, escapes, overkill, int((low != high).sum()))


def _ejected(complaints: Complaints, settings: Iterable[Setting], step: int, without: int = -1) -> Bools:
    """Which parts are ejected, [P], with every level `step` grid steps higher."""
    found = np.zeros(len(complaints.bad), bool)
    for k, (level, area) in enumerate(settings):
        if k != without:
            found |= complaints.by_class[k][:, level + step, area]
    return found


def _centred(complaints: Complaints, best: Outcome) -> Outcome:
    """Moves each class in turn as far as can be from any setting under which some part's fate differs."""
    settings = list(best.settings)
    for k, (level, area) in enumerate(settings):
        others = _ejected(complaints, settings, 0, without=k)
        fates = others[:, None, None] | complaints.by_class[k]
        settings[k] = _middle((fates == fates[:, level, area][:, None, None]).all(0))
    centred = outcome(complaints, tuple(settings))
    return centred if centred.unstable <= best.unstable else best


def _middle(same: Bools) -> Setting:
    """The setting farthest from where `same` [levels, areas] ends, the lower area and level among equals.

    The lowest area is no end, as there is none lower; the lowest and highest level are, and the highest area.
    """
    wide = np.repeat(same[1:-1], AREA_STEPS, axis=1).astype(np.uint8)
    framed = cv2.copyMakeBorder(wide, 1, 1, 0, 1, cv2.BORDER_CONSTANT, value=(0,))
    distance = cv2.distanceTransform(framed, cv2.DIST_C, 3)[1:-1, AREA_STEPS // 2 :: AREA_STEPS]
    area, level = np.unravel_index(int(np.asarray(distance).T.argmax()), same[1:-1].T.shape)
    return int(level) + 1, int(area)


def complaints_of(parts: list[ScoredPart], classes: int, stride: int) -> Complaints:
    """Tries every setting on every part."""
    by_class = [np.zeros((len(parts), len(LEVELS), len(AREAS_PX)), bool) for _ in range(classes)]
    areas = np.array(AREAS_PX)
    for p, part in enumerate(parts):
        for k in range(classes):
            for n, level in enumerate(LEVELS):
                if level > part.peak[k]:
                    break
                found = areas_at(part.scores[k], level, stride)
                by_class[k][p, n] = (found[:, None] >= areas).any(0)
    return Complaints(by_class, np.array([bool(part.shows) for part in parts]))


def areas_at(scores: U8, level: int, stride: int) -> NDArray[np.float64]:
    """The areas (px, weighted by score) of the regions of one class, as the daemon finds them.

    The daemon's own function describes each region in full, too slow for 60 levels; a test holds them equal.
    """
    return _regions(scores, level, stride)[0]


def highest_at(scores: U8, level: int, area_px: float, stride: int) -> int:
    """The highest score, 0..255, in any region of at least `area_px`; 0 if there is none."""
    areas, labels, values = _regions(scores, level, stride)
    large = np.concatenate([[False], areas >= area_px])
    return int(values[large[labels]].max(initial=0))


def _regions(scores: U8, level: int, stride: int) -> tuple[NDArray[np.float64], NDArray[np.int64], U8]:
    """Finds the areas of regions, and label and score of each cell of the window around them all."""
    mask = cv2.compare(scores, np.full_like(scores, level - 1), cv2.CMP_GT)
    x, y, w, h = cv2.boundingRect(mask)
    if not w:
        return np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    count, found = cv2.connectedComponents(mask[y : y + h, x : x + w], connectivity=8)
    labels, values = np.asarray(found, np.int64).ravel(), scores[y : y + h, x : x + w].ravel()
    areas = stride * stride * np.bincount(labels, values, count)[1:] / 255
    return np.round(areas, 1), labels, values

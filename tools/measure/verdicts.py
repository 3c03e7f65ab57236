"""Judges parts by the daemon's own region and judging code, and counts escapes and overkill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from inspectd.extract.plan import make_plan
from inspectd.judge.inspect import inspect
from inspectd.runtime.frame import Verdict
from inspectd.settings.recipe import Limits, Recipe, View
from inspectd_train.measure import metrics
from inspectd_train.measure.limits import DEADLINE_MS
from inspectd_train.measure.scores import U8

NOISE = 4
"""What the rounding of another engine or precision may change a score by, of 255."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class ScoredPart:
    """A part's scores uint8 [K, h, w] and peaks uint8 [K], its size (H, W), and the classes it shows."""

    name: str
    scores: U8
    peak: U8
    shape: tuple[int, int]
    shows: frozenset[int]


def verdict(part: ScoredPart, limits: dict[str, Limits], classes: tuple[str, ...], stride: int) -> Verdict:
    """Judges a part under the limits by the daemon's own region and judging code."""
    recipe = Recipe(model=".", deadline_ms=DEADLINE_MS, limits=limits)
    plan = make_plan(recipe, View(), (0, 0, part.shape[1], part.shape[0]), classes, stride)
    return inspect(part.scores, part.peak, plan).verdict


def stable_share(
    parts: list[ScoredPart], limits: dict[str, Limits], classes: tuple[str, ...], stride: int
) -> float:
    """The share of parts with the same verdict when all scores are NOISE higher, as they are, or NOISE lower.

    Cells of 0 stay 0 and cells of 255 stay 255: there the softmax is flat, and so is its rounding.
    """
    same = 0
    for part in parts:
        moved = [part]
        for step in (-NOISE, NOISE):
            shifted = np.clip(part.scores.astype(np.int16) + step, 0, 255)
            flat = (part.scores == 0) | (part.scores == 255)
            scores = np.where(flat, part.scores, shifted).astype(np.uint8)
            moved.append(ScoredPart(part.name, scores, scores.max((1, 2)), part.shape, part.shows))
        same += len({verdict(m, limits, classes, stride) for m in moved}) == 1
    return same / len(parts)


def part_counts(bad: list[bool], verdicts: list[Verdict]) -> Figures:
    """Counts parts and their shares. Escape: bad and passed; overkill: good and not passed.

    Where no part is good, the share of escapes is None: what ejects everything would have none.
    """
    pairs = list(zip(bad, verdicts, strict=True))
    clean_of = [v for is_bad, v in pairs if not is_bad]
    bad_of = [v for is_bad, v in pairs if is_bad]
    undecided = sum(v is Verdict.UNKNOWN for v in verdicts)
    escapes, overkill = bad_of.count(Verdict.PASS), len(clean_of) - clean_of.count(Verdict.PASS)
    return {
        "parts": len(pairs),
        "clean": len(clean_of),
        "defective": len(bad_of),
        "escapes": escapes,
        "overkill": overkill,
        "undecided": undecided,
        "undecided_clean": clean_of.count(Verdict.UNKNOWN),
        "undecided_defective": bad_of.count(Verdict.UNKNOWN),
        "escape_rate": escapes / len(bad_of) if bad_of and clean_of else None,
        "overkill_rate": overkill / len(clean_of) if clean_of else None,
        "undecided_rate": undecided / len(pairs) if pairs else None,
        "escape_interval": metrics.wilson(escapes, len(bad_of)) if bad_of and clean_of else None,
        "overkill_interval": metrics.wilson(overkill, len(clean_of)) if clean_of else None,
        "undecided_interval": metrics.wilson(undecided, len(pairs)) if pairs else None,
    }

"""Computes figures from histograms of 8-bit scores: exact, and small enough to add up over any number of images.

None stands for a figure that is not defined: an AUROC without clean parts, the AP of a class never seen.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Histogram = NDArray[np.int64]
"""Counts [2, 256] of each score where there is no defect (row 0) and where there is one (row 1)."""
U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]


def empty() -> Histogram:
    """Makes a histogram without counts, [2, 256]."""
    return np.zeros((2, 256), np.int64)


def histogram(scores: U8, truth: NDArray[np.bool_], care: NDArray[np.bool_]) -> Histogram:
    """Counts each score without a defect (row 0) and with one (row 1), where `care`: [2, 256]."""
    return np.stack(
        [np.bincount(scores[care & ~truth], minlength=256), np.bincount(scores[care & truth], minlength=256)]
    )


def average_precision(counts: Histogram) -> float | None:
    """The area under precision over recall (non-interpolated, as scikit-learn's); None without any defect."""
    hits, calls = _above(counts)
    if hits[-1] == 0:
        return None
    precision = hits / np.maximum(calls, 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / hits[-1])


def auroc(counts: Histogram) -> float | None:
    """The probability that a defect scores above a non-defect, ties half; None if either is missing."""
    clean, defect = counts.astype(np.float64)
    if clean.sum() == 0 or defect.sum() == 0:
        return None
    below = np.cumsum(clean) - clean / 2
    return float(np.sum(defect * below) / (clean.sum() * defect.sum()))


def at_threshold(counts: Histogram, level: int) -> dict[str, float]:
    """The IoU, precision, recall and F1 when scores of `level` (0..255) and more are called defects."""
    hits, false, missed = counts[1, level:].sum(), counts[0, level:].sum(), counts[1, :level].sum()
    return {
        "iou": float(hits / max(hits + false + missed, 1)),
        "precision": float(hits / max(hits + false, 1)),
        "recall": float(hits / max(hits + missed, 1)),
        "f1": float(2 * hits / max(2 * hits + false + missed, 1)),
    }


def best_f1_level(counts: Histogram) -> int:
    """The level (1..255) with the highest F1, which has the highest IoU too."""
    return max(range(1, 256), key=lambda level: at_threshold(counts, level)["f1"])


def escape_at_overkill(counts: Histogram, most_overkill: float) -> float | None:
    """The lowest share of defects below a level that at most `most_overkill` (0..1) of the clean reach.

    It is a point of the ROC that a threshold really reaches, never interpolated; None if either kind is missing.
    """
    points = roc(counts)
    return min((escape for overkill, escape in points if overkill <= most_overkill + 1e-12), default=None)


def roc(counts: Histogram) -> list[tuple[float, float]]:
    """The points of the ROC: share of the clean at or above each level, and share of defects below it.

    They run from nothing called a defect to everything; there are none if either kind is missing.
    """
    clean, defect = counts.sum(axis=1).tolist()
    if clean == 0 or defect == 0:
        return []
    hits, calls = _above(counts)
    points = [((c - h) / clean, 1 - h / defect) for h, c in zip(hits.tolist(), calls.tolist(), strict=True)]
    return _without_repeats([(0.0, 1.0), *points])


def precision_recall(counts: Histogram) -> list[tuple[float, float]]:
    """The points (recall, precision) at each level that calls anything, highest first; none without a defect."""
    hits, calls = _above(counts)
    if hits[-1] == 0:
        return []
    points = [(h / hits[-1], h / c) for h, c in zip(hits.tolist(), calls.tolist(), strict=True) if c > 0]
    return _without_repeats([(float(recall), precision) for recall, precision in points])


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson, J. Am. Stat. Assoc. 22, 1927); (0, 1) of nothing."""
    if total == 0:
        return 0.0, 1.0
    z, p = 1.959964, hits / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def full_resolution(scores: U8, stride: int, shape: tuple[int, int]) -> U8:
    """Enlarges scores [K, h, w] to [K, H, W]: bilinear, cells' centres amid their pixels, cut to the picture."""
    height, width = shape
    size = scores.shape[2] * stride, scores.shape[1] * stride
    fine = [cv2.resize(of_class, size, interpolation=cv2.INTER_LINEAR)[:height, :width] for of_class in scores]
    return np.asarray(np.stack(fine), np.uint8)


def class_map(scores: U8, levels: list[int]) -> U8:
    """Turns scores [K, H, W] into a class per pixel [H, W], 0 = background.

    The class with the highest score / level wins, if its score reaches its level (1..255); ties go to the
    first class.
    """
    shares = scores / np.asarray(levels, np.float32)[:, None, None]
    return np.asarray(np.where(shares.max(0) >= 1, shares.argmax(0) + 1, 0), np.uint8)


def confusion(truth: U8, found: U8, care: NDArray[np.bool_], classes: int) -> I64:
    """Counts pixels [1 + classes, 1 + classes] by true (row) and found class (column), background first."""
    size = 1 + classes
    pairs = truth[care].astype(np.int64) * size + found[care]
    return np.bincount(pairs, minlength=size * size).reshape(size, size).astype(np.int64)


def iou_and_f1(matrix: I64, k: int) -> tuple[float | None, float | None]:
    """The IoU and F1 of class `k` (0 = background); None when it is neither true nor found anywhere."""
    hits = int(matrix[k, k])
    union = int(matrix[k].sum() + matrix[:, k].sum()) - hits
    return (hits / union, 2 * hits / (union + hits)) if union else (None, None)


def mean(values: list[float | None]) -> float | None:
    """The mean of the values that are defined; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _without_repeats(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [point for n, point in enumerate(points) if n == 0 or point != points[n - 1]]


def _above(counts: Histogram) -> tuple[I64, I64]:
    """Counts defects and all samples at or above each level, from 255 down to 0."""
    hits = np.cumsum(counts[1, ::-1])
    return hits, hits + np.cumsum(counts[0, ::-1])

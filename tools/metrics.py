"""Figures from histograms of 8-bit scores: exact, and small enough to add up over any number of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Histogram = NDArray[np.int64]


def histogram(scores: NDArray[np.uint8], truth: NDArray[np.bool_], care: NDArray[np.bool_]) -> Histogram:
    """Counts [2, 256] of each score where there is no defect (row 0) and where there is one (row 1)."""
    return np.stack(
        [np.bincount(scores[care & ~truth], minlength=256), np.bincount(scores[care & truth], minlength=256)]
    )


def average_precision(counts: Histogram) -> float:
    """Area under precision over recall (non-interpolated, as scikit-learn's); 0 without any defect."""
    hits, calls = _above(counts)
    if hits[-1] == 0:
        return 0.0
    precision = hits / np.maximum(calls, 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / hits[-1])


def auroc(counts: Histogram) -> float:
    """Probability that a defect scores above a non-defect, ties half; 0 if either is missing."""
    clean, defect = counts.astype(np.float64)
    if clean.sum() == 0 or defect.sum() == 0:
        return 0.0
    below = np.cumsum(clean) - clean / 2
    return float(np.sum(defect * below) / (clean.sum() * defect.sum()))


def at_threshold(counts: Histogram, level: int) -> dict[str, float]:
    """IoU, precision, recall and F1 when scores of `level` (0..255) and more are called defects."""
    hits, false, missed = counts[1, level:].sum(), counts[0, level:].sum(), counts[1, :level].sum()
    return {
        "iou": float(hits / max(hits + false + missed, 1)),
        "precision": float(hits / max(hits + false, 1)),
        "recall": float(hits / max(hits + missed, 1)),
        "f1": float(2 * hits / max(2 * hits + false + missed, 1)),
    }


def best_f1_level(counts: Histogram) -> int:
    """The level (1..255) with the highest F1."""
    return max(range(1, 256), key=lambda level: at_threshold(counts, level)["f1"])


def _above(counts: Histogram) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Defects and all samples at or above each level, from 255 down to 0."""
    hits = np.cumsum(counts[1, ::-1])
    return hits, hits + np.cumsum(counts[0, ::-1])

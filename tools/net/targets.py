"""Targets: what the network shall say of each cell, out of a mask of pixels."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd_train.data.dataset import DONT_CARE

Target = Literal["coverage", "presence"]
F32 = NDArray[np.float32]
SMALL_PX = 1500.0
MOST_WEIGHT = 4.0


def cell_fractions(mask: NDArray[np.uint8], classes: int, stride: int) -> tuple[F32, F32]:
    """The share of each cell that each defect class covers, [classes, h, w], and the share that is known, [h, w].

    h, w = ceil(H/stride), ceil(W/stride). Both shares are of the whole cell: what lies outside the picture
    is background nobody asks for, as is a don't-care pixel.
    """
    padded = _padded(mask, stride, DONT_CARE)
    h, w = padded.shape[0] // stride, padded.shape[1] // stride
    present = np.bincount(padded.ravel(), minlength=256) > 0
    share = np.zeros((classes, h, w), np.float32)
    for k in range(1, 1 + classes):
        if present[k]:
            share[k - 1] = _mean((padded == k), (w, h))
    return share, _mean(padded != DONT_CARE, (w, h)) if present[DONT_CARE] else np.ones((h, w), np.float32)


def cell_targets(mask: NDArray[np.uint8], classes: int, stride: int, target: Target) -> tuple[F32, F32]:
    """The soft labels [1 + classes, h, w], background first, and how much each cell counts, [h, w].

    `coverage`: the share of the cell that a class covers; a score is then an area, and one-pixel scratches
    stay below 1/stride. `presence`: the classes found in the cell share it, however little they cover;
    a score is then a confidence, and regions come out up to a cell too wide.
    """
    share, care = cell_fractions(mask, classes, stride)
    if target == "presence":
        defect = share.sum(0)
        share = np.where(defect > 0, care * share / np.maximum(defect, 1e-6), 0).astype(np.float32)
    background = care - share.sum(0)
    return np.concatenate([background[None], share]), care


def small_defect_weights(mask: NDArray[np.uint8], stride: int) -> F32:
    """How much more each cell counts in training, [h, w]: 1, in small defects up to 4.

    A missed pit is a missed part however small it is, but the loss counts area: a defect of less than 1500 px
    gets the weight sqrt(1500 / area), so that the small ones are not drowned.
    """
    marked = ((mask > 0) & (mask != DONT_CARE)).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(marked)
    weights = np.ones(count, np.float32)
    weights[1:] = np.clip(np.sqrt(SMALL_PX / stats[1:, cv2.CC_STAT_AREA]), 1.0, MOST_WEIGHT)
    padded = _padded(weights[labels], stride, 1.0)
    inside = [padded[row::stride, column::stride] for row in range(stride) for column in range(stride)]
    return np.asarray(np.maximum.reduce(inside), np.float32)


def _padded(pixels: NDArray[Any], stride: int, outside: float) -> NDArray[Any]:
    """Enlarges pixels [H, W] to whole cells; what lies outside the picture is `outside`."""
    below, right = -pixels.shape[0] % stride, -pixels.shape[1] % stride
    return np.pad(pixels, ((0, below), (0, right)), constant_values=outside) if below or right else pixels


def _mean(truth: NDArray[np.bool_], size: tuple[int, int]) -> F32:
    """The share of true pixels per cell, [h, w]; `size` is (w, h)."""
    return np.asarray(cv2.resize(truth.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)

"""Finds masks whose edges carry other classes: what scaling, rotating or JPEG makes of class indices.

Between background (0) and class 3 a smoothed mask has pixels of 1 and 2, which are classes too. Such pixels lie
between a lower and a higher index, and are too thin to hold a square of 3 x 3.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd_train.data.dataset import DONT_CARE

LEAST_PX, LEAST_SHARE = 6, 0.5
"""From so many pixels on, and from this share of a class's pixels in one mask on, it is no accident."""
SQUARE = np.ones((3, 3), np.uint8)


def blurred(mask: NDArray[np.uint8]) -> dict[int, int]:
    """Counts in a mask, uint8 [H, W], the pixels of each class that stand as between two others; without 255."""
    levels = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))[1:]
    levels = levels[levels != DONT_CARE]
    if len(levels) < 2 or mask.max() == 0:
        return {}
    highest = cv2.dilate(np.where(mask == DONT_CARE, 0, mask).astype(np.uint8), SQUARE)
    lowest = cv2.erode(mask, SQUARE)
    found = {}
    for k in levels[:-1].tolist():
        own = np.asarray(mask == k)
        thin = own & (cv2.morphologyEx(own.astype(np.uint8), cv2.MORPH_OPEN, SQUARE) == 0)
        between = int(np.count_nonzero(thin & (lowest < k) & (highest > k)))
        if between >= LEAST_PX and between >= LEAST_SHARE * np.count_nonzero(own):
            found[k] = between
    return found

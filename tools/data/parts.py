"""Decides what counts as one part: a whole picture, or a crop of fixed size cut out by a fixed rule.

A crop is clean when no labelled pixel lies in it nor within 24 px around it; it is defective when it holds at
least one defect and everything labelled that touches it lies wholly inside. Don't-care without a defect makes
neither: nobody knows what such a part is. Crops are drawn at random places with a fixed seed; nobody picks. What
no outline covers may still be worn, stained or dirty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd_train.data.dataset import DONT_CARE, Sample

CLEAN_PER_PICTURE, DEFECTIVE_PER_PICTURE = 3, 2
MARGIN_PX = 24
TRIES = 400
SEED = 7
Box = tuple[int, int, int, int]
SizePx = tuple[int, int]
"""A pair of width and height."""


@dataclass(frozen=True)
class Crop:
    """A crop: its box (x, y, width, height) in the picture, and the defects' boxes in the crop."""

    box: Box
    defects: tuple[Box, ...]


def as_parts(samples: list[Sample], part_px: SizePx | None) -> list[Sample]:
    """Makes every picture one part, or cuts crops of `part_px` out of each, named `PICTURE@x,y`."""
    return [part for _, parts in parts_of(samples, part_px) for part in parts]


def parts_of(samples: Iterable[Sample], part_px: SizePx | None) -> Iterator[tuple[Sample, list[Sample]]]:
    """Yields each picture with its parts: itself, if anything of it is known, or its crops."""
    rng = np.random.default_rng(SEED)
    for sample in samples:
        if part_px is None:
            yield sample, [sample] if (sample.mask != DONT_CARE).any() else []
            continue
        crops = find_crops(sample.mask, part_px, CLEAN_PER_PICTURE, DEFECTIVE_PER_PICTURE, rng)
        yield sample, [cut(sample, crop) for crop in crops]


def shown(part: Sample) -> frozenset[int]:
    """The defect classes in the part's mask, as indices from 0 without the background."""
    return _classes_in(part.mask)


def _classes_in(mask: NDArray[np.uint8]) -> frozenset[int]:
    return frozenset(k - 1 for k in set(np.unique(mask).tolist()) - {0, DONT_CARE})


def cut(sample: Sample, crop: Crop) -> Sample:
    """Cuts the crop out as a picture of its own."""
    x, y, w, h = crop.box
    image, mask = (np.ascontiguousarray(whole[y : y + h, x : x + w]) for whole in (sample.image, sample.mask))
    return Sample(f"{sample.name}@{x},{y}", image, mask)


def find_crops(
    mask: NDArray[np.uint8], part_px: SizePx, clean: int, defective: int, rng: np.random.Generator
) -> list[Crop]:
    """Finds at most `clean` and `defective` crops of a picture, no two sharing more than half their area."""
    height, width = mask.shape
    wide, high = part_px
    if height < high or width < wide:
        return []
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
    wanted = {True: clean, False: defective}
    found: list[Crop] = []
    for _ in range(TRIES):
        if not any(wanted.values()):
            break
        x, y = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
        crop = _judge_box(np.asarray(labels, np.int32), np.asarray(stats, np.int32), (x, y, wide, high))
        if crop is None or wanted[not crop.defects] == 0:
            continue
        if crop.defects and not _classes_in(mask[y : y + high, x : x + wide]):
            continue
        if all(_shared_area(crop.box, other.box) <= wide * high // 2 for other in found):
            wanted[not crop.defects] -= 1
            found.append(crop)
    return found


def _judge_box(labels: NDArray[np.int32], stats: NDArray[np.int32], box: Box) -> Crop | None:
    """Makes the crop at `box`, or None where the rule forbids one."""
    x, y, w, h = box
    around = labels[max(y - MARGIN_PX, 0) : y + h + MARGIN_PX, max(x - MARGIN_PX, 0) : x + w + MARGIN_PX]
    if not around.any():
        return Crop(box, ())
    inside = np.flatnonzero(np.bincount(labels[y : y + h, x : x + w].ravel()))
    defects = []
    for left, top, wide, high, _ in stats[inside[inside > 0]].tolist():
        if left < x or top < y or left + wide > x + w or top + high > y + h:
            return None
        defects.append((left - x, top - y, wide, high))
    return Crop(box, tuple(defects)) if defects else None


def _shared_area(a: Box, b: Box) -> int:
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(wide, 0) * max(high, 0)

"""Cuts pictures around defects: the golden images of a bundle, and where INT8's ranges are measured."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd_train.data.dataset import DONT_CARE, Sample
from inspectd_train.data.parts import shown

GOLDEN_SIZES_PX = ((256, 192), (251, 187), (256, 192))
"""Width and height of the golden images; one is odd."""
MOST_PICTURES, MOST_SIDE_PX = 48, 512
"""How many cuts INT8's ranges are measured on, and their longest side: what takes some seconds."""
Image = NDArray[np.uint8]


def golden_images(samples: list[Sample], classes: int) -> list[Image]:
    """Cuts three images out of dev pictures around defects, of every class in turn; with too few, anywhere.

    The places are drawn with a fixed seed. A picture smaller than a cut is used whole.
    """
    rng = np.random.default_rng(0)
    of_class = [_centres(samples, k + 1) for k in range(classes)]
    shuffled = [[places[n] for n in rng.permutation(len(places))] for places in of_class]
    longest = max(len(places) for places in shuffled)
    places = [of_one[turn] for turn in range(longest) for of_one in shuffled if turn < len(of_one)]
    while len(places) < len(GOLDEN_SIZES_PX):
        index = int(rng.integers(len(samples)))
        height, width = samples[index].mask.shape
        places.append((index, rng.uniform(0, width), rng.uniform(0, height)))
    return [_cut(samples[n].image, x, y, *size) for (n, x, y), size in zip(places, GOLDEN_SIZES_PX, strict=False)]


def _centres(samples: list[Sample], value: int) -> list[tuple[int, float, float]]:
    """The middle of every defect of mask value `value`: sample index, x, y. Small ones count like large ones."""
    found = []
    for index, sample in enumerate(samples):
        _, _, stats, _ = cv2.connectedComponentsWithStats((sample.mask == value).astype(np.uint8))
        found += [(index, x + w / 2, y + h / 2) for x, y, w, h, _ in stats[1:].tolist()]
    return found


def calibration_cuts(samples: list[Sample]) -> list[Image]:
    """Makes MOST_PICTURES cuts of at most MOST_SIDE_PX, around defects; clean pictures only fill up.

    A defect is rare and what the network answers most strongly to: ranges measured without it would cut it off.
    Pictures are spread evenly, places drawn with a fixed seed.
    """
    rng = np.random.default_rng(0)
    defective = [sample for sample in samples if shown(sample)]
    chosen = _spread(defective, MOST_PICTURES) + _spread(samples, max(MOST_PICTURES - len(defective), 0))
    cuts = []
    for sample in chosen:
        marked = (sample.mask > 0) & (sample.mask != DONT_CARE)
        rows, columns = np.nonzero(marked if marked.any() else ~marked)
        pick = int(rng.integers(len(rows)))
        cuts.append(_cut(sample.image, float(columns[pick]), float(rows[pick]), MOST_SIDE_PX, MOST_SIDE_PX))
    return cuts


def _spread(samples: list[Sample], most: int) -> list[Sample]:
    """Picks at most so many of the samples, evenly."""
    return [samples[n] for n in np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(int))]


def _cut(image: Image, x: float, y: float, width: int, height: int) -> Image:
    """Cuts `width` x `height` pixels around (x, y), moved into the image, or takes all of a smaller one."""
    top, left = (
        max(min(int(at - side / 2), most - side), 0)
        for at, side, most in ((y, height, image.shape[0]), (x, width, image.shape[1]))
    )
    return np.ascontiguousarray(image[top : top + height, left : left + width])

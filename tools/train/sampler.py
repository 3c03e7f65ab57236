"""Draws the crops that the network learns from, step by step.

A batch depends on the seed, the step and the list of hard places alone, so a resumed run sees the batches it
would have seen, and a thread may make them ahead.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd_train.data.dataset import SMALLEST_PX, Sample
from inspectd_train.net.targets import Target, cell_targets, small_defect_weights
from inspectd_train.train.augment import Augmentation, pasted_crop, random_crop

Place = tuple[int, float, float]
"""A place in a picture: index of the sample, x, y."""
AHEAD = 4
PHASES = 16
"""Crops are up to 15 px smaller than asked for, though never below the smallest: how a network pads its strided
convolutions at the lower and the right border depends on the size modulo 16, and a net that knows one remainder
only may see defects in others.
"""
REACH = 0.2
"""How far from a crop's middle its defect may lie, of the side: near a border half of what shows it is cut off.
Farther only where the picture ends.
"""


@dataclass(frozen=True)
class Sampling:
    """How crops are drawn.

    `defect_share` of them lie around a defect, `hard_share` around a place that the net took for one;
    `paste_share` of the crops around no defect get one pasted in.
    """

    seed: int
    batch: int
    crop: Augmentation
    stride: int
    target: Target
    defect_share: float
    hard_share: float
    paste_share: float
    balanced: bool
    """Classes are drawn evenly, and small defects weigh more; otherwise both as they come."""


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    `images` uint8 [B, S, S, C]; `targets` float32 [B, 1 + K, h, w], background first; `weights` float32 [B, h, w],
    0 where nobody knows.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]


def defect_places(samples: list[Sample], classes: int) -> list[list[Place]]:
    """Finds, per class, a pixel amid every defect: small and large count the same."""
    found: list[list[Place]] = [[] for _ in range(classes)]
    for index, sample in enumerate(samples):
        for k in range(classes):
            _, labels, stats, _ = cv2.connectedComponentsWithStats((sample.mask == k + 1).astype(np.uint8))
            for label, (x, y, w, h, _) in enumerate(stats[1:].tolist(), 1):
                rows, columns = np.nonzero(labels[y : y + h, x : x + w] == label)
                pick = len(rows) // 2  # a pixel of it: the middle of a ring's box is not the defect
                found[k].append((index, x + float(columns[pick]), y + float(rows[pick])))
    return found


def batches(
    samples: list[Sample], defects: list[list[Place]], hard: list[Place], how: Sampling, steps: range, rank: int
) -> Generator[Batch, None, None]:
    """Yields the batches of `steps`, made by one thread a few ahead of the one that learns."""
    with ThreadPoolExecutor(1, "sampler") as thread:
        waiting = [thread.submit(make_batch, samples, defects, hard, how, s, rank) for s in steps[:AHEAD]]
        for step in steps:
            if step + AHEAD in steps:
                waiting.append(thread.submit(make_batch, samples, defects, hard, how, step + AHEAD, rank))
            yield waiting.pop(0).result()


def make_batch(
    samples: list[Sample], defects: list[list[Place]], hard: list[Place], how: Sampling, step: int, rank: int
) -> Batch:
    """Draws the batch of a step; it depends on the seed, the step, the rank and the hard places alone."""
    rng = np.random.default_rng([how.seed, step, rank])
    size_px = max(how.crop.size_px - int(rng.integers(PHASES)), SMALLEST_PX)
    how = replace(how, crop=replace(how.crop, size_px=size_px))
    images, targets, weights = [], [], []
    for _ in range(how.batch):
        image, mask = _crop(samples, defects, hard, how, rng)
        target, care = cell_targets(mask, len(defects), how.stride, how.target)
        images.append(image)
        targets.append(target)
        weights.append(care * small_defect_weights(mask, how.stride) if how.balanced else care)
    return Batch(np.stack(images), np.stack(targets), np.stack(weights))


def _crop(
    samples: list[Sample],
    defects: list[list[Place]],
    hard: list[Place],
    how: Sampling,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws a crop around a defect, a place that the net took for one, or anywhere, perhaps with one pasted in."""
    dice, filled = rng.random(), [places for places in defects if places]
    if dice < how.defect_share and filled:
        place = _drawn(filled, how.balanced, rng)
        return random_crop(samples[place[0]], _near(place, how.crop.size_px, rng), how.crop, rng)
    if dice < how.defect_share + how.hard_share and hard:
        place = hard[rng.integers(len(hard))]
        index = place[0]
        centre = _near(place, how.crop.size_px, rng)
    else:
        index = int(rng.integers(len(samples)))
        height, width = samples[index].mask.shape
        centre = rng.uniform(0, width), rng.uniform(0, height)
    if filled and rng.random() < how.paste_share:
        other, x, y = _drawn(filled, True, rng)
        return pasted_crop((samples[index], centre), (samples[other], (x, y)), how.crop, rng)
    return random_crop(samples[index], centre, how.crop, rng)


def _near(place: Place, crop_px: int, rng: np.random.Generator) -> tuple[float, float]:
    """Draws a centre for a crop that has the place not far from its middle."""
    _, x, y = place
    reach = REACH * crop_px
    return x + rng.uniform(-reach, reach), y + rng.uniform(-reach, reach)


def _drawn(places: list[list[Place]], balanced: bool, rng: np.random.Generator) -> Place:
    """Draws a defect: of an evenly drawn class, or of all alike."""
    if not balanced:
        places = [[place for of_class in places for place in of_class]]
    of_class = places[rng.integers(len(places))]
    return of_class[rng.integers(len(of_class))]

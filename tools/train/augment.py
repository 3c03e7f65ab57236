"""Draws random training samples out of pictures: one affine and one table each, sometimes blur or noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd_train.data.dataset import DONT_CARE, Sample

Flip = Literal["both", "sides", "none"]
Image = NDArray[np.uint8]
BLUR_SHARE = NOISE_SHARE = 0.1
UNTURNED_SHARE = 0.5
FEATHER_PX = 3
LARGEST_PASTED = 0.2
"""How large a pasted defect may be: the side of a square of its area, as a share of the crop's side."""


@dataclass(frozen=True)
class Augmentation:
    """How crops are changed at random.

    `size_px` is the side of a crop. `flip` says how parts may lie; `sides`: never upside down. `strength` 1 is
    what the functions below say, 2 twice as much.
    """

    size_px: int
    flip: Flip = "both"
    strength: float = 1.0


def random_crop(
    sample: Sample, centre: tuple[float, float], how: Augmentation, rng: np.random.Generator
) -> tuple[Image, Image]:
    """Draws a warped, recoloured crop around `centre` (x, y): uint8 [size, size, C], mask uint8 [size, size].

    It is moved into the picture, so that a border of the picture is one of the crop: the network shall learn
    what is at borders with nothing beyond, as it will see them. What a turn opens shows the picture mirrored,
    and its mask says don't care.
    """
    image, mask = _warped(sample, centre, how, rng, inside=True)
    return _recoloured(image, how.strength, rng), mask


def pasted_crop(
    clean: tuple[Sample, tuple[float, float]],
    defect: tuple[Sample, tuple[float, float]],
    how: Augmentation,
    rng: np.random.Generator,
) -> tuple[Image, Image]:
    """Draws a crop as `random_crop`, with the defect at the centre of another one laid over it, feathered.

    The defect comes with its surroundings, shifted to the grey level of the place (after Ghiasi et al.,
    "Simple Copy-Paste is a Strong Data Augmentation Method", CVPR 2021, which pastes without the shift). Not a
    large one: its seam would be what is learned.
    """
    image, mask = _warped(*clean, how, rng, inside=True)
    other, other_mask = _warped(*defect, how, rng, inside=False)
    middle = how.size_px // 2
    _, labels = cv2.connectedComponents(((other_mask > 0) & (other_mask != DONT_CARE)).astype(np.uint8))
    near = np.asarray(labels)[middle - 8 : middle + 8, middle - 8 : middle + 8]
    if near.any():
        chosen = (labels == near[near > 0][0]).astype(np.uint8)
        around = cv2.dilate(chosen, np.ones((4 * FEATHER_PX + 1, 4 * FEATHER_PX + 1), np.uint8))
        ring = (around > chosen) & (other_mask == 0)
        if ring.any() and chosen.sum() < (LARGEST_PASTED * how.size_px) ** 2:
            alpha = cv2.GaussianBlur(
                cv2.dilate(chosen, np.ones((2 * FEATHER_PX + 1, 2 * FEATHER_PX + 1), np.uint8)).astype(np.float32),
                (0, 0),
                FEATHER_PX / 2,
            )[:, :, None]
            shift = image[ring].mean(axis=0, dtype=np.float32) - other[ring].mean(axis=0, dtype=np.float32)
            mixed = image + alpha * (other + shift - image)
            image = np.clip(np.round(mixed), 0, 255).astype(np.uint8)
            mask = np.where(chosen > 0, other_mask, mask)
    return _recoloured(image, how.strength, rng), mask


def _warped(
    sample: Sample, centre: tuple[float, float], how: Augmentation, rng: np.random.Generator, inside: bool
) -> tuple[Image, Image]:
    shape = sample.mask.shape if inside else None
    warp, size = _random_warp(shape, centre, how, rng), (how.size_px, how.size_px)
    image = cv2.warpAffine(
        sample.image,
        warp,
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    mask = cv2.warpAffine(
        sample.mask, warp, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=(DONT_CARE,)
    )
    return np.asarray(image, np.uint8).reshape(how.size_px, how.size_px, -1), np.asarray(mask, np.uint8)


def _recoloured(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Gives a crop other tones; sometimes it is out of focus, sometimes noisy."""
    shape = image.shape
    image = np.asarray(cv2.LUT(image, _random_tones(shape[2], strength, rng)), np.uint8).reshape(shape)
    if rng.random() < BLUR_SHARE:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5)), np.uint8)
    if rng.random() < NOISE_SHARE:
        noise = rng.standard_normal(shape, np.float32).reshape(image.shape) * np.float32(rng.uniform(2.0, 8.0))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image.reshape(shape)


def _random_warp(
    shape: tuple[int, ...] | None, centre: tuple[float, float], how: Augmentation, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draws the affine from output to source pixels, 2x3; given the picture's shape, it is moved into the picture.

    Mirrored or not; at strength 1 one half turned by up to 5 degrees, all scaled by 0.9 to 1.11, a little
    differently along both axes.
    """
    angle = np.deg2rad(how.strength * rng.uniform(-5.0, 5.0)) * (rng.random() >= UNTURNED_SHARE)
    scale = np.exp(how.strength * rng.uniform(np.log(0.9), -np.log(0.9)) * (1 + 0.2 * rng.uniform(-1, 1, 2)))
    signs = rng.choice((-1.0, 1.0), 2)
    mirror = np.diag((signs[0] if how.flip != "none" else 1.0, signs[1] if how.flip == "both" else 1.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ mirror @ np.diag(1 / scale)
    middle = np.array(centre)
    if shape:
        middle = _clamped(middle, how.size_px / 2 / scale, np.array(shape[1::-1], np.float64))
    # pixel p covers p to p + 1: the crop's middle is between its pixels, as the picture's is
    offset = middle - 0.5 - linear @ np.full(2, (how.size_px - 1) / 2)
    return np.column_stack([linear, offset])


def _clamped(
    at: NDArray[np.float64], half: NDArray[np.float64], sides: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Moves `at` so that `half` before and behind it lies within 0 to `sides`; what is too long, to the middle."""
    return np.where(sides < 2 * half, sides / 2, np.minimum(np.maximum(at, half), sides - half))


def _random_tones(channels: int, strength: float, rng: np.random.Generator) -> Image:
    """Draws one table [1, 256, channels] for gamma, contrast, brightness and, in colour, a cast."""
    level = np.linspace(0.0, 1.0, 256)[:, None] ** np.exp(strength * rng.uniform(-0.18, 0.18))
    contrast = np.exp(strength * rng.uniform(-0.18, 0.18))
    brightness = strength * rng.uniform(-0.06, 0.06)
    cast = np.exp(strength * rng.uniform(-0.05, 0.05, channels)) if channels > 1 else np.ones(1)
    table = ((level - 0.5) * contrast + 0.5 + brightness) * cast
    return np.asarray(np.clip(np.round(255 * table), 0, 255), np.uint8)[None]

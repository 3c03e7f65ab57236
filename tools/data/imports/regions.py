"""Turns labelled regions into pixels: outlines, runs, and the one mask that several regions make.

Coordinates are in pixels with the first pixel's area from 0 to 1 on both axes, as COCO, LabelMe and CVAT write
them: a pixel belongs to a region when its centre does. A region too thin to hold any centre is its outline.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import BACKGROUND, DONT_CARE

Mask = NDArray[np.uint8]
Inside = NDArray[np.bool_]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class LabelledRegion:
    """One labelled region: its class by name, and which pixels are its own, bool [H, W]."""

    label: str
    inside: Inside


@dataclass(frozen=True)
class Rules:
    """What decides where labels leave something open.

    `dont_care` are labels that mean: learn nothing here, count nothing here.
    """

    unlabelled: Literal["background", "error", "dont-care"] = "background"
    overlap: Literal["error", "later"] = "error"
    missing: Literal["error", "clean", "skip"] = "error"
    """What a picture without any label file counts as."""
    dont_care: frozenset[str] = frozenset({"dont-care"})
    line_px: float | None = None
    """The width of labelled lines; they have none of their own."""


def polygon(points: Points, height: int, width: int) -> Inside:
    """The pixels whose centre lies inside by the even-odd rule, bool [H, W]; the outline's where there is none."""
    flips = np.zeros((height, width + 1), np.int32)
    for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
        if ay == by:
            continue
        low, high = sorted((ay, by))
        rows = np.arange(max(0, math.ceil(low - 0.5)), min(height, math.ceil(high - 0.5)))
        x = ax + (rows + 0.5 - ay) * (bx - ax) / (by - ay)
        flips[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] += 1
    inside = flips.cumsum(axis=1)[:, :width] % 2 == 1
    return np.asarray(inside if inside.any() else _outline(points, height, width))


def rectangle(a: tuple[float, float], b: tuple[float, float], height: int, width: int) -> Inside:
    """The pixels of an upright rectangle between two opposite corners, bool [H, W]."""
    return polygon([a, (b[0], a[1]), b, (a[0], b[1])], height, width)


def circle(centre: tuple[float, float], radius_px: float, height: int, width: int) -> Inside:
    """The pixels whose centre lies within a circle, bool [H, W]."""
    y, x = np.ogrid[:height, :width]
    inside = (x + 0.5 - centre[0]) ** 2 + (y + 0.5 - centre[1]) ** 2 <= radius_px**2
    return np.asarray(inside if inside.any() else _outline([centre], height, width))


def line(points: Points, width_px: float, height: int, width: int) -> Inside:
    """The pixels whose centre lies within half the width of a chain of straight pieces, bool [H, W]."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), bool)
    for (ax, ay), (bx, by) in pairwise(points):
        length2 = max((bx - ax) ** 2 + (by - ay) ** 2, 1e-12)
        along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2, 0, 1)
        inside |= (x - ax - along * (bx - ax)) ** 2 + (y - ay - along * (by - ay)) ** 2 <= (width_px / 2) ** 2
    return inside | _outline(points, height, width, closed=False)


def runs(counts: Sequence[int], height: int, width: int, by_column: bool) -> Inside:
    """Turns run lengths, outside first, into bool [H, W]; ValueError when they don't add up to the picture."""
    if min(counts, default=-1) < 0 or sum(counts) != height * width:
        raise ValueError(f"run lengths add up to {sum(counts)} px, want {height * width}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.asarray(flat.reshape(width, height).T if by_column else flat.reshape(height, width))


def coco_counts(text: str) -> list[int]:
    """Reads COCO's compressed run lengths as numbers; ValueError for a character that can't be in them.

    Five bits a character, least first, 48 added; 32 says that more follow, 16 in the last is the sign. From the
    fourth number on it is the difference to the last but one (cocoapi, common/maskApi.c).
    """
    counts: list[int] = []
    value = shift = 0
    for char in text:
        code = ord(char) - 48
        if not 0 <= code < 64:
            raise ValueError(f"{char!r} is no character of compressed run lengths")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= (code & 16) and 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def paint(regions: Sequence[LabelledRegion], classes: Sequence[str], shape: tuple[int, int], rules: Rules) -> Mask:
    """Paints regions into a mask, uint8 [H, W]; UserError (without a file's name) for what the rules forbid."""
    index = {BACKGROUND: 0} | {name: k + 1 for k, name in enumerate(classes)}
    mask, labelled = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    _check(regions, index.keys() | rules.dont_care)
    for region in regions:
        if region.label in rules.dont_care:
            continue
        k = index[region.label]
        clash = region.inside & labelled & (mask != k)
        if rules.overlap == "error" and clash.any():
            y, x = np.argwhere(clash)[0]
            other = next(name for name, number in index.items() if number == mask[y, x])
            raise UserError(f"{other} and {region.label} overlap at x {x}, y {y}; mend it, or --overlap later")
        mask[region.inside] = k
        labelled |= region.inside
    for region in regions:  # don't-care wins over everything: it is drawn along the borders of defects
        if region.label in rules.dont_care:
            mask[region.inside] = DONT_CARE
            labelled |= region.inside
    if rules.unlabelled == "error" and not labelled.all():
        y, x = np.argwhere(~labelled)[0]
        raise UserError(f"{np.count_nonzero(~labelled)} px are not labelled, the first at x {x}, y {y}")
    if rules.unlabelled == "dont-care":
        mask[~labelled] = DONT_CARE
    return mask


def _check(regions: Sequence[LabelledRegion], known: Collection[str]) -> None:
    for region in regions:
        if region.label not in known:
            raise UserError(f"the class {region.label!r} is not among the classes; name it there")
        if not region.inside.any():
            raise UserError(
                f"a region of {region.label!r} covers no pixel; it lies outside or is of another scale"
            )


def _outline(points: Points, height: int, width: int, closed: bool = True) -> Inside:
    drawn = np.zeros((height, width), np.uint8)
    cv2.polylines(drawn, [np.floor(points).astype(np.int32)], closed, (1,))
    return np.asarray(drawn == 1)

"""Turns labelled regions into pixels: outlines, runs, and the patch of the picture that each takes.

Coordinates are in pixels with the first pixel's area from 0 to 1 on both axes, as COCO, LabelMe and CVAT write
them: a pixel belongs to a region when its centre does. A region too thin to hold any centre is its outline. A
region keeps the pixels of its own box only: a large picture with hundreds of small ones costs little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd_train.data.labels import IGNORED

Mask = NDArray[np.uint8]
Inside = NDArray[np.bool_]
Points = Sequence[tuple[float, float]]
FAR_PX = 1e6
"""Farther out than any picture reaches."""


class Box(NamedTuple):
    """An upright box, px; the right and lower edge are where the last pixel ends."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Patch:
    """The pixels of a region, bool [h, w], whose first stands in row `top` and column `left` of the picture."""

    top: int
    left: int
    inside: Inside
    extent: Box | None
    """How far the outline reaches as it is written, also out of the picture; None where none is written."""


@dataclass(frozen=True)
class LabelledRegion:
    """One labelled region: its class by name, and its pixels."""

    label: str
    patch: Patch
    box: Box | None = None
    """The box that the file names besides, if it does."""
    where: str = "a region"
    """What the file calls it, as `annotation 7`."""


@dataclass(frozen=True)
class Rules:
    """What decides where labels leave something open.

    `dont_care` are labels that mean: learn nothing here, count nothing here.
    """

    unlabelled: Literal["background", "error", "dont-care"] = "background"
    overlap: Literal["error", "later"] = "error"
    missing: Literal["error", "clean", "skip"] = "error"
    """What a picture without any label file counts as."""
    dont_care: frozenset[str] = IGNORED
    line_px: float | None = None
    """The width of labelled lines; they have none of their own."""


def polygon(points: Points, height: int, width: int) -> Patch:
    """The pixels whose centre lies inside by the even-odd rule; those of the outline where there is none."""
    extent = _extent(points)
    top, left, high, wide = _clipped(extent, height, width)
    flips = np.zeros((high, wide + 1), np.bool_)
    for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
        if ay == by:
            continue
        low, high_y = sorted((ay, by))
        rows = np.arange(max(top, math.ceil(low - 0.5)), min(top + high, math.ceil(high_y - 0.5)))
        x = ax + (rows + 0.5 - ay) * (bx - ax) / (by - ay)
        flips[rows - top, np.clip(np.ceil(x - 0.5) - left, 0, wide).astype(int)] ^= True
    inside = np.logical_xor.accumulate(flips, axis=1)[:, :wide]
    return Patch(top, left, inside if inside.any() else _outline(points, top, left, high, wide), extent)


def rectangle(a: tuple[float, float], b: tuple[float, float], height: int, width: int) -> Patch:
    """The pixels of an upright rectangle between two opposite corners."""
    return polygon([a, (b[0], a[1]), b, (a[0], b[1])], height, width)


def circle(centre: tuple[float, float], radius_px: float, height: int, width: int) -> Patch:
    """The pixels whose centre lies within a circle."""
    (x0, y0), r = centre, radius_px
    extent = _extent([(x0 - r, y0 - r), (x0 + r, y0 + r)])
    top, left, high, wide = _clipped(extent, height, width)
    y, x = np.ogrid[top : top + high, left : left + wide]
    inside = np.asarray((x + 0.5 - x0) ** 2 + (y + 0.5 - y0) ** 2 <= r**2)
    return Patch(top, left, inside if inside.any() else _outline([centre], top, left, high, wide), extent)


def line(points: Points, width_px: float, height: int, width: int) -> Patch:
    """The pixels whose centre lies within half the width of a chain of straight pieces."""
    extent, half = _extent(points), width_px / 2
    around = Box(extent.left - half, extent.top - half, extent.right + half, extent.bottom + half)
    top, left, high, wide = _clipped(around, height, width)
    y, x = np.mgrid[top : top + high, left : left + wide] + 0.5
    inside = np.zeros((high, wide), np.bool_)
    for (ax, ay), (bx, by) in pairwise(points):
        length2 = max((bx - ax) ** 2 + (by - ay) ** 2, 1e-12)
        along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2, 0, 1)
        inside |= (x - ax - along * (bx - ax)) ** 2 + (y - ay - along * (by - ay)) ** 2 <= half**2
    return Patch(top, left, inside | _outline(points, top, left, high, wide, closed=False), extent)


def joined(patches: Sequence[Patch]) -> Patch:
    """The pixels that are in any of some patches: the parts of one region."""
    if len(patches) == 1:
        return patches[0]
    top, left = min(p.top for p in patches), min(p.left for p in patches)
    bottom = max(p.top + p.inside.shape[0] for p in patches)
    right = max(p.left + p.inside.shape[1] for p in patches)
    inside = np.zeros((bottom - top, right - left), np.bool_)
    for p in patches:
        inside[p.top - top :, p.left - left :][: p.inside.shape[0], : p.inside.shape[1]] |= p.inside
    extents = [p.extent for p in patches if p.extent is not None]
    reach = _extent([corner for e in extents for corner in ((e.left, e.top), (e.right, e.bottom))])
    return Patch(top, left, inside, reach)


def whole(inside: Inside) -> Patch:
    """A patch of the pixels that are set in a whole picture, bool [H, W]."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return Patch(0, 0, inside[:0, :0], None)
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return Patch(top, left, inside[top:bottom, left:right].copy(), None)


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


def _extent(points: Points) -> Box:
    """How far points reach; ValueError for none and for what is no number."""
    if not points or not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        raise ValueError("a coordinate is missing or no number")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return Box(min(xs), min(ys), max(xs), max(ys))


def _clipped(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """The pixels of a picture that a box touches: first row, first column, rows, columns."""
    left, top, right, bottom = (min(max(edge, -FAR_PX), FAR_PX) for edge in box)
    rows = min(max(math.floor(top), 0), height), min(max(math.floor(bottom) + 1, 0), height)
    columns = min(max(math.floor(left), 0), width), min(max(math.floor(right) + 1, 0), width)
    return rows[0], columns[0], rows[1] - rows[0], columns[1] - columns[0]


def _outline(points: Points, top: int, left: int, high: int, wide: int, closed: bool = True) -> Inside:
    """The pixels that lines between points touch, bool [high, wide], of the patch that begins at `top`, `left`."""
    drawn = np.zeros((high, wide), np.uint8)
    if drawn.size:
        near = np.clip(np.floor(points), -FAR_PX, FAR_PX) - (left, top)
        cv2.polylines(drawn, [near.astype(np.int32)], closed, (1,))
    return np.asarray(drawn == 1)

"""Makes a data set: circles, rectangles and triangles over textured pictures, with exact ground truth.

A pixel belongs to a shape when its centre does; the picture itself is drawn with 4 x 4 samples a pixel, so edges
are mixed as a lens mixes them. A later shape lies on top. Every fifth picture shows none. Scratches, soft spots
and rings are distractors: background. The masks are the same on every machine, the grey levels with one OpenCV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import write_png
from inspectd_train.data.dataset import BACKGROUND, SMALLEST_PX
from inspectd_train.data.folder import whole_folder, write_json
from inspectd_train.data.split import divide, gaps, parse_shares, together

CLASSES = ("circle", "rectangle", "triangle")
FEWEST = 12
SAMPLES = 4
Image = NDArray[np.uint8]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class DrawnShape:
    """A shape around (x, y), px: outer radius, turn in radians, a rectangle's short side as share of the long."""

    kind: Literal["circle", "rectangle", "triangle"]
    x: float
    y: float
    radius_px: float
    turn: float
    aspect: float
    contrast: float
    """How many grey levels it is brighter (or darker) than what it lies on."""


def write_shapes(out: Path, pictures: int, seed: int, size: tuple[int, int], colour: bool) -> dict[str, list[str]]:
    """Writes the whole data set of `size` (width, height) and returns its splits (60, 20, 20)."""
    if pictures < FEWEST or min(size) < SMALLEST_PX:
        raise UserError(f"want at least {FEWEST} pictures of at least {SMALLEST_PX} x {SMALLEST_PX} px")
    shown = {}
    with whole_folder(out) as folder:
        for number in range(pictures):
            name = f"shapes_{number:05}.png"
            image, mask = make_picture(seed, number, size, colour)
            write_png(folder / "images" / name, image)
            write_png(folder / "masks" / name, mask)
            shown[name] = {CLASSES[k - 1] for k in np.unique(mask).tolist() if k}
        units = together(shown, [], [])
        splits = divide(units, parse_shares("60,20,20"), seed)
        if any(gaps(splits, units)):
            raise UserError(f"{pictures} pictures are too few to have every class in every split; make more")
        write_json(folder / "classes.json", {str(k): n for k, n in enumerate((BACKGROUND, *CLASSES))})
        write_json(folder / "labels.json", {name: sorted(labels) for name, labels in shown.items()})
        write_json(folder / "split.json", splits)
    return splits


def make_picture(seed: int, number: int, size: tuple[int, int], colour: bool) -> tuple[Image, Image]:
    """Draws picture `number` of a set: uint8 [H, W, 1 or 3] and its mask, uint8 [H, W]."""
    rng = np.random.default_rng([seed, number])
    width, height = size
    level = texture(rng, height, width)
    _add_distractors(level, rng)
    mask = np.zeros((height, width), np.uint8)
    shapes = [_random_shape(rng, size, (number + n) % len(CLASSES)) for n in range(rng.integers(1, 5))]
    for shape in shapes if number % 5 != 4 else []:
        level += coverage(shape, height, width) * shape.contrast
        mask[covers(shape, *_centres(height, width))] = CLASSES.index(shape.kind) + 1
    level += rng.normal(0, rng.uniform(0.5, 4), level.shape)
    tint = rng.uniform(0.8, 1.2, 3 if colour else 1)
    return np.clip(np.round(level[:, :, None] * (tint if colour else 1.0)), 0, 255).astype(np.uint8), mask


def covers(shape: DrawnShape, x: F64, y: F64) -> Bools:
    """Whether the points x, y (px; arrays that broadcast) lie in the shape."""
    cos, sin = math.cos(shape.turn), math.sin(shape.turn)
    dx, dy = x - shape.x, y - shape.y
    if shape.kind == "circle":
        return np.asarray(dx * dx + dy * dy <= shape.radius_px**2)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    if shape.kind == "rectangle":
        half = shape.radius_px / math.hypot(1, shape.aspect)
        return np.asarray((abs(u) <= half) & (abs(v) <= half * shape.aspect))
    sides = [math.cos(a) * u + math.sin(a) * v for a in (math.pi / 3, math.pi, 5 * math.pi / 3)]
    return np.asarray(np.max(np.broadcast_arrays(*sides), axis=0) <= shape.radius_px / 2)


def coverage(shape: DrawnShape, height: int, width: int) -> F64:
    """The share of each pixel that lies in the shape, of 4 x 4 samples, [H, W]."""
    x, y = _centres(height, width)
    steps = (np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    return np.asarray(
        np.mean([covers(shape, x + i, y + j) for i in steps for j in steps], axis=0, dtype=np.float64)
    )


def texture(rng: np.random.Generator, height: int, width: int) -> F64:
    """Draws grey levels [H, W] of cloudy, brushed or woven material under uneven light."""
    kind = rng.integers(3)
    if kind == 0:  # cloudy: noise of five octaves
        octaves = [2**k for k in range(1, 6)]
        field = np.sum([_noise(rng, height, width, 2 * n, 2 * n) / math.sqrt(n) for n in octaves], axis=0)
    elif kind == 1:  # brushed: noise drawn out along one side
        field = _noise(rng, height, width, max(2, height // 2), 4) + 0.5 * _noise(rng, height, width, height, 12)
    else:  # woven: threads over and under each other
        pitch = rng.uniform(5, 12)
        x, y = (axis + rng.uniform(0, 2 * pitch) for axis in _centres(height, width))
        over = np.sin(math.pi * x / pitch) * np.sin(math.pi * y / pitch) > 0
        field = np.where(over, abs(np.sin(math.pi * x / pitch)), abs(np.sin(math.pi * y / pitch))) * 2.5
        field = field + 0.5 * _noise(rng, height, width, height // 2, width // 2)
    light = _noise(rng, height, width, 2, 2)
    field = (field - field.mean()) / (field.std() + 1e-9)
    return np.asarray(rng.uniform(90, 160) + rng.uniform(4, 14) * field + 12 * light, np.float64)


def _noise(rng: np.random.Generator, height: int, width: int, rows: int, columns: int) -> F64:
    coarse = rng.normal(0, 1, (max(rows, 2), max(columns, 2)))
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float64)


def _random_shape(rng: np.random.Generator, size: tuple[int, int], kind: int) -> DrawnShape:
    """Draws a shape of 4 px to a fifth of the shorter side, small as often as large; contrast 15 to 80 levels."""
    name = CLASSES[kind]
    radius_px = math.exp(rng.uniform(math.log(4), math.log(max(5.0, min(size) / 5))))
    x, y = (rng.uniform(radius_px, side - radius_px) for side in size)
    contrast = rng.choice((-1, 1)) * rng.uniform(15, 80)
    return DrawnShape(name, x, y, radius_px, rng.uniform(0, 2 * math.pi), rng.uniform(0.4, 1.0), contrast)  # type: ignore[arg-type]


def _add_distractors(level: F64, rng: np.random.Generator) -> None:
    """Adds up to four scratches, soft spots and rings to the grey levels, in place."""
    height, width = level.shape
    x, y = _centres(height, width)
    for _ in range(rng.integers(0, 5)):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(4, max(5, min(width, height) / 8))
        strength, turn = rng.choice((-1, 1)) * rng.uniform(10, 50), rng.uniform(0, math.pi)
        away = np.hypot(x - cx, y - cy)
        across = abs(math.cos(turn) * (x - cx) + math.sin(turn) * (y - cy))
        kind = rng.integers(3)
        if kind == 0:  # a scratch
            level += strength * np.clip(1.2 - across, 0, 1) * (away < 4 * r)
        elif kind == 1:  # a soft spot: no edge, so no circle
            level += strength * np.exp(-0.5 * (away / r) ** 2)
        else:  # a ring: not filled, so no circle
            level += strength * np.clip(1.5 - abs(away - r), 0, 1)


def _centres(height: int, width: int) -> tuple[F64, F64]:
    """The centres of the pixels: x as [1, W] and y as [H, 1]."""
    return np.arange(0.5, width)[None], np.arange(0.5, height)[:, None]

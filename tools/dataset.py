"""A data set folder, and random training samples out of it.

images/NAME.jpg|png     grey or colour
masks/NAME.png          8 bit class index per pixel, 0 = background, 255 = don't care
classes.json            {"0": "background", "1": "pitting"}
split.json              {"train": ["NAME.jpg", ...], "dev": [...], "test": [...]}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.errors import UserError
from tools.csnet import STRIDE_PX

DONT_CARE = 255
SPLITS = ("train", "dev", "test")
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class DataSet:
    """A data set as its files describe it; `classes` without the background, class index = position + 1."""

    folder: Path
    classes: tuple[str, ...]
    split_file: str
    splits: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Sample:
    """One picture, RGB uint8 [H, W, 3], and its mask, uint8 [H, W]."""

    name: str
    image: Image
    mask: Image


def open_data_set(folder: Path, split_file: str = "split.json") -> DataSet:
    """Reads the two JSON files; UserError when one is missing or wrong. Opens no picture."""
    names = _read_json(folder / "classes.json")
    classes = tuple(str(names.get(str(k))) for k in range(1, len(names)))
    if not classes or sorted(names) != sorted(str(k) for k in range(len(names))):
        raise UserError(f'{folder / "classes.json"}: want class names by index, {{"0": "background", "1": "..."}}')
    splits = _read_json(folder / split_file)
    for split in SPLITS:
        if not isinstance(splits.get(split), list) or not splits[split]:
            raise UserError(f'{folder / split_file}: "{split}" must be a list of file names; name at least one')
    return DataSet(folder, classes, split_file, {s: tuple(splits[s]) for s in SPLITS})


def load(data: DataSet, split: str) -> list[Sample]:
    """Decodes all pictures of a split into memory; UserError names the first file that is missing or wrong."""
    return [_load_sample(data, name) for name in data.splits[split]]


def digest(data: DataSet) -> str:
    """SHA-256 (hex) over names and contents of the classes, the split file and every picture and mask in it."""
    total = hashlib.sha256()
    files = ["classes.json", data.split_file]
    for split in SPLITS:
        for name in data.splits[split]:
            files += [f"images/{name}", f"masks/{Path(name).stem}.png"]
    for file in files:
        total.update(f"{file}\n{hashlib.sha256((data.folder / file).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def cell_fractions(mask: Image, classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Area fraction of each defect class per cell, [classes, h, w], and the fraction to learn from, [h, w].

    h, w = ceil(H/4), ceil(W/4). Both fractions are of the whole cell: what lies outside the picture is
    background nobody asks for, as is a don't-care pixel.
    """
    below, right = -mask.shape[0] % STRIDE_PX, -mask.shape[1] % STRIDE_PX
    padded = np.pad(mask, ((0, below), (0, right)), constant_values=DONT_CARE)
    h, w = padded.shape[0] // STRIDE_PX, padded.shape[1] // STRIDE_PX
    blocks = padded.reshape(h, STRIDE_PX, w, STRIDE_PX)
    fractions = [(blocks == k).mean(axis=(1, 3), dtype=np.float32) for k in range(1, 1 + classes)]
    return np.stack(fractions), (blocks != DONT_CARE).mean(axis=(1, 3), dtype=np.float32)


def small_defect_weights(mask: Image) -> NDArray[np.float32]:
    """How much each cell counts in training, [ceil(H/4), ceil(W/4)]: 1, in small defects up to 4.

    A missed pit is a missed part however small it is, but the loss counts area: a defect of less than 1500 px
    gets the weight sqrt(1500 / area), so that the small ones are not drowned.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(((mask > 0) & (mask != DONT_CARE)).astype(np.uint8))
    weights = np.ones(count, np.float32)
    weights[1:] = np.clip(np.sqrt(1500.0 / stats[1:, cv2.CC_STAT_AREA]), 1.0, 4.0)
    below, right = -mask.shape[0] % STRIDE_PX, -mask.shape[1] % STRIDE_PX
    padded = np.pad(weights[labels], ((0, below), (0, right)), constant_values=1.0)
    h, w = padded.shape[0] // STRIDE_PX, padded.shape[1] // STRIDE_PX
    return np.asarray(padded.reshape(h, STRIDE_PX, w, STRIDE_PX).max(axis=(1, 3)), np.float32)


def random_crop(
    sample: Sample, centre: tuple[float, float], size_px: int, rng: np.random.Generator
) -> tuple[Image, Image]:
    """A warped, recoloured crop around `centre` (x, y): RGB uint8 [size, size, 3] and mask uint8 [size, size]."""
    warp = _random_warp(centre, size_px, rng)
    size = (size_px, size_px)
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
    image = cv2.LUT(image, _random_tones(rng))
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < 0.15:
        noise = rng.normal(0.0, rng.uniform(2.0, 8.0), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return np.asarray(image, np.uint8), np.asarray(mask, np.uint8)


def defect_centres(samples: list[Sample], classes: int) -> list[list[tuple[int, float, float]]]:
    """Per class, (sample index, x, y) of the middle of every defect: small and large count the same."""
    found: list[list[tuple[int, float, float]]] = [[] for _ in range(classes)]
    for index, sample in enumerate(samples):
        for k in range(classes):
            _, _, stats, _ = cv2.connectedComponentsWithStats((sample.mask == k + 1).astype(np.uint8))
            found[k] += [(index, x + w / 2, y + h / 2) for x, y, w, h, _ in stats[1:].tolist()]
    return found


def _random_warp(centre: tuple[float, float], size_px: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Output to source pixels, 2x3: mirrored or not, +-10 degrees, scale 0.8 to 1.25, in one interpolation.

    Never upside down: a line's light comes from one side, and pits are told from dirt by their shadows.
    """
    angle = np.deg2rad(rng.uniform(-10.0, 10.0))
    scale = np.exp(rng.uniform(np.log(0.8), np.log(1.25)))
    flip = np.diag((rng.choice((-1.0, 1.0)), 1.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ flip / scale
    offset = np.array(centre) - linear @ np.full(2, size_px / 2)
    return np.column_stack([linear, offset])


def _random_tones(rng: np.random.Generator) -> NDArray[np.uint8]:
    """One table [1, 256, 3] for gamma, contrast, brightness and colour cast."""
    level = np.linspace(0.0, 1.0, 256)[:, None] ** np.exp(rng.uniform(-0.35, 0.35))
    contrast, brightness = np.exp(rng.uniform(-0.35, 0.35)), rng.uniform(-0.12, 0.12)
    cast = np.exp(rng.uniform(-0.1, 0.1, 3))
    table = ((level - 0.5) * contrast + 0.5 + brightness) * cast
    return np.asarray(np.clip(np.round(255 * table), 0, 255), np.uint8)[None]


def _load_sample(data: DataSet, name: str) -> Sample:
    image_file, mask_file = data.folder / "images" / name, data.folder / "masks" / f"{Path(name).stem}.png"
    bgr = _decode(image_file, cv2.IMREAD_COLOR)
    mask = _decode(mask_file, cv2.IMREAD_UNCHANGED)
    if mask.ndim != 2 or mask.shape != bgr.shape[:2]:
        raise UserError(f"{mask_file}: shape {mask.shape}, want one channel of {bgr.shape[:2]} like {image_file}")
    alien = set(np.unique(mask).tolist()) - set(range(1 + len(data.classes))) - {DONT_CARE}
    if alien:
        raise UserError(f"{mask_file}: class {min(alien)} is not in classes.json; add it there or set it to 255")
    return Sample(name, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), mask)


def _decode(file: Path, how: int) -> Image:
    if not file.is_file():
        raise UserError(f"{file}: no such file; add it or take its name out of the split file")
    pixels = cv2.imread(str(file), how)
    if pixels is None or pixels.dtype != np.uint8:
        raise UserError(f"{file}: not an 8-bit picture OpenCV can read; save it as PNG or JPEG")
    return np.asarray(pixels, np.uint8)


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"{file}: no such file; a data set needs images/, masks/, classes.json and a split file")
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error}); correct it") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: want a JSON object, found {type(content).__name__}")
    return content

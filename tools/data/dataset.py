"""A data set: a folder, as it lies on the disk.

images/NAME.jpg|png     8 bit, grey or colour
masks/NAME.png          8 bit class index per pixel, 0 = background, 255 = don't care
classes.json            {"0": "background", "1": "pitting"}
split.json              {"train": ["NAME.jpg", ...], "dev": [...], "test": [...]}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspectd.runtime.channels import with_channels
from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import read_image
from inspectd_train.data.folder import read_json

BACKGROUND, DONT_CARE = "background", 255
"""The name of what is no defect, and the mask value of pixels that nobody knows."""
SPLIT_FILE = "split.json"
SMALLEST_PX = 64
"""The smallest side of a picture."""
SPLITS = ("train", "dev", "test")
GREY_SPREAD = 4
"""How far the channels of a grey pixel may differ, after JPEG."""
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
    """One picture, uint8 [H, W, C], grey (C = 1) or RGB (C = 3), and its mask, uint8 [H, W]."""

    name: str
    image: Image
    mask: Image


def open_data_set(folder: Path, split_file: str = SPLIT_FILE) -> DataSet:
    """Reads the two JSON files; UserError when one is missing or wrong. Opens no picture."""
    index = _read_json(folder / "classes.json")
    classes = tuple(str(index.get(str(k))) for k in range(1, len(index)))
    if not classes or sorted(index) != sorted(str(k) for k in range(len(index))):
        raise UserError(f'{folder / "classes.json"}: want class names by index, {{"0": "background", "1": "..."}}')
    if len(set(classes)) < len(classes):
        raise UserError(f"{folder / 'classes.json'}: a name stands for two classes; rename one")
    if not (folder / split_file).is_file():
        raise UserError(f"{folder / split_file}: no such file yet; make it with `inspectd-train split {folder}`")
    splits = _read_json(folder / split_file)
    for split in SPLITS:
        names = splits.get(split)
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(f'{folder / split_file}: "{split}" must be a list of file names; name at least one')
    return DataSet(folder, classes, split_file, {s: tuple(splits[s]) for s in SPLITS})


def load(data: DataSet, split: str, channels: int) -> list[Sample]:
    """Decodes all pictures of a split into memory; UserError names the first file that is missing or wrong."""
    return [load_sample(data, name, channels) for name in data.splits[split]]


def stored_channels(data: DataSet) -> int:
    """The channels that such a camera would send: 3 if any training picture is stored in colour, else 1."""
    return 3 if any(_decode(data.folder / "images" / name).shape[2] == 3 for name in data.splits["train"]) else 1


def grey_in_colour(data: DataSet) -> bool:
    """Whether the training pictures are stored in colour and show none, as a grey camera's saved as RGB."""
    pictures = [_decode(data.folder / "images" / name) for name in data.splits["train"][:20]]
    return all(p.shape[2] == 3 and int(np.ptp(p, axis=2).max()) <= GREY_SPREAD for p in pictures)


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


def load_sample(data: DataSet, name: str, channels: int) -> Sample:
    """Decodes one picture and its mask; UserError names the file that is missing or wrong."""
    image_file, mask_file = data.folder / "images" / name, data.folder / "masks" / f"{Path(name).stem}.png"
    image, mask = with_channels(_decode(image_file), channels), _decode(mask_file)
    if mask.shape != (*image.shape[:2], 1):
        raise UserError(
            f"{mask_file}: shape {mask.shape}, want one channel of {image.shape[:2]} like {image_file}"
        )
    mask = mask[:, :, 0]
    alien = set(np.unique(mask).tolist()) - set(range(1 + len(data.classes))) - {DONT_CARE}
    if alien:
        raise UserError(f"{mask_file}: class {min(alien)} is not in classes.json; add it there or set it to 255")
    if min(mask.shape) < SMALLEST_PX:
        raise UserError(f"{image_file}: {mask.shape[1]} x {mask.shape[0]} px, 64 x 64 is the least; leave it out")
    return Sample(name, image, mask)


def _decode(file: Path) -> Image:
    """Reads the pixels as stored, uint8 [H, W, 1] or [H, W, 3] (RGB), by the daemon's own reader."""
    if not file.is_file():
        raise UserError(f"{file}: no such file; add it or take its name out of the split file")
    try:
        return read_image(file)
    except ValueError as error:
        raise UserError(f"{file.parent}/{error}; save it as an 8-bit grey or RGB PNG or JPEG") from None


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        what = "a data set needs images/, masks/, classes.json and a split file"
        raise UserError(f"{file}: no such file; {what}")
    content = read_json(file)
    if not isinstance(content, dict):
        raise UserError(f"{file}: want a JSON object, found {type(content).__name__}")
    return content


def pictures(data: DataSet, split: str, channels: int) -> Iterator[Sample]:
    """Yields the pictures of a split in turn, one in memory at a time; UserError names a wrong file."""
    if split not in data.splits:
        raise UserError(f"{data.folder / data.split_file}: no split {split!r}; it has {', '.join(data.splits)}")
    for name in data.splits[split]:
        yield load_sample(data, name, channels)

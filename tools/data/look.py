"""Reads every picture and mask of a data set, and names what is wrong with each by itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import image_files, read_image, shown_name
from inspectd_train.data.alike import F32, signature
from inspectd_train.data.dataset import DONT_CARE, SMALLEST_PX
from inspectd_train.data.edges import blurred
from inspectd_train.data.folder import read_json
from inspectd_train.data.sources import grey_bits, is_hidden, is_text, shown, turned


@dataclass(frozen=True)
class Fault:
    """One thing wrong: the file, the reason, and whether it must be mended."""

    level: Literal["error", "warning"]
    file: str
    reason: str


@dataclass(frozen=True)
class Picture:
    """What is kept of a picture that could be read; `classes` are the indices in its mask without 0 and 255."""

    name: str
    pixels_sha256: str
    shape: tuple[int, ...]
    """The height, width and channels of the picture."""
    classes: frozenset[int]
    signature: F32
    black_and_white: bool
    """Whether its mask has only 0 and 255, of which 255 is don't-care."""
    blurred: dict[int, int]
    """By class, how many pixels of the mask stand between two others, as where a mask was scaled."""


def read_pictures(folder: Path) -> tuple[tuple[str, ...], list[Picture], list[Fault]]:
    """Reads the classes and every usable picture, and finds what is wrong with files, each by itself."""
    classes, faults = read_classes(folder)
    named = None if faults else len(classes)  # without names one fault says so, not one for each mask
    pictures = []
    for file in _pictures(folder, faults):
        picture = _look_at(file, named, faults)
        if picture is not None:
            pictures.append(picture)
    return classes, pictures, faults + _stray_masks(folder)


def mask_file(image: Path) -> Path:
    """The file of a picture's mask: that of images/NAME.jpg is masks/NAME.png."""
    return image.parent.parent / "masks" / f"{image.stem}.png"


def read_classes(folder: Path) -> tuple[tuple[str, ...], list[Fault]]:
    """Reads the class names without the background; none, and a fault, when classes.json can't be used."""
    if not (folder / "images").is_dir():
        raise UserError(f"{folder}: no folder images/ in it; a data set needs images/, masks/ and classes.json")
    try:
        names = read_json(folder / "classes.json")
    except UserError as error:
        return (), [Fault("error", "classes.json", str(error))]
    if not isinstance(names, dict) or len(names) < 2 or sorted(names) != sorted(str(k) for k in range(len(names))):
        return (), [Fault("error", "classes.json", 'want names by index, {"0": "background", "1": "..."}')]
    classes = tuple(str(names[str(k)]) for k in range(1, len(names)))
    twice = [f"{name!r} stands for two indices" for name, count in Counter(classes).items() if count > 1]
    odd = [
        f"the name {shown(name)!r} has half a character; write it anew" for name in classes if not is_text(name)
    ]
    return classes, [Fault("error", "classes.json", reason) for reason in (*twice, *odd)]


def _pictures(folder: Path, faults: list[Fault]) -> Iterator[Path]:
    """Yields the files to look at; strays and names that share one mask are faults."""
    files = image_files(folder / "images")
    for file in sorted(set((folder / "images").iterdir()) - set(files)):
        if not is_hidden(file.name):
            what = (
                "a folder; pictures in it are not used"
                if file.is_dir()
                else "no picture by its name; it is not used"
            )
            faults.append(Fault("warning", f"images/{shown(file.name)}", what))
    stems = Counter(f.stem for f in files)
    for file in files:
        if stems[file.stem] > 1:
            faults.append(
                Fault("error", f"images/{shown(file.name)}", "shares its mask with another picture; rename one")
            )
        yield file


def _look_at(file: Path, classes: int | None, faults: list[Fault]) -> Picture | None:
    """Reads one picture and its mask; None if one of them can't be used, and a fault says why."""
    name, mask_name = f"images/{shown(file.name)}", f"masks/{shown(file.stem)}.png"
    if not is_text(file.name):
        faults.append(Fault("error", name, "its name is not UTF-8; rename it and its mask"))
        return None
    image = _read(file, name, faults)
    if not mask_file(file).is_file():
        faults.append(Fault("error", name, f"has no mask {mask_name}; a good part needs one of zeros"))
        return None
    mask = _read(mask_file(file), mask_name, faults)
    if image is None or mask is None:
        return None
    if mask.shape[2] != 1:
        faults.append(Fault("error", mask_name, "is coloured or has a palette; want class indices, 8-bit grey"))
        return None
    if mask.shape[:2] != image.shape[:2]:
        sizes = [f"{shape[1]} x {shape[0]} px" for shape in (mask.shape, image.shape)]
        faults.append(Fault("error", mask_name, f"is {sizes[0]}, its picture {sizes[1]}"))
        return None
    if min(mask.shape[:2]) < SMALLEST_PX:
        faults.append(Fault("error", name, f"is smaller than {SMALLEST_PX} px on a side; the networks need that"))
    if (bits := grey_bits(mask_file(file))) < 8:
        faults.append(Fault("error", mask_name, f"has {bits} bits a pixel, 8 are needed; import it anew"))
        return None
    if image is not None and (way := turned(file)) != 1:
        reason = (
            f"EXIF says that it is to be turned (orientation {way}), its mask is not; save it upright without EXIF"
        )
        faults.append(Fault("error", name, reason))
    levels = _levels(mask, mask_name, classes, faults)
    digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
    known = levels & set(range(1, DONT_CARE if classes is None else classes + 1))
    black_and_white, edges = levels == {0, DONT_CARE}, blurred(mask[:, :, 0])
    return Picture(file.name, digest, image.shape, known, signature(image), black_and_white, edges)


def _read(file: Path, name: str, faults: list[Fault]) -> NDArray[np.uint8] | None:
    """Reads pixels, uint8 [H, W, C]; None if they can't be read, and a fault says why."""
    try:
        return read_image(file)
    except ValueError as error:
        faults.append(Fault("error", name, str(error).removeprefix(f"{shown_name(file)}: ")))
        return None


def _levels(mask: NDArray[np.uint8], mask_name: str, classes: int | None, faults: list[Fault]) -> frozenset[int]:
    """Finds the class indices that stand in a mask; strange ones are faults."""
    levels = frozenset(np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist())
    for k in sorted(levels - set(range(classes + 1)) - {DONT_CARE}) if classes is not None else ():
        faults.append(Fault("error", mask_name, f"has the class index {k}, which classes.json doesn't name"))
    if levels == {DONT_CARE}:
        faults.append(Fault("warning", mask_name, "is don't-care everywhere; nothing can be learned from it"))
    return levels


def _stray_masks(folder: Path) -> list[Fault]:
    """Finds masks without a picture."""
    if not (folder / "masks").is_dir():
        return [Fault("error", "masks", "no such folder; it holds a PNG of class indices for each picture")]
    stems = {f.stem for f in image_files(folder / "images")}
    return [
        Fault("error", f"masks/{shown(f.name)}", "a mask without a picture; add the picture or remove it")
        for f in sorted((folder / "masks").iterdir())
        if f.stem not in stems and not is_hidden(f.name)
    ]

"""Writes a data set folder: whole, or not at all."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import read_image, write_png
from inspectd_train.data.dataset import BACKGROUND
from inspectd_train.data.folder import whole_folder, write_json
from inspectd_train.data.imports.regions import LabelledRegion, Mask, Rules, paint

MOST_CLASSES = 254
MOST_SHOWN = 20


@dataclass(frozen=True)
class LabelledPicture:
    """One picture of a source and how to get its regions, once its height and width are known."""

    file: Path
    name: str
    """The path below the source, with /."""
    regions: Callable[[int, int], Sequence[LabelledRegion]]
    claimed: tuple[str, ...] | None
    """The classes that the source says it shows, () for a good part; None where the source says nothing."""
    looked_at: bool = True
    """Whether anything says that somebody did: in a list of all pictures one without regions may be waiting."""


@dataclass(frozen=True)
class LabelledSet:
    """What a reader found: class names without the background (class index = position + 1), and the pictures."""

    classes: tuple[str, ...]
    pictures: tuple[LabelledPicture, ...]


def store(source: LabelledSet, out: Path, rules: Rules) -> int:
    """Writes images/, masks/, classes.json and labels.json; returns the number of pictures.

    Pictures are copied byte for byte. UserError lists the faults of all pictures; then nothing is written.
    """
    if not source.pictures:
        raise UserError("no labelled picture found; check the folder and the format")
    if not 1 <= len(source.classes) <= MOST_CLASSES:
        raise UserError(f"{len(source.classes)} classes of defects found, 1 to {MOST_CLASSES} can be stored")
    pictures = [p for p in source.pictures if p.looked_at or rules.missing != "skip"]
    names = unique_names([p.name for p in pictures])
    with whole_folder(out) as folder:
        faults = []
        for picture, name in zip(pictures, names, strict=True):
            try:
                if not picture.looked_at and rules.missing == "error":
                    raise UserError(
                        f"{picture.name}: has no annotation; if such are good parts, say --missing clean"
                    )
                mask = _mask(picture, source.classes, rules)
                shutil.copyfile(picture.file, folder / "images" / name)
                write_png(folder / "masks" / f"{Path(name).stem}.png", mask)
            except (UserError, ValueError) as error:
                faults.append(str(error))
        if faults:
            more = [f"... and {len(faults) - MOST_SHOWN} more"] if len(faults) > MOST_SHOWN else []
            raise UserError("\n".join([*faults[:MOST_SHOWN], *more]))
        claims = {n: p.claimed for p, n in zip(pictures, names, strict=True) if p.claimed is not None}
        write_json(folder / "classes.json", {str(k): n for k, n in enumerate([BACKGROUND, *source.classes])})
        if claims:
            write_json(folder / "labels.json", claims)
    return len(names)


def unique_names(paths: Sequence[str]) -> list[str]:
    """Makes a file name for each path, such that no two share their stem: with its folders where they would."""
    tries: tuple[Callable[[PurePosixPath], str], ...] = (
        lambda p: p.name,
        lambda p: "_".join(part for part in p.parts if part not in ("/", "..", ".")),
        lambda p: "_".join((*p.parts[:-1], f"{p.stem}-{p.suffix[1:]}{p.suffix}")),
    )
    names = [tries[0](PurePosixPath(p)) for p in paths]
    for other in tries[1:]:
        count = Counter(Path(name).stem.casefold() for name in names)
        twice = [count[Path(name).stem.casefold()] > 1 for name in names]
        names = [other(PurePosixPath(p)) if t else n for p, n, t in zip(paths, names, twice, strict=True)]
    count = Counter(Path(name).stem.casefold() for name in names)
    for name, path in zip(names, paths, strict=True):
        if count[Path(name).stem.casefold()] > 1:
            raise UserError(f"{path}: another picture has this name too; rename one")
    return names


def _mask(picture: LabelledPicture, classes: Sequence[str], rules: Rules) -> Mask:
    """Makes a picture's mask; UserError names the picture.

    The picture is decoded too: what the daemon couldn't read is refused here, by its own reader.
    """
    height, width = read_image(picture.file).shape[:2]
    try:
        regions = picture.regions(height, width)
    except UserError as error:
        raise UserError(f"{picture.name}: {error}") from None
    except (ValueError, TypeError, LookupError, OverflowError, cv2.error) as error:  # whatever a file may hold
        raise UserError(f"{picture.name}: its labels are damaged ({error}); export them anew") from None
    try:
        mask = paint(regions, classes, (height, width), rules)
    except UserError as error:
        raise UserError(f"{picture.name}: {error}") from None
    shown = {classes[k - 1] for k in np.unique(mask).tolist() if 0 < k <= len(classes)}
    for label in picture.claimed or ():
        if label not in shown:
            raise UserError(f"{picture.name}: labelled {label!r}, but no pixel of its mask is; label it")
    return mask

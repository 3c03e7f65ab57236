"""Reads the layout of MVTec AD: train/good, test/<defect>, ground_truth/<defect>/NAME_mask.png.

https://www.mvtec.com/company/research/datasets/mvtec-ad
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import image_files, read_image
from inspectd_train.data.dataset import BACKGROUND
from inspectd_train.data.imports.regions import LabelledRegion, Rules
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet

GOOD = "good"


def read_mvtec(source: Path, one_class: str | None, rules: Rules) -> LabelledSet:
    """Reads pictures, classes by the defect's folder or all `one_class`; what isn't good must have a mask."""
    if not (source / "test").is_dir():
        raise UserError(f"{source}: no folder test/; want train/good, test/<defect>, ground_truth/<defect>")
    pictures, classes = [], {}
    for folder in sorted([*(source / "train").glob("*/"), *(source / "test").glob("*/")]):
        for file in image_files(folder):
            label = None if folder.name == GOOD else one_class or folder.name
            truth = source / "ground_truth" / folder.name / f"{file.stem}_mask.png"
            if label is not None and not truth.is_file():
                if rules.missing == "skip":
                    continue
                raise UserError(f"{file}: its mask {truth} is missing; add it, or say --missing skip")
            if label is not None:
                classes[label] = True
            pictures.append(_picture(file, file.relative_to(source).as_posix(), label, truth))
    return LabelledSet(tuple(classes), tuple(pictures))


def _picture(file: Path, name: str, label: str | None, truth: Path) -> LabelledPicture:
    def regions(height: int, width: int) -> list[LabelledRegion]:
        if label is None:
            return [LabelledRegion(BACKGROUND, np.ones((height, width), bool))]
        pixels = read_image(truth)
        if pixels.shape[:2] != (height, width):
            raise UserError(f"is {width} x {height} px, its mask {pixels.shape[1]} x {pixels.shape[0]}")
        inside = np.asarray(pixels.any(axis=2))
        if not inside.any():
            raise UserError(f"its mask {truth} is empty, but the folder says {label!r}; label it")
        return [
            LabelledRegion(label, inside),
            *([LabelledRegion(BACKGROUND, ~inside)] if not inside.all() else []),
        ]

    return LabelledPicture(file, name, regions, () if label is None else (label,))

"""Reads the layout of MVTec AD: train/good, test/<defect>, ground_truth/<defect>/NAME_mask.png.

https://www.mvtec.com/company/research/datasets/mvtec-ad
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import read_image
from inspectd_train.data.dataset import BACKGROUND
from inspectd_train.data.imports.regions import LabelledRegion, Rules, whole
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet
from inspectd_train.data.sources import files_below, is_picture, shown

GOOD = "good"
PARTS = ("train", "validation", "test")
TRUTH = "ground_truth"


def read_mvtec(source: Path, one_class: str | None, rules: Rules) -> LabelledSet:
    """Reads pictures, classes by the defect's folder or all `one_class`; what isn't good must have a mask.

    Below the folder of a defect there may be others; its masks then lie in the same below ground_truth/.
    """
    if not (source / "test").is_dir():
        raise UserError(f"{source}: no folder test/; want train/good, test/<defect>, {TRUTH}/<defect>")
    seen = list(files_below(source))
    pictures: list[LabelledPicture] = []
    classes: dict[str, bool] = {}
    truths: list[Path] = []
    reasons: dict[Path, str] = {}
    for file in seen:
        part, *folders = file.relative_to(source).parts[:-1] or ("",)
        if part not in PARTS or not is_picture(file):
            continue
        if not folders:
            reasons[file] = "in no folder of a defect nor in good/"
            continue
        label = None if folders[0] == GOOD else one_class or folders[0]
        truth = source.joinpath(TRUTH, *folders, f"{file.stem}_mask.png")
        if label is not None and not truth.is_file():
            if rules.missing == "skip":
                reasons[file] = "no mask"
                continue
            raise UserError(
                f"{shown(str(file))}: its mask {shown(str(truth))} is missing; add it, or say --missing skip"
            )
        if label is not None:
            classes[label] = True
            truths.append(truth)
        pictures.append(_picture(file, file.relative_to(source).as_posix(), label, truth))
    masks = [f for f in seen if f.relative_to(source).parts[0] == TRUTH]
    reasons |= dict.fromkeys(set(masks) - set(truths), "a mask without a picture")
    return LabelledSet(tuple(sorted(classes)), tuple(pictures), source, tuple(seen), tuple(truths), reasons)


def _picture(file: Path, name: str, label: str | None, truth: Path) -> LabelledPicture:
    def regions(height: int, width: int) -> Iterator[LabelledRegion]:
        if label is None:
            yield LabelledRegion(BACKGROUND, whole(np.ones((height, width), np.bool_)))
            return
        pixels = read_image(truth)
        if pixels.shape[:2] != (height, width):
            raise UserError(f"is {width} x {height} px, its mask {pixels.shape[1]} x {pixels.shape[0]}")
        inside = np.asarray(pixels.any(axis=2))
        if not inside.any():
            raise UserError(f"its mask {shown(str(truth))} is empty, but the folder says {label!r}; label it")
        yield LabelledRegion(label, whole(inside))
        if not inside.all():
            yield LabelledRegion(BACKGROUND, whole(~inside))

    return LabelledPicture(file, name, regions, () if label is None else (label,), said_by="its folder")

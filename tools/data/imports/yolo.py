"""Reads YOLO segmentation labels: a text file per picture, a line per region, coordinates from 0 to 1.

The layouts are those of Ultralytics, Roboflow and CVAT: labels/**/NAME.txt for images/**/NAME.*, SPLIT/labels/
beside SPLIT/images/, or both in one folder; https://docs.ultralytics.com/datasets/segment/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from inspectd.runtime.errors import UserError
from inspectd_train.data.folder import read_text
from inspectd_train.data.imports.regions import LabelledRegion, Rules, polygon
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet
from inspectd_train.data.imports.yolo_names import LISTS, read_names
from inspectd_train.data.labels import BACKGROUNDS
from inspectd_train.data.sources import files_below, is_picture, shown

IMAGES, LABELS = "images", "labels"
BOX_NUMBERS, LEAST_NUMBERS = 4, 6
BEYOND = 0.01
"""How far coordinates may lie beyond 0 and 1, as Ultralytics allows it."""
Row = tuple[int, list[float]]


def read_yolo(source: Path, rules: Rules) -> LabelledSet:
    """Reads all pictures below the folder `source`.

    An empty label file says that the part is good; of a picture without one `rules.missing` says what it is. The
    names stand in data.yaml (any one *.yaml) or classes.txt. Boxes are refused: what is in a box and no defect
    would be learned as one.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; want one with data.yaml or classes.txt, images/ and labels/")
    seen = list(files_below(source))
    names, named_in = read_names(source, seen)
    texts = {f.relative_to(source).as_posix(): f for f in seen if f.suffix == ".txt"}
    pictures, bare, used = [], [], [named_in]
    for file in seen:
        if not is_picture(file):
            continue
        text = texts.get(_label_name(file.relative_to(source)))
        if text is not None:
            used.append(text)
        elif rules.missing == "error":
            raise UserError(f"{shown(str(file))}: has no label file; if such are good parts, say --missing clean")
        else:
            bare.append(file)
        if text is not None or rules.missing == "clean":
            pictures.append(_picture(source, file, text, names, rules))
    beside = {f for f in texts.values() if LABELS in f.relative_to(source).parts[:-1] and f.name not in LISTS}
    stray = sorted(beside - set(used))
    if stray:
        raise UserError(f"{shown(str(stray[0]))}: labels without a picture; add the picture or remove them")
    claimed = {label for picture in pictures for label in picture.claimed or ()}
    classes = tuple(dict.fromkeys(name for _, name in sorted(names.items()) if name in claimed))
    reasons = dict.fromkeys(bare, "no label file")
    return LabelledSet(classes, tuple(pictures), source, tuple(seen), tuple(used), reasons)


def _label_name(picture: Path) -> str:
    """The path of a picture's labels: its last folder named images becomes labels."""
    parts = list(picture.with_suffix(".txt").parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == IMAGES:
            parts[at] = LABELS
            break
    return PurePosixPath(*parts).as_posix()


def _picture(source: Path, file: Path, text: Path | None, names: dict[int, str], rules: Rules) -> LabelledPicture:
    rows = _rows(text, names) if text is not None else []

    def regions(height: int, width: int) -> Iterator[LabelledRegion]:
        for number, (index, numbers) in enumerate(rows, 1):
            points = [(x * width, y * height) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
            yield LabelledRegion(names[index], polygon(points, height, width), None, f"region {number}")

    claimed = {names[index] for index, _ in rows} - {*BACKGROUNDS, *rules.dont_care}
    said_by = "nothing" if text is None else text.relative_to(source).as_posix()
    name = file.relative_to(source).as_posix()
    return LabelledPicture(file, name, regions, tuple(sorted(claimed)), said_by=said_by)


def _rows(file: Path, names: dict[int, str]) -> list[Row]:
    """The regions of a label file: class index and coordinates; UserError names the first line that is none."""
    rows = []
    for number, text in enumerate(read_text(file).splitlines(), 1):
        if text.strip():
            try:
                rows.append(_row(text, names))
            except ValueError as error:
                raise UserError(f"{shown(str(file))}: line {number} {error}") from None
    return rows


def _row(text: str, names: dict[int, str]) -> Row:
    """The class index and the coordinates of a line; ValueError says what is wrong with it."""
    words = text.split()
    try:
        index, numbers = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError("is not a class index and coordinates; export as YOLO segmentation") from None
    if index not in names:
        raise ValueError(f"has the class index {index}, which has no name; add it to the names")
    if len(numbers) == BOX_NUMBERS:
        raise ValueError("is a box, and a box alone is not a mask; draw outlines and export them as segmentation")
    if len(numbers) < LEAST_NUMBERS or len(numbers) % 2:
        raise ValueError(f"has {len(numbers)} coordinates; want x and y of three points or more")
    if not all(math.isfinite(n) and -BEYOND <= n <= 1 + BEYOND for n in numbers):
        raise ValueError("has a coordinate that is not from 0 to 1: are these pixels? export as YOLO segmentation")
    if _begins_with_box(numbers):
        raise ValueError("has a box before its outline; export as YOLO segmentation, which has the outline alone")
    return index, numbers


def _begins_with_box(numbers: list[float]) -> bool:
    """Whether the first four numbers are centre and size of the outline that follows, as some tools write it."""
    xs, ys = numbers[4::2], numbers[5::2]
    if len(xs) < LEAST_NUMBERS // 2:
        return False
    box = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys))
    return all(abs(a - b) < 2e-3 for a, b in zip(box, numbers, strict=False))

"""Reads LabelMe: a JSON file per picture; https://github.com/wkentaro/labelme."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspectd.runtime.errors import UserError
from inspectd_train.data.folder import damage, read_json
from inspectd_train.data.imports.regions import (
    Box,
    LabelledRegion,
    Patch,
    Rules,
    circle,
    line,
    polygon,
    rectangle,
)
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet
from inspectd_train.data.labels import BACKGROUNDS, label_of
from inspectd_train.data.sources import files_below, files_in, is_picture, place, shown


def read_labelme(source: Path, rules: Rules) -> LabelledSet:
    """Reads all JSON files below the folder `source`; `rules.missing` says what becomes of pictures without one.

    Such are looked for everywhere below `source`, and beside the pictures that the JSON files name.

    Shapes: polygon, oriented_rectangle, rotation, rectangle, circle, mask, line and linestrip (`rules.line_px`).
    """
    below = list(files_below(source)) if source.is_dir() else []
    files = [f for f in below if f.suffix == ".json"]
    if not files:
        raise UserError(f"{source}: no LabelMe JSON files in this folder")
    pictures = [_picture(source, file, rules) for file in files]
    elsewhere = {p.file.parent for p in pictures if p.file.is_file()} - {f.parent for f in below}
    seen = [*below, *(f for folder in sorted(elsewhere) for f in files_in(folder))]
    seen = list({place(f): f for f in seen}.values())
    known = {place(p.file) for p in pictures}
    bare = [f for f in seen if is_picture(f) and place(f) not in known]
    lost = [p for p in pictures if not p.file.is_file()]
    if bare and not lost and rules.missing == "error":
        raise UserError(
            f"{shown(str(bare[0]))}: has no label file, like {len(bare)} in all; say --missing clean or skip"
        )
    if rules.missing == "clean":
        pictures += [LabelledPicture(f, _name(source, f), _nothing, ()) for f in bare]
    labels = {label for p in pictures for label in p.claimed or ()}
    reasons = dict.fromkeys(bare, "no label file")
    return LabelledSet(tuple(sorted(labels)), tuple(pictures), source, tuple(seen), tuple(files), reasons)


def _nothing(_height: int, _width: int) -> list[LabelledRegion]:
    return []


def _picture(source: Path, file: Path, rules: Rules) -> LabelledPicture:
    content = read_json(file)
    try:
        shapes = content["shapes"]
        claimed = {label_of(s["label"]) for s in shapes} - {*BACKGROUNDS, *rules.dont_care}
        image = file.parent / label_of(content["imagePath"]).replace("\\", "/")
        stated = (content.get("imageHeight"), content.get("imageWidth"))
        tags = frozenset(str(flag) for flag, is_set in (content.get("flags") or {}).items() if is_set)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: not a LabelMe file ({damage(error)}); take it out") from None
    if not image.is_file():
        image = file.parent / image.name  # files were moved together, as they often are

    def regions(height: int, width: int) -> Iterator[LabelledRegion]:
        if None not in stated and stated != (height, width):
            raise UserError(f"is {width} x {height} px, the labels are for {stated[1]} x {stated[0]}")
        for number, shape in enumerate(shapes, 1):
            yield _region(shape, f"shape {number}", rules, height, width)

    by = file.relative_to(source).as_posix()
    return LabelledPicture(image, _name(source, image), regions, tuple(sorted(claimed)), said_by=by, tags=tags)


def _name(source: Path, image: Path) -> str:
    """The picture's path below the source; of one elsewhere the file's name alone."""
    inside = Path(place(image)).is_relative_to(place(source))
    return Path(place(image)).relative_to(place(source)).as_posix() if inside else image.name


def _region(shape: dict[str, Any], where: str, rules: Rules, height: int, width: int) -> LabelledRegion:
    kind = str(shape.get("shape_type") or "polygon")
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
        patch, box = _patch(kind, points, shape, rules, height, width), None
        if kind == "mask":
            (left, top), (right, bottom) = points  # of the last pixel, which is inside
            box = Box(round(left), round(top), round(right) + 1, round(bottom) + 1)
    except (KeyError, TypeError, binascii.Error) as error:
        raise UserError(f"{where} of kind {kind!r} is damaged ({damage(error)})") from None
    return LabelledRegion(label_of(shape["label"]), patch, box, where)


def _patch(
    kind: str, points: list[tuple[float, float]], shape: dict[str, Any], rules: Rules, height: int, width: int
) -> Patch:
    if kind in ("polygon", "oriented_rectangle") and len(points) >= 3:
        return polygon(points, height, width)
    if kind in ("rectangle", "rotation") and len(points) == 4:  # its corners, as other tools write it
        return polygon(points, height, width)
    if kind == "rectangle" and len(points) == 2:
        return rectangle(points[0], points[1], height, width)
    if kind == "circle" and len(points) == 2:
        return circle(points[0], math.dist(*points), height, width)
    if kind == "mask" and len(points) == 2:
        return _pasted(str(shape["mask"]), points[0], height, width)
    if kind in ("line", "linestrip") and len(points) >= 2:
        if rules.line_px is None:
            raise UserError("a labelled line has no width of its own; name it with --line-px")
        return line(points, rules.line_px, height, width)
    raise UserError(f"a shape of kind {kind!r} with {len(points)} points has no area; draw a polygon")


def _pasted(text: str, corner: tuple[float, float], height: int, width: int) -> Patch:
    """Reads a mask stored as base64 of a PNG, whose first pixel stands at `corner`."""
    data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    small = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    if small is None:
        raise UserError("a shape of kind 'mask' holds no picture")
    left, top = round(corner[0]), round(corner[1])
    high, wide = small.shape
    if left < 0 or top < 0 or top + high > height or left + wide > width:
        raise UserError("a shape of kind 'mask' reaches out of the picture")
    return Patch(top, left, np.asarray(small > 0), Box(left, top, left + wide, top + high))

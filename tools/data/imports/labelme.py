"""Reads LabelMe: a JSON file per picture; https://github.com/wkentaro/labelme."""

from __future__ import annotations

import base64
import binascii
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import image_files
from inspectd_train.data.dataset import BACKGROUND
from inspectd_train.data.folder import read_json
from inspectd_train.data.imports.regions import Inside, LabelledRegion, Rules, circle, line, polygon, rectangle
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet


def read_labelme(source: Path, rules: Rules) -> LabelledSet:
    """Reads all JSON files below the folder `source`; `rules.missing` says what becomes of pictures without one.

    Such are looked for beside the JSON files and beside the pictures that these name.

    Shapes: polygon, oriented_rectangle, rectangle, circle, line and linestrip (with `rules.line_px`), mask.
    """
    files = sorted(source.rglob("*.json"))
    if not files:
        raise UserError(f"{source}: no LabelMe JSON files in this folder")
    pictures = [_picture(source, file, rules) for file in files]
    known = {p.file.resolve() for p in pictures}
    for folder in sorted({f.parent.resolve() for f in (*files, *known)}):
        bare = [f for f in image_files(folder) if f.resolve() not in known]
        if bare and rules.missing == "error":
            raise UserError(
                f"{bare[0]}: has no label file, like {len(bare)} in its folder; say --missing clean or skip"
            )
        if rules.missing == "clean":
            pictures += [LabelledPicture(f, _name(source, f), _nothing, ()) for f in bare]
    labels = {label for p in pictures for label in p.claimed or ()}
    return LabelledSet(tuple(sorted(labels)), tuple(pictures))


def _nothing(_height: int, _width: int) -> list[LabelledRegion]:
    return []


def _picture(source: Path, file: Path, rules: Rules) -> LabelledPicture:
    content = read_json(file)
    try:
        shapes = content["shapes"]
        shown = {str(s["label"]) for s in shapes} - {BACKGROUND, *rules.dont_care}
        image = file.parent / str(content["imagePath"]).replace("\\", "/")
        stated = (content.get("imageHeight"), content.get("imageWidth"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: not a LabelMe file ({type(error).__name__}: {error}); take it out") from None
    if not image.is_file():
        image = file.parent / image.name  # files were moved together, as they often are

    def regions(height: int, width: int) -> list[LabelledRegion]:
        if None not in stated and stated != (height, width):
            raise UserError(f"is {width} x {height} px, the labels are for {stated[1]} x {stated[0]}")
        return [LabelledRegion(str(s["label"]), _inside(s, rules, height, width)) for s in shapes]

    return LabelledPicture(image, _name(source, image), regions, tuple(sorted(shown)))


def _name(source: Path, image: Path) -> str:
    """The picture's path below the source; of one elsewhere the file's name alone."""
    inside = image.resolve().is_relative_to(source.resolve())
    return image.resolve().relative_to(source.resolve()).as_posix() if inside else image.name


def _inside(shape: dict[str, Any], rules: Rules, height: int, width: int) -> Inside:
    kind = str(shape.get("shape_type") or "polygon")
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
        if kind in ("polygon", "oriented_rectangle") and len(points) >= 3:
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
    except (KeyError, TypeError, binascii.Error) as error:
        raise UserError(f"a shape of kind {kind!r} is damaged ({type(error).__name__}: {error})") from None
    raise UserError(f"a shape of kind {kind!r} with {len(points)} points has no area; draw a polygon")


def _pasted(text: str, corner: tuple[float, float], height: int, width: int) -> Inside:
    """Reads a mask stored as base64 of a PNG, whose first pixel stands at `corner`."""
    small = cv2.imdecode(np.frombuffer(base64.b64decode(text, validate=True), np.uint8), cv2.IMREAD_GRAYSCALE)
    if small is None:
        raise UserError("a shape of kind 'mask' holds no picture")
    left, top = round(corner[0]), round(corner[1])
    if left < 0 or top < 0 or top + small.shape[0] > height or left + small.shape[1] > width:
        raise UserError("a shape of kind 'mask' reaches out of the picture")
    inside = np.zeros((height, width), bool)
    inside[top : top + small.shape[0], left : left + small.shape[1]] = small > 0
    return inside

"""Reads CVAT for images 1.1: one annotations.xml for all pictures; https://docs.cvat.ai/docs/other/xml_format."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import BACKGROUND
from inspectd_train.data.imports.regions import Inside, LabelledRegion, Rules, line, polygon, rectangle, runs
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet

SHAPES = ("polygon", "box", "mask", "polyline", "ellipse", "points", "cuboid", "skeleton")


def read_cvat(source: Path, images: Path | None, rules: Rules) -> LabelledSet:
    """Reads `source`, an XML file or a folder with annotations.xml; pictures lie in `images`, else images/.

    Shapes: polygon, box, mask, polyline (with `rules.line_px`), laid on each other by their z_order.
    """
    file = source / "annotations.xml" if source.is_dir() else source
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: can't be read ({error}); check the path") from None
    if "<!ENTITY" in text:  # CVAT writes none, and nested ones would fill the memory
        raise UserError(f"{file}: not an export of CVAT; export it anew")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UserError(f"{file}: not XML ({error}); export it anew") from None
    if root.tag != "annotations" or root.find("image") is None:
        raise UserError(f"{file}: no <image> in it; export as 'CVAT for images 1.1'")
    folders = [images] if images else [file.parent / "images", file.parent]
    try:
        pictures = tuple(_picture(entry, folders, rules) for entry in root.iter("image"))
    except ValueError as error:
        raise UserError(f"{file}: a z_order is no number ({error}); export it anew") from None
    used = {label for picture in pictures for label in picture.claimed or ()}
    order = [e.findtext("name") or "" for e in root.iter("label")] + sorted(used)
    return LabelledSet(tuple(dict.fromkeys(name for name in order if name in used)), pictures)


def _picture(entry: ElementTree.Element, folders: list[Path], rules: Rules) -> LabelledPicture:
    name = entry.get("name", "")
    file = next((f / name for f in folders if (f / name).is_file()), folders[0] / name)
    shapes = sorted((e for e in entry if e.tag in SHAPES), key=lambda e: int(e.get("z_order", "0")))
    stated = (entry.get("height"), entry.get("width"))

    def regions(height: int, width: int) -> list[LabelledRegion]:
        if stated != (str(height), str(width)):
            raise UserError(f"is {width} x {height} px, the labels are for {stated[1]} x {stated[0]}")
        return [LabelledRegion(e.get("label", ""), _inside(e, rules, height, width)) for e in shapes]

    shown = {e.get("label", "") for e in shapes} - {BACKGROUND, *rules.dont_care}
    return LabelledPicture(file, name, regions, tuple(sorted(shown)), bool(shapes))


def _inside(shape: ElementTree.Element, rules: Rules, height: int, width: int) -> Inside:
    def number(key: str) -> float:
        return float(shape.attrib[key])

    try:
        if shape.tag == "box":
            if float(shape.get("rotation", "0")) != 0:
                raise UserError("a rotated box can't be imported; draw a polygon")
            return rectangle((number("xtl"), number("ytl")), (number("xbr"), number("ybr")), height, width)
        if shape.tag == "mask":
            return _pasted(shape, height, width)
        if shape.tag in ("polygon", "polyline"):
            pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
            points = [(float(x), float(y)) for x, y in pairs]
            if shape.tag == "polygon":
                return polygon(points, height, width)
            if rules.line_px is None:
                raise UserError("a labelled line has no width of its own; name it with --line-px")
            return line(points, rules.line_px, height, width)
    except (KeyError, ValueError) as error:
        raise UserError(f"a {shape.tag} is damaged ({type(error).__name__}: {error})") from None
    raise UserError(f"a {shape.tag} can't be imported; draw a polygon or a mask")


def _pasted(shape: ElementTree.Element, height: int, width: int) -> Inside:
    """Reads a mask: run lengths row by row within its own box, outside first."""
    left, top, wide, high = (int(shape.attrib[key]) for key in ("left", "top", "width", "height"))
    if left < 0 or top < 0 or left + wide > width or top + high > height:
        raise UserError("a mask reaches out of the picture")
    inside = np.zeros((height, width), bool)
    counts = [int(n) for n in shape.attrib["rle"].split(",")]
    inside[top : top + high, left : left + wide] = runs(counts, high, wide, by_column=False)
    return inside

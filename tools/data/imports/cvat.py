"""Reads CVAT for images 1.1: one annotations.xml for all pictures; https://docs.cvat.ai/docs/other/xml_format."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import FORMATS
from inspectd_train.data.folder import damage, read_text
from inspectd_train.data.imports.regions import (
    Box,
    LabelledRegion,
    Patch,
    Rules,
    line,
    polygon,
    runs,
)
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet
from inspectd_train.data.labels import BACKGROUNDS, label_of, says_good
from inspectd_train.data.sources import files_below, files_in, place

SHAPES = ("polygon", "box", "mask", "polyline", "ellipse", "points", "cuboid", "skeleton")


def read_cvat(source: Path, images: Path | None, rules: Rules) -> LabelledSet:
    """Reads `source`, an XML file or a folder with annotations.xml; pictures lie in `images`, else images/.

    Those of a project lie there in a folder for each subset. The frames of a video have no suffix in the XML file.
    Shapes: polygon, box, also turned, mask, polyline (with `rules.line_px`), laid on each other by their z_order.
    """
    file = source / "annotations.xml" if source.is_dir() else source
    root = _read_xml(file)
    folders = [images] if images else [file.parent / "images", file.parent]
    try:
        pictures = tuple(_picture(entry, folders, rules, file) for entry in root.iter("image"))
    except UserError:
        raise
    except (ValueError, LookupError) as error:
        raise UserError(f"{file}: not annotations of CVAT ({damage(error)}); export it anew") from None
    used = {label for picture in pictures for label in picture.claimed or ()}
    order = [e.findtext("name") or "" for e in root.iter("label")] + sorted(used)
    classes = tuple(dict.fromkeys(name for name in order if name in used))
    inside = [folder for folder in folders if folder != file.parent and folder.is_dir()]
    beside = sorted({p.file.parent for p in pictures if p.file.is_file()})
    seen = [
        *(f for folder in inside for f in files_below(folder)),
        *(f for folder in beside for f in files_in(folder)),
    ]
    seen = list({place(f): f for f in seen}.values())
    reasons = dict.fromkeys(seen, f"not in {file.name}")
    return LabelledSet(classes, pictures, file.parent, tuple(seen), (file,), reasons)


def _read_xml(file: Path) -> ElementTree.Element:
    text = read_text(file)
    if "<!ENTITY" in text:  # CVAT writes none, and nested ones would fill the memory
        raise UserError(f"{file}: not an export of CVAT; export it anew")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UserError(f"{file}: not XML ({error}); export it anew") from None
    if root.tag != "annotations" or root.find("image") is None:
        raise UserError(f"{file}: no <image> in it; export as 'CVAT for images 1.1'")
    return root


def _picture(entry: ElementTree.Element, folders: list[Path], rules: Rules, source: Path) -> LabelledPicture:
    subset, name = entry.get("subset") or "", label_of(entry.get("name"))
    file, name = _find(folders, [f"{subset}/{name}", name] if subset else [name])
    shapes = sorted((e for e in entry if e.tag in SHAPES), key=lambda e: int(e.get("z_order", "0")))
    stated = (entry.get("height"), entry.get("width"))
    tags = frozenset(label_of(e.get("label")) for e in entry if e.tag == "tag")

    def regions(height: int, width: int) -> Iterator[LabelledRegion]:
        if stated != (str(height), str(width)):
            raise UserError(f"is {width} x {height} px, the labels are for {stated[1]} x {stated[0]}")
        for number, shape in enumerate(shapes, 1):
            where = f"{shape.tag} {number}"
            yield LabelledRegion(label_of(shape.get("label")), _patch(shape, rules, height, width), None, where)

    claimed = {label_of(e.get("label")) for e in shapes} - {*BACKGROUNDS, *rules.dont_care}
    looked_at = bool(shapes) or any(says_good(tag) for tag in tags)
    by = f"the image id {entry.get('id')} in {source.name}"
    return LabelledPicture(file, name, regions, tuple(sorted(claimed)), looked_at, by, tags)


def _find(folders: list[Path], names: list[str]) -> tuple[Path, str]:
    """Finds a picture by the first of its possible names that is there; frames lack their suffix."""
    for name in names:
        suffixes = [""] if Path(name).suffix.lower() in FORMATS else ["", *FORMATS, *(s.upper() for s in FORMATS)]
        for folder in folders:
            found = [f"{name}{suffix}" for suffix in suffixes if (folder / f"{name}{suffix}").is_file()]
            if len(found) > 1:
                raise UserError(
                    f"{folder}: {found[0]} and {found[1]} may both be the picture {name}; take one away"
                )
            if found:
                return folder / found[0], found[0]
    return folders[0] / names[0], names[0]


def _patch(shape: ElementTree.Element, rules: Rules, height: int, width: int) -> Patch:
    def number(key: str) -> float:
        return float(shape.attrib[key])

    try:
        if shape.tag == "box":
            box = Box(number("xtl"), number("ytl"), number("xbr"), number("ybr"))
            return polygon(_turned(box, float(shape.get("rotation", "0"))), height, width)
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
        raise UserError(f"a {shape.tag} is damaged ({damage(error)})") from None
    raise UserError(f"a {shape.tag} can't be imported; draw a polygon or a mask")


def _turned(box: Box, degrees: float) -> list[tuple[float, float]]:
    """The corners of a box that is turned around its centre, clockwise as it is seen."""
    corners = [(box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom)]
    if not degrees:
        return corners
    centre = complex(box.left + box.right, box.top + box.bottom) / 2
    turn = cmath.exp(1j * math.radians(degrees))
    turned = [centre + turn * (complex(x, y) - centre) for x, y in corners]
    return [(corner.real, corner.imag) for corner in turned]


def _pasted(shape: ElementTree.Element, height: int, width: int) -> Patch:
    """Reads a mask: run lengths row by row within its own box, outside first."""
    left, top, wide, high = (int(shape.attrib[key]) for key in ("left", "top", "width", "height"))
    if left < 0 or top < 0 or left + wide > width or top + high > height:
        raise UserError("a mask reaches out of the picture")
    counts = [int(n) for n in shape.attrib["rle"].split(",")]
    return Patch(top, left, runs(counts, high, wide, by_column=False), None)

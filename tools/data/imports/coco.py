"""Reads COCO: one JSON file with categories, images and annotations (polygons or run lengths); https://cocodataset.org."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspectd.runtime.errors import UserError
from inspectd_train.data.folder import damage, read_json
from inspectd_train.data.imports.regions import (
    Box,
    LabelledRegion,
    Patch,
    Rules,
    coco_counts,
    joined,
    polygon,
    runs,
    whole,
)
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet
from inspectd_train.data.labels import BACKGROUNDS, label_of
from inspectd_train.data.sources import files_in

Entries = dict[int | str, dict[str, Any]]


def read_coco(source: Path, images: Path | None, rules: Rules) -> LabelledSet:
    """Reads the JSON file `source`, or the only one in the folder `source` or its annotations/.

    Pictures are looked for in `images`, else beside the file, in images/ there and in images/ one folder up.
    A class is what an annotation uses, in the order of the category ids.
    """
    file = _the_file(source)
    content = read_json(file)
    folders = [images] if images else [file.parent, file.parent / "images", file.parent.parent / "images"]
    try:
        named = {
            k: label_of(c["name"]) for k, c in _by_id(file, content["categories"], "category", "name").items()
        }
        listed = _by_id(file, content["images"], "image", "file_name")
        regions: dict[int | str, list[dict[str, Any]]] = {k: [] for k in listed}
        for annotation in content["annotations"]:
            category, image = _id(annotation["category_id"]), _id(annotation["image_id"])
            if category not in named or image not in regions:
                raise UserError(
                    f"{file}: annotation {annotation.get('id')} names a category or image that isn't there"
                )
            regions[image].append(annotation)
        pictures = tuple(_picture(k, i, regions[k], named, folders, rules, file.name) for k, i in listed.items())
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: not COCO annotations ({damage(error)}); export it anew") from None
    used = {label for picture in pictures for label in picture.claimed or ()}
    names = dict.fromkeys(named[k] for k in sorted(named, key=lambda k: (isinstance(k, str), k)))
    seen = [
        f for folder in sorted({p.file.parent for p in pictures if p.file.is_file()}) for f in files_in(folder)
    ]
    left = dict.fromkeys(seen, f"not in {file.name}")
    classes = tuple(name for name in names if name in used)
    return LabelledSet(classes, pictures, file.parent, tuple(seen), (file,), left, _doubts(file, content))


def _the_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    found = [f for folder in (source, source / "annotations") if folder.is_dir() for f in files_in(folder)]
    found = [f for f in found if f.suffix == ".json"]
    if len(found) != 1:
        raise UserError(f"{source}: {len(found)} JSON files here and in annotations/; name the one to import")
    return found[0]


def _id(value: Any) -> int | str:
    """An id as it is compared: 7, 7.0 and "7" are one. ValueError for what is none."""
    if isinstance(value, str):
        return int(value) if value.isdecimal() else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise ValueError(f"{value!r} is no id")
    return int(value)


def _by_id(file: Path, entries: list[dict[str, Any]], kind: str, named_by: str) -> Entries:
    """Lists entries by id; UserError names two that share one: all labels would go to one of them.

    The same entry more than once is harmless: VIA writes a category once for each attribute that has it.
    """
    found: Entries = {}
    for entry in entries:
        other = found.setdefault(_id(entry["id"]), entry)
        if other is not entry and other.get(named_by) != entry.get(named_by):
            names = f"{str(other.get(named_by))!r} and {str(entry.get(named_by))!r}"
            raise UserError(f"{file}: the {kind} id {entry['id']} stands for {names}; give each an id of its own")
    return found


def _doubts(file: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """Says that annotations share an id, as when files were put together badly; no harm is done by it alone."""
    ids = Counter(str(annotation.get("id")) for annotation in content["annotations"])
    twice = [key for key, count in ids.items() if count > 1 and key != "None"]
    return (f"{file}: {len(twice)} annotation ids stand twice, the first is {twice[0]}",) if twice else ()


def _picture(
    key: int | str,
    entry: dict[str, Any],
    annotations: list[dict[str, Any]],
    named: dict[int | str, str],
    folders: list[Path],
    rules: Rules,
    said_by: str,
) -> LabelledPicture:
    name = label_of(entry["file_name"]).replace("\\", "/")
    file = next((folder / name for folder in folders if (folder / name).is_file()), folders[0] / name)
    stated = (int(entry["height"]), int(entry["width"]))

    def regions(height: int, width: int) -> Iterator[LabelledRegion]:
        if (height, width) != stated:
            raise UserError(f"is {width} x {height} px, the labels are for {stated[1]} x {stated[0]}")
        for a in annotations:
            where = f"annotation {a.get('id')}"
            yield LabelledRegion(named[_id(a["category_id"])], _patch(a, height, width), _box(a), where)

    shown = {named[_id(a["category_id"])] for a in annotations} - {*BACKGROUNDS, *rules.dont_care}
    by = f"the image id {key} in {said_by}"
    return LabelledPicture(file, name, regions, tuple(sorted(shown)), bool(annotations), by)


def _box(annotation: dict[str, Any]) -> Box | None:
    """The box that an annotation names, if it names one with an area."""
    box = annotation.get("bbox")
    if not box:
        return None
    left, top, wide, high = (float(number) for number in box)
    return Box(left, top, left + wide, top + high) if wide > 0 and high > 0 else None


def _patch(annotation: dict[str, Any], height: int, width: int) -> Patch:
    shape = annotation.get("segmentation")
    if isinstance(shape, dict):
        if list(shape.get("size", [])) != [height, width]:
            raise UserError(f"annotation {annotation.get('id')}: run lengths for another size {shape.get('size')}")
        counts = shape.get("counts")
        numbers = coco_counts(counts) if isinstance(counts, str) else [int(n) for n in counts or ()]
        return whole(runs(numbers, height, width, by_column=True))
    if isinstance(shape, list) and all(isinstance(number, (int, float)) for number in shape):
        shape = [shape] if shape else []  # one outline that is not in a list of outlines, as VIA 2 writes it
    if not isinstance(shape, list) or not shape or any(len(flat) < 6 or len(flat) % 2 for flat in shape):
        raise UserError(f"annotation {annotation.get('id')} has no outline (a box alone is not a mask); draw one")
    return joined([polygon(list(zip(flat[::2], flat[1::2], strict=True)), height, width) for flat in shape])

"""Reads COCO: one JSON file with categories, images and annotations (polygons or run lengths); https://cocodataset.org."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import BACKGROUND
from inspectd_train.data.folder import read_json
from inspectd_train.data.imports.regions import Inside, LabelledRegion, Rules, coco_counts, polygon, runs
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet


def read_coco(source: Path, images: Path | None, rules: Rules) -> LabelledSet:
    """Reads the JSON file `source`, or the only one in the folder `source` or its annotations/.

    Pictures are looked for in `images`, else beside the file, in images/ there and in images/ one folder up.
    A class is what an annotation uses, in the order of the category ids.
    """
    file = _the_file(source)
    content = read_json(file)
    try:
        category = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        regions: dict[int, list[dict[str, Any]]] = {int(i["id"]): [] for i in content["images"]}
        for annotation in content["annotations"]:
            if annotation["category_id"] not in category or annotation["image_id"] not in regions:
                raise UserError(
                    f"{file}: annotation {annotation.get('id')} names a category or image that isn't there"
                )
            regions[annotation["image_id"]].append(annotation)
        used = {category[a["category_id"]] for found in regions.values() for a in found}
        folders = [images] if images else [file.parent, file.parent / "images", file.parent.parent / "images"]
        pictures = tuple(_picture(i, regions[int(i["id"])], category, folders, rules) for i in content["images"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file}: not COCO annotations ({type(error).__name__}: {error}); export it anew"
        ) from None
    names = dict.fromkeys(category[k] for k in sorted(category))
    return LabelledSet(tuple(n for n in names if n in used and n not in {BACKGROUND, *rules.dont_care}), pictures)


def _the_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    found = sorted([*source.glob("*.json"), *source.glob("annotations/*.json")])
    if len(found) != 1:
        raise UserError(f"{source}: {len(found)} JSON files here and in annotations/; name the one to import")
    return found[0]


def _picture(
    entry: dict[str, Any],
    annotations: list[dict[str, Any]],
    category: dict[int, str],
    folders: list[Path],
    rules: Rules,
) -> LabelledPicture:
    name = str(entry["file_name"]).replace("\\", "/")
    file = next((folder / name for folder in folders if (folder / name).is_file()), folders[0] / name)
    stated = (int(entry["height"]), int(entry["width"]))

    def regions(height: int, width: int) -> list[LabelledRegion]:
        if (height, width) != stated:
            raise UserError(f"is {width} x {height} px, the labels are for {stated[1]} x {stated[0]}")
        return [LabelledRegion(category[a["category_id"]], _inside(a, height, width)) for a in annotations]

    shown = {category[a["category_id"]] for a in annotations} - {BACKGROUND, *rules.dont_care}
    return LabelledPicture(file, name, regions, tuple(sorted(shown)), bool(annotations))


def _inside(annotation: dict[str, Any], height: int, width: int) -> Inside:
    shape = annotation.get("segmentation")
    if isinstance(shape, dict):
        if list(shape.get("size", [])) != [height, width]:
            raise UserError(f"annotation {annotation.get('id')}: run lengths for another size {shape.get('size')}")
        counts = shape.get("counts")
        numbers = coco_counts(counts) if isinstance(counts, str) else [int(n) for n in counts or ()]
        return runs(numbers, height, width, by_column=True)
    if not isinstance(shape, list) or not shape or any(len(flat) < 6 or len(flat) % 2 for flat in shape):
        raise UserError(f"annotation {annotation.get('id')} has no outline (a box alone is not a mask); draw one")
    parts = [polygon(list(zip(flat[::2], flat[1::2], strict=True)), height, width) for flat in shape]
    inside = parts[0]
    for part in parts[1:]:
        inside = inside | part
    return inside

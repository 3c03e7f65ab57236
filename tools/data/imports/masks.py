"""Reads folders images/ and masks/ of equal names: masks of class indices, or of one colour per class."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import image_files, read_image
from inspectd_train.data.dataset import BACKGROUND, DONT_CARE
from inspectd_train.data.folder import read_json
from inspectd_train.data.imports.regions import LabelledRegion, Mask, Rules
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet

Colours = dict[str, tuple[int, int, int]]


def read_masks(source: Path, colours: Colours | None, rules: Rules) -> LabelledSet:
    """Reads images/NAME.* and masks/NAME.*; indices mean what classes.json in `source` says, 255 is don't-care.

    With `colours` (RGB by class name) each pixel of a mask must have one of these colours, black = background
    unless another class has it.
    """
    if colours is None:
        names = read_json(source / "classes.json")
        if not isinstance(names, dict) or sorted(names) != sorted(str(k) for k in range(len(names))):
            raise UserError(f'{source / "classes.json"}: want {{"0": "background", "1": "..."}}, or use --colours')
        classes = [BACKGROUND, *(str(names[str(k)]) for k in range(1, len(names)))]
    else:
        classes = [BACKGROUND, *(n for n in colours if n != BACKGROUND and n not in rules.dont_care)]
    for folder in (source / "images", source / "masks"):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; this format wants images/ and masks/")
    masks = {f.stem: f for f in image_files(source / "masks")}
    pictures = []
    for file in image_files(source / "images"):
        mask = masks.pop(file.stem, None)
        if mask is None and rules.missing == "error":
            raise UserError(
                f"{file}: has no mask; add masks/{file.stem}.png, or say --missing clean or --missing skip"
            )
        if mask is not None or rules.missing == "clean":
            pictures.append(_picture(file, mask, classes, colours, rules))
    if masks:
        raise UserError(f"{next(iter(masks.values()))}: a mask without a picture; add the picture or remove it")
    return LabelledSet(tuple(classes[1:]), tuple(pictures))


def parse_colours(texts: list[str]) -> Colours:
    """Reads ["crack=#ff0000"] as {"crack": (255, 0, 0)}; UserError names what isn't understood."""
    colours: Colours = {}
    for text in texts:
        found = re.fullmatch(r"(.+)=#?([0-9a-fA-F]{6})", text.strip())
        if not found:
            raise UserError(f"--colours {text}: want name=#rrggbb, as in crack=#ff0000")
        red, green, blue = bytes.fromhex(found[2])
        if (red, green, blue) in colours.values() or found[1] in colours:
            raise UserError(f"--colours {text}: a name or a colour stands there twice")
        colours[found[1]] = (red, green, blue)
    return colours


def _picture(
    file: Path, mask: Path | None, classes: list[str], colours: Colours | None, rules: Rules
) -> LabelledPicture:
    def regions(height: int, width: int) -> list[LabelledRegion]:
        if mask is None:
            return []
        pixels = read_image(mask)
        if pixels.shape[:2] != (height, width):
            raise UserError(f"is {width} x {height} px, its mask {pixels.shape[1]} x {pixels.shape[0]}")
        return _by_index(pixels, classes, rules) if colours is None else _by_colour(pixels, colours)

    return LabelledPicture(file, file.name, regions, None)


def _by_index(pixels: Mask, classes: list[str], rules: Rules) -> list[LabelledRegion]:
    if pixels.shape[2] != 1:
        raise UserError("its mask is coloured; want class indices in one 8-bit channel, or use --colours")
    regions = []
    for k in np.unique(pixels).tolist():
        if k >= len(classes) and k != DONT_CARE:
            raise UserError(f"its mask has the class index {k}, which classes.json doesn't name")
        name = classes[k] if k != DONT_CARE else min(rules.dont_care)
        regions.append(LabelledRegion(name, np.asarray(pixels[:, :, 0] == k)))
    return regions


def _by_colour(pixels: Mask, colours: Colours) -> list[LabelledRegion]:
    known = (
        colours if (0, 0, 0) in colours.values() or BACKGROUND in colours else colours | {BACKGROUND: (0, 0, 0)}
    )
    rgb = np.asarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    regions = [LabelledRegion(name, np.asarray((rgb == colour).all(axis=2))) for name, colour in known.items()]
    regions = [region for region in regions if region.inside.any()]
    alien = ~np.logical_or.reduce([np.zeros(rgb.shape[:2], bool), *(region.inside for region in regions)])
    if alien.any():
        y, x = np.argwhere(alien)[0]
        raise UserError(
            f"its mask has the colour #{bytes(rgb[y, x].tolist()).hex()} at x {x}, y {y}, which no class has "
            "(save masks as PNG: JPEG blurs colours)"
        )
    return regions

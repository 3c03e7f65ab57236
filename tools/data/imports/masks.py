"""Reads folders images/ and masks/ of equal names: masks of class indices, or of one colour per class."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import read_image
from inspectd.runtime.left_out import OTHER_PICTURES
from inspectd_train.data.dataset import BACKGROUND, DONT_CARE
from inspectd_train.data.folder import read_json
from inspectd_train.data.imports.regions import LabelledRegion, Mask, Rules, whole
from inspectd_train.data.imports.store import LabelledPicture, LabelledSet
from inspectd_train.data.labels import label_of
from inspectd_train.data.sources import files_below, grey_bits, is_picture, shown

Colours = dict[str, tuple[int, int, int]]
LOSSLESS = frozenset({".png", ".bmp", ".tif", ".tiff"})
"""Formats of masks; the others change pixels, and a changed index is another class."""


def read_masks(source: Path, colours: Colours | None, rules: Rules) -> LabelledSet:
    """Reads images/NAME.* and masks/NAME.*; indices mean what classes.json in `source` says, 255 is don't-care.

    Both may have subfolders, then the same. With `colours` (RGB by class name) each pixel of a mask must have one
    of these colours, black = background unless another class has it.
    """
    classes = (
        _classes(source) if colours is None else [n for n in colours if n not in {BACKGROUND, *rules.dont_care}]
    )
    for folder in (source / "images", source / "masks"):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; this format wants images/ and masks/")
    images, masks = (list(files_below(source / part)) for part in ("images", "masks"))
    by_stem = _by_stem(source / "masks", masks)
    pictures, bare = [], []
    for stem, file in _by_stem(source / "images", images).items():
        mask = by_stem.pop(stem, None)
        if not is_picture(file):
            if mask is not None:
                raise UserError(f"{shown(str(file))}: is of a format that is not read; save it as PNG")
            continue  # counted with what is left out
        if mask is None and rules.missing == "error":
            what = f"add masks/{shown(stem)}.png, or say --missing clean or --missing skip"
            raise UserError(f"{shown(str(file))}: has no mask; {what}")
        if mask is None:
            bare.append(file)
        if mask is not None or rules.missing == "clean":
            pictures.append(_picture(source, file, mask, classes, colours, rules))
    if by_stem:
        stray = shown(str(next(iter(by_stem.values()))))
        raise UserError(f"{stray}: a mask without a picture; add the picture or remove it")
    used = [f for f in masks if is_picture(f)]
    reasons = dict.fromkeys(bare, "no mask")
    return LabelledSet(tuple(classes), tuple(pictures), source, (*images, *masks), tuple(used), reasons)


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


def _classes(source: Path) -> list[str]:
    """The class names in classes.json without the background."""
    file = source / "classes.json"
    names = read_json(file)
    if not isinstance(names, dict) or sorted(names) != sorted(str(k) for k in range(len(names))):
        raise UserError(f'{file}: want {{"0": "background", "1": "..."}}, or use --colours')
    try:
        return [label_of(names[str(k)]) for k in range(1, len(names))]
    except ValueError as error:
        raise UserError(f"{file}: {error}; name every class") from None


def _by_stem(folder: Path, files: list[Path]) -> dict[str, Path]:
    """Pictures by path below `folder` without the suffix; UserError where two have one."""
    found: dict[str, Path] = {}
    for file in files:
        if is_picture(file) or file.suffix.lower() in OTHER_PICTURES:
            other = found.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
            if other is not file:
                raise UserError(
                    f"{shown(str(file))}: beside {shown(other.name)}, which has the same name; keep one"
                )
    return found


def _picture(
    source: Path, file: Path, mask: Path | None, classes: list[str], colours: Colours | None, rules: Rules
) -> LabelledPicture:
    def regions(height: int, width: int) -> Iterator[LabelledRegion]:
        if mask is None:
            return iter(())
        if mask.suffix.lower() not in LOSSLESS:
            there = shown(mask.relative_to(source).as_posix())
            raise UserError(
                f"its mask {there} is no PNG, BMP or TIFF (JPEG changes class indices); make it anew as PNG"
            )
        pixels = read_image(mask)
        if pixels.shape[:2] != (height, width):
            raise UserError(f"is {width} x {height} px, its mask {pixels.shape[1]} x {pixels.shape[0]}")
        if colours is not None:
            return _by_colour(pixels, colours)
        return _by_index(_indices(pixels, mask), classes, rules)

    name = file.relative_to(source / "images").as_posix()
    return LabelledPicture(file, name, regions, None, said_by=f"masks/{name}")


def _indices(pixels: Mask, mask: Path) -> Mask:
    """The class indices of a mask's pixels, uint8 [H, W]: its reader stretches 1, 2 and 4 bits to 0 to 255."""
    if pixels.shape[2] != 1:
        raise UserError("its mask is coloured; want class indices in one 8-bit channel, or use --colours")
    return np.asarray(pixels[:, :, 0] // (DONT_CARE // (2 ** grey_bits(mask) - 1)), np.uint8)


def _by_index(pixels: Mask, classes: list[str], rules: Rules) -> Iterator[LabelledRegion]:
    for k in np.unique(pixels).tolist():
        if k > len(classes) and k != DONT_CARE:
            raise UserError(f"its mask has the class index {k}, which classes.json doesn't name")
        name = [BACKGROUND, *classes][k] if k != DONT_CARE else min(rules.dont_care)
        yield LabelledRegion(name, whole(np.asarray(pixels == k)))


def _by_colour(pixels: Mask, colours: Colours) -> Iterator[LabelledRegion]:
    black = (0, 0, 0)
    known = colours if black in colours.values() or BACKGROUND in colours else colours | {BACKGROUND: black}
    rgb = np.asarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    alien = np.ones(rgb.shape[:2], np.bool_)
    for name, colour in known.items():
        inside = np.asarray((rgb == colour).all(axis=2))
        alien &= ~inside
        if inside.any():
            yield LabelledRegion(name, whole(inside))
    if alien.any():
        y, x = np.argwhere(alien)[0]
        raise UserError(
            f"its mask has the colour #{bytes(rgb[y, x].tolist()).hex()} at x {x}, y {y}, which no class has "
            "(scaled masks, and masks that were JPEG once, have such at their edges)"
        )

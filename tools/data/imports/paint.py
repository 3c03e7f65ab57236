"""Paints labelled regions into the mask of a picture, one at a time, and says what is odd about them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import BACKGROUND, DONT_CARE
from inspectd_train.data.imports.regions import Box, LabelledRegion, Mask, Patch, Rules
from inspectd_train.data.labels import BACKGROUNDS

T = TypeVar("T", bound=np.generic)
PERCENT = 100
OUT_PX = 2
"""How far a region may reach out of its picture before it is worth a word."""
BOX_PX, BOX_SHARE = 2, 0.05
"""How far a box may differ from its outline: px, and share of its larger side."""
UNLIKELY = 0.001


@dataclass
class Doubts:
    """What looks odd in the labels of a set and may be right: sentences of each kind, for a person to look at."""

    by_kind: dict[str, list[str]] = field(default_factory=dict)
    chance: float = 1.0
    """How likely it is that all regions lie within 100 px of the corner by chance; 0 regions: 1."""
    largest: tuple[int, int] = (0, 0)
    """The height and width of the largest picture with regions."""

    def add(self, kind: str, sentence: str) -> None:
        """Notes one more of a kind."""
        self.by_kind.setdefault(kind, []).append(sentence)

    def sentences(self) -> list[str]:
        """One sentence for each kind: the first of it, and how many there are."""
        found = [f"{s[0]}{f' ({len(s) - 1} more like it)' if len(s) > 1 else ''}" for s in self.by_kind.values()]
        if self.chance < UNLIKELY:
            size = f"{self.largest[1]} x {self.largest[0]} px"
            found.append(
                f"all regions lie within 0 to 100 on both axes, in pictures of up to {size}: are these percent? "
                "then export them in pixels"
            )
        return found


def paint(
    regions: Iterable[LabelledRegion],
    classes: Sequence[str],
    shape: tuple[int, int],
    rules: Rules,
    name: str,
    doubts: Doubts,
) -> Mask:
    """Paints regions into a mask, uint8 [H, W]; UserError (without a file's name) for what the rules forbid."""
    index = dict.fromkeys(BACKGROUNDS, 0) | {label: k for k, label in enumerate(classes, 1)}
    mask, labelled, unsure = np.zeros(shape, np.uint8), np.zeros(shape, bool), np.zeros(shape, bool)
    for region in regions:
        _check(region, index.keys() | rules.dont_care)
        _doubt(region, shape, name, doubts)
        patch = region.patch
        if region.label in rules.dont_care:
            _part(unsure, patch)[patch.inside] = True
            continue
        k, here, known = index[region.label], _part(mask, patch), _part(labelled, patch)
        clash = patch.inside & known & (here != k)
        if rules.overlap == "error" and clash.any():
            y, x = np.argwhere(clash)[0]
            other = [BACKGROUND, *classes][here[y, x]]
            at = f"x {x + patch.left}, y {y + patch.top}"
            raise UserError(f"{other} and {region.label} overlap at {at}; mend it, or --overlap later")
        here[patch.inside] = k
        known |= patch.inside
    mask[unsure] = DONT_CARE  # don't-care wins over everything: it is drawn along the borders of defects
    labelled |= unsure
    if rules.unlabelled == "error" and not labelled.all():
        y, x = np.argwhere(~labelled)[0]
        raise UserError(f"{np.count_nonzero(~labelled)} px are not labelled, the first at x {x}, y {y}")
    if rules.unlabelled == "dont-care":
        mask[~labelled] = DONT_CARE
    return mask


def _part(pixels: NDArray[T], patch: Patch) -> NDArray[T]:
    """The pixels of a picture where a patch lies, as a view."""
    high, wide = patch.inside.shape
    return pixels[patch.top : patch.top + high, patch.left : patch.left + wide]


def _check(region: LabelledRegion, known: Collection[str]) -> None:
    """UserError for a label that is none, and for a region that can't be of this picture in pixels."""
    if region.label not in known:
        raise UserError(f"the class {region.label!r} is not among the classes; name it there")
    extent = region.patch.extent
    if extent is not None and min(extent) >= 0 and max(extent) <= 1:
        raise UserError(
            f"{region.where} of {region.label!r} has coordinates from 0 to 1 only, which are of another scale; "
            "export them in pixels"
        )
    if not region.patch.inside.any():
        raise UserError(f"a region of {region.label!r} covers no pixel; it lies outside or is of another scale")


def _doubt(region: LabelledRegion, shape: tuple[int, int], name: str, doubts: Doubts) -> None:
    """Notes what is odd about a region: beyond the picture, another box than its own, all of them in a corner."""
    extent, (height, width) = region.patch.extent, shape
    what = f"{name}: {region.where} of {region.label!r}"
    if extent is not None:
        beyond = max(-extent.left, -extent.top, extent.right - width, extent.bottom - height)
        if beyond > OUT_PX:
            doubts.add("beyond", f"{what} reaches {beyond:.0f} px out of its picture of {width} x {height} px")
        if max(extent) > PERCENT:
            doubts.chance = np.inf
        doubts.chance *= min(1, PERCENT / width) * min(1, PERCENT / height)
        doubts.largest = max(doubts.largest, shape, key=lambda s: s[0] * s[1])
    if region.box is not None:
        own = extent or _covered(region.patch)
        apart = max(abs(a - b) for a, b in zip(own, region.box, strict=True))
        if apart > max(BOX_PX, BOX_SHARE * max(own.right - own.left, own.bottom - own.top)):
            doubts.add(
                "box", f"{what} has an outline of {_span(own)}, but a box of {_span(region.box)}; look at it"
            )


def _covered(patch: Patch) -> Box:
    """The box of the pixels of a patch, which fills it."""
    high, wide = patch.inside.shape
    return Box(patch.left, patch.top, patch.left + wide, patch.top + high)


def _span(box: Box) -> str:
    return f"x {box.left:.0f} to {box.right:.0f}, y {box.top:.0f} to {box.bottom:.0f} px"

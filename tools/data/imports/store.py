"""Writes a data set folder from labelled pictures: whole, or not at all."""

from __future__ import annotations

import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import read_image, shown_name, write_png
from inspectd_train.data.dataset import BACKGROUND, DONT_CARE
from inspectd_train.data.folder import damage, whole_folder, write_json
from inspectd_train.data.imports.leftovers import left_out
from inspectd_train.data.imports.paint import Doubts, paint
from inspectd_train.data.imports.regions import LabelledRegion, Mask, Rules
from inspectd_train.data.labels import doubtful_labels, says_good
from inspectd_train.data.sources import is_text, place, shown, turned

MOST_CLASSES = 254
MOST_SHOWN = 20
BLACK_AND_WHITE = (
    "its mask has only 0 and 255, and 255 is don't-care; for masks in black and white say "
    "`import masks --colours NAME=#ffffff`"
)


@dataclass(frozen=True)
class LabelledPicture:
    """One picture of a source and how to get its regions, once its height and width are known."""

    file: Path
    name: str
    """The path below the source, with /."""
    regions: Callable[[int, int], Iterable[LabelledRegion]]
    """Called once; the regions are painted as they come, so that only one need be in memory."""
    claimed: tuple[str, ...] | None
    """The classes that the source says it shows, () for a good part; None where the source says nothing."""
    looked_at: bool = True
    """Whether anything says that somebody did: in a list of all pictures one without regions may be waiting."""
    said_by: str = ""
    """The file, or the entry of a file, that labels it."""
    tags: frozenset[str] = frozenset()
    """What the source says of the whole picture, besides regions."""


@dataclass(frozen=True)
class LabelledSet:
    """What a reader found: class names without the background (class index = position + 1), and the pictures."""

    classes: tuple[str, ...]
    pictures: tuple[LabelledPicture, ...]
    root: Path
    """The folder that names of what is left out begin below."""
    seen: tuple[Path, ...]
    """All files that were there to be looked at."""
    labels: tuple[Path, ...]
    """The files with labels that were used."""
    reasons: Mapping[Path, str] = field(default_factory=dict)
    """Why files that were seen are left out, where the reader has decided it."""
    doubts: tuple[str, ...] = ()
    """What looks odd and may be right, a sentence each."""


@dataclass(frozen=True)
class Stored:
    """How an import ended: the number of pictures, what to look at, and what was left out, in words."""

    pictures: int
    doubts: tuple[str, ...]
    left_out: str


def store(source: LabelledSet, out: Path, rules: Rules) -> Stored:
    """Writes images/, masks/, classes.json and labels.json.

    Pictures are copied byte for byte. UserError lists the faults of all pictures; then nothing is written.
    """
    if not source.pictures:
        raise UserError(f"{source.root}: no labelled picture found; check the folder and the format")
    if not 1 <= len(source.classes) <= MOST_CLASSES:
        raise UserError(f"{len(source.classes)} classes of defects found, 1 to {MOST_CLASSES} can be stored")
    for label in source.classes:
        if not is_text(label):
            raise UserError(f"the class {shown(label)!r} has a name that is not UTF-8; rename it, also its folder")
    pictures = [p for p in source.pictures if p.looked_at or rules.missing != "skip"]
    _once(pictures)
    names = unique_names([p.name for p in pictures])
    doubts = Doubts()
    with whole_folder(out) as folder:
        faults, claims = [], {}
        for picture, name in zip(pictures, names, strict=True):
            try:
                _may_be_used(picture, source.classes, rules)
                mask, claim = _mask(picture, source.classes, rules, doubts)
                shutil.copyfile(picture.file, folder / "images" / name)
                write_png(folder / "masks" / f"{Path(name).stem}.png", mask)
                if claim is not None:
                    claims[name] = claim
            except UserError as error:
                faults.append(f"{shown(picture.name)}: {error}")
        if faults:
            more = [f"... and {len(faults) - MOST_SHOWN} more"] if len(faults) > MOST_SHOWN else []
            raise UserError("\n".join([*faults[:MOST_SHOWN], *more]))
        write_json(folder / "classes.json", {str(k): n for k, n in enumerate([BACKGROUND, *source.classes])})
        if claims:
            write_json(folder / "labels.json", claims)
    reasons = {**source.reasons, **{p.file: "no annotation" for p in source.pictures if not p.looked_at}}
    rest = left_out(source.root, source.seen, [*source.labels, *(p.file for p in pictures)], reasons)
    return Stored(len(names), (*source.doubts, *doubtful_labels(source.classes), *doubts.sentences()), rest)


def unique_names(paths: Sequence[str]) -> list[str]:
    """Makes a file name for each path, such that no two share their stem: with its folders where they would."""
    tries: tuple[Callable[[PurePosixPath], str], ...] = (
        lambda p: p.name,
        lambda p: "_".join(part for part in p.parts if part not in ("/", "..", ".")),
        lambda p: "_".join((*p.parts[:-1], f"{p.stem}-{p.suffix[1:]}{p.suffix}")),
    )
    names = [tries[0](PurePosixPath(p)) for p in paths]
    for other in tries[1:]:
        count = Counter(Path(name).stem.casefold() for name in names)
        twice = [count[Path(name).stem.casefold()] > 1 for name in names]
        names = [other(PurePosixPath(p)) if t else n for p, n, t in zip(paths, names, twice, strict=True)]
    count = Counter(Path(name).stem.casefold() for name in names)
    for name, path in zip(names, paths, strict=True):
        if count[Path(name).stem.casefold()] > 1:
            raise UserError(f"{shown(path)}: another picture has this name too; rename one")
    return names


def _once(pictures: Sequence[LabelledPicture]) -> None:
    """UserError when two labels are of one picture: one of them would be lost."""
    by_place: dict[str, LabelledPicture] = {}
    for picture in pictures:
        other = by_place.setdefault(place(picture.file), picture)
        if other is not picture:
            raise UserError(
                f"{shown(picture.name)}: is labelled twice, by {shown(other.said_by)} and by "
                f"{shown(picture.said_by)}; put all its regions into one of them and remove the other"
            )


def _may_be_used(picture: LabelledPicture, classes: Sequence[str], rules: Rules) -> None:
    """UserError, without the picture's name, for what makes a picture useless before its labels are read."""
    if not is_text(picture.name):
        raise UserError("its name is not UTF-8; rename it, also in the labels")
    if not picture.file.is_file():
        raise UserError(f"no such picture{_look_alike(picture.file)}, but {shown(picture.said_by)} names it")
    if (way := turned(picture.file)) != 1:
        raise UserError(
            f"EXIF says that it is to be turned (orientation {way}), so it may have been labelled turned; save it "
            "upright, without EXIF, and label that"
        )
    tags = sorted(t for t in picture.tags if t not in classes and t not in rules.dont_care and not says_good(t))
    if tags and not picture.claimed:
        raise UserError(f"is tagged {tags[0]!r}, but nothing is drawn on it; draw it, or take the tag away")
    if not picture.looked_at and rules.missing == "error":
        raise UserError("has no annotation; if such are good parts, say --missing clean")


def _look_alike(file: Path) -> str:
    """Words about a file whose name only looks the same: macOS writes letters with marks as two characters."""
    wanted = unicodedata.normalize("NFC", file.name)
    there = file.parent.iterdir() if file.parent.is_dir() else ()
    same = any(is_text(f.name) and unicodedata.normalize("NFC", f.name) == wanted for f in there)
    return (
        " (one is there whose name looks the same and is written with other characters; rename it)" if same else ""
    )


def _mask(
    picture: LabelledPicture, classes: Sequence[str], rules: Rules, doubts: Doubts
) -> tuple[Mask, tuple[str, ...] | None]:
    """Makes a picture's mask, and says what it is known to show; UserError, without the picture's name.

    The picture is decoded too: what the daemon couldn't read is refused here, by its own reader.
    """
    try:
        height, width = read_image(picture.file).shape[:2]
    except ValueError as error:
        raise UserError(str(error).removeprefix(f"{shown_name(picture.file)}: ")) from None
    try:
        regions = picture.regions(height, width)
        mask = paint(regions, classes, (height, width), rules, shown(picture.name), doubts)
    except UserError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, cv2.error) as error:  # whatever a file may hold
        raise UserError(f"its labels are damaged ({damage(error)}); export them anew") from None
    levels = np.unique(mask).tolist()
    if picture.claimed is None and levels == [0, DONT_CARE]:
        doubts.add(BLACK_AND_WHITE, f"{shown(picture.name)}: {BLACK_AND_WHITE}")
    shows = {classes[k - 1] for k in levels if 0 < k <= len(classes)}
    for label in sorted({*(picture.claimed or ()), *(picture.tags & set(classes))} - shows):
        if rules.overlap == "error" or label not in (picture.claimed or ()):
            raise UserError(f"labelled {label!r}, but no pixel of its mask is; label it")
        doubts.add(
            "covered", f"{shown(picture.name)}: later regions cover all of {label!r}, which is left out of it"
        )
    return mask, None if picture.claimed is None else tuple(sorted(shows))

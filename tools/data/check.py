"""Looks a data set through and names every fault with its file; nothing is changed.

An error makes training or its figures wrong; a warning is something to look at. labels.json, which an import
writes and anybody may, says what each picture is known to show: {"NAME.jpg": ["crack"], "GOOD.jpg": []}. Where it
names a picture, the mask must show just these classes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import image_files
from inspectd_train.data.alike import alike_pairs
from inspectd_train.data.dataset import SPLITS
from inspectd_train.data.folder import read_json
from inspectd_train.data.labels import doubtful_labels
from inspectd_train.data.look import Fault, Picture, mask_file, read_classes, read_pictures
from inspectd_train.data.sheet import write_sheets
from inspectd_train.data.sources import shown

LABELS_FILE = "labels.json"


def check(folder: Path, split_file: str) -> tuple[list[Picture], list[Fault]]:
    """Reads every file of the data set. UserError only when there is no data set to look at."""
    classes, pictures, faults = read_pictures(folder)
    faults += _about_the_set(pictures, classes) + _about_masks(pictures, classes)
    faults += _claims(folder, pictures, classes)
    splits, found = read_splits(folder, split_file)
    faults += found
    if splits:
        faults += _about_splits(
            split_file, splits, pictures, classes, {f.name for f in image_files(folder / "images")}
        )
    faults += _copies(pictures, splits)
    return pictures, faults


def sheets(folder: Path, out: Path) -> list[Path]:
    """Writes the contact sheets of a data set; returns their files."""
    files = [(file, mask_file(file)) for file in image_files(folder / "images")]
    return write_sheets(out, files, read_classes(folder)[0])


def as_json(pictures: list[Picture], faults: list[Fault]) -> dict[str, Any]:
    """The content of what `check --json` prints."""
    found = {level: [asdict(f) for f in faults if f.level == level] for level in ("error", "warning")}
    return {"pictures": len(pictures), "errors": found["error"], "warnings": found["warning"]}


def read_splits(folder: Path, split_file: str) -> tuple[dict[str, list[str]], list[Fault]]:
    """Reads the names by split; a file that can't be used gives none, and a fault that says why."""
    if not (folder / split_file).is_file():
        return {}, [Fault("warning", split_file, "no such file yet; make it with `inspectd-train split`")]
    try:
        content = read_json(folder / split_file)
    except UserError as error:
        return {}, [Fault("error", split_file, str(error))]
    good = isinstance(content, dict) and all(
        isinstance(content.get(s), list) and all(isinstance(n, str) for n in content[s]) for s in SPLITS
    )
    if not good:
        return {}, [Fault("error", split_file, 'want {"train": [names], "dev": [names], "test": [names]}')]
    return {s: content[s] for s in SPLITS}, []


def _about_the_set(pictures: list[Picture], classes: tuple[str, ...]) -> list[Fault]:
    """Finds what is wrong with the pictures as a whole: too few, a class that none shows, no clean one."""
    faults = []
    if len(pictures) < 2:
        reason = "one picture only" if pictures else "no usable picture"
        faults.append(
            Fault("error", "images", f"{reason}; at least one each is needed to train, to choose and to test")
        )
    for k, name in enumerate(classes, 1):
        if not any(k in p.classes for p in pictures):
            faults.append(
                Fault("error", "classes.json", f"no pixel of any mask is {name!r}; label some or remove it")
            )
    if pictures and all(p.classes for p in pictures):
        faults.append(
            Fault("warning", "images", "no picture without a defect: false alarms on good parts can't be measured")
        )
    grey = sum(p.shape[2] == 1 for p in pictures)
    if 0 < grey < len(pictures):
        faults.append(
            Fault("warning", "images", f"{grey} of {len(pictures)} pictures are grey, the others in colour")
        )
    return faults


def _about_masks(pictures: list[Picture], classes: tuple[str, ...]) -> list[Fault]:
    """Finds what only all masks together show: two kinds of them, and classes that are no more than edges."""
    faults = [Fault("warning", "classes.json", sentence) for sentence in doubtful_labels(classes)]
    white = [p for p in pictures if p.black_and_white]
    if white:
        beside = sum(bool(p.classes) for p in pictures)
        others = f", beside {beside} with class indices" if beside else ""
        faults.append(
            Fault(
                "warning",
                mask_name(white[0]),
                f"has only 0 and 255, like {len(white)} of {len(pictures)} masks{others}; 255 is don't-care, so "
                "nothing is learned there; import masks in black and white with --colours NAME=#ffffff",
            )
        )
    edged = [p for p in pictures if p.blurred]
    if edged:
        k, count = max(edged[0].blurred.items(), key=lambda item: item[1])
        name = repr(classes[k - 1]) if k <= len(classes) else f"class {k}"
        faults.append(
            Fault(
                "warning",
                mask_name(edged[0]),
                f"has {count} px of {name} at edges between others, like {len(edged)} of {len(pictures)} masks; "
                "scaling, turning or JPEG makes such: make the masks anew without smoothing",
            )
        )
    return faults


def mask_name(picture: Picture) -> str:
    """The name of a picture's mask in the data set."""
    return f"masks/{Path(picture.name).stem}.png"


def _claims(folder: Path, pictures: list[Picture], classes: tuple[str, ...]) -> list[Fault]:
    """Finds masks that show other classes than labels.json says."""
    if not (folder / LABELS_FILE).is_file():
        return []
    try:
        claims = read_json(folder / LABELS_FILE)
        known = {str(name): {str(label) for label in labels} for name, labels in claims.items()}
    except (UserError, AttributeError, TypeError):
        return [Fault("error", LABELS_FILE, 'want names and classes, {"NAME.jpg": ["crack"], "GOOD.jpg": []}')]
    faults = []
    for picture in pictures:
        seen = {classes[k - 1] for k in picture.classes if k <= len(classes)}
        for label in sorted(known.get(picture.name, seen) ^ seen):
            what = "has pixels of" if label in seen else "shows no pixel of"
            says = "does not name" if label in seen else "names"
            reason = f"{what} {label!r}, which {LABELS_FILE} {says} for it"
            faults.append(Fault("error", mask_name(picture), reason))
    return faults


def _about_splits(
    split_file: str,
    splits: dict[str, list[str]],
    pictures: list[Picture],
    classes: tuple[str, ...],
    files: set[str],
) -> list[Fault]:
    """Finds what is wrong with the split: empty ones, pictures in none or in two, classes that one lacks."""
    faults = []
    for split, names in splits.items():
        if not names:
            faults.append(Fault("error", split_file, f"{split} is empty"))
        faults += [
            Fault("error", split_file, f"{shown(name)} in {split}: there is no such picture")
            for name in sorted(set(names) - files)
        ]
        twice = [name for name, count in Counter(names).items() if count > 1]
        faults += [Fault("error", split_file, f"{shown(name)} stands twice in {split}") for name in sorted(twice)]
        having = {k for p in pictures if p.name in set(names) for k in p.classes}
        level: Literal["error", "warning"] = "error" if split == "train" else "warning"
        somewhere = {k for p in pictures for k in p.classes}
        faults += [
            Fault(level, split_file, f"{split} has no picture with {classes[k - 1]!r}")
            for k in sorted(somewhere - having)
            if names
        ]
    for one, other in combinations(SPLITS, 2):
        for name in sorted(set(splits[one]) & set(splits[other])):
            faults.append(Fault("error", split_file, f"{shown(name)} is in {one} and in {other}"))
    used = {name for names in splits.values() for name in names}
    reason = f"in no split of {split_file}"
    faults += [Fault("warning", f"images/{shown(name)}", reason) for name in sorted(files - used)]
    return faults


def _copies(pictures: list[Picture], splits: dict[str, list[str]]) -> list[Fault]:
    """Finds copies, errors if across splits, and alike pictures across splits: warnings, as likeness may err."""
    home = {name: split for split, names in splits.items() for name in names}
    by_pixels: dict[str, list[Picture]] = {}
    for picture in pictures:
        by_pixels.setdefault(picture.pixels_sha256, []).append(picture)
    faults, same = [], set()
    for group in by_pixels.values():
        for a, b in combinations(group, 2):
            same.add((a.name, b.name))
            places = [home.get(p.name) for p in (a, b)]
            across = None not in places and places[0] != places[1]
            text = f"the same pixels as {b.name}" + (f": {places[0]} and {places[1]} share it" if across else "")
            faults.append(Fault("error" if across else "warning", f"images/{a.name}", text))
    pairs = alike_pairs([p.signature for p in pictures], [p.shape for p in pictures]) if splits else []
    for pair in pairs:
        a, b = pictures[pair.first], pictures[pair.second]
        one, other = home.get(a.name), home.get(b.name)
        if (a.name, b.name) in same or one == other or one is None or other is None:
            continue
        text = (
            f"nearly the same picture as {b.name} ({pair.correlation:.2f}): one is in {one}, the other in {other}"
        )
        faults.append(Fault("warning", f"images/{a.name}", text))
    return faults

"""Divides pictures into train, dev and test: every class everywhere, what belongs together kept together."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inspectd.runtime.errors import UserError
from inspectd_train.data.alike import alike_pairs
from inspectd_train.data.dataset import SPLITS
from inspectd_train.data.folder import read_json
from inspectd_train.data.look import read_pictures
from inspectd_train.files import replace

CLEAN = ""
"""The class of pictures without a defect, which are spread like those of any other."""
Shares = tuple[float, float, float]


@dataclass(frozen=True)
class Unit:
    """Pictures that stay together, and how many of them show each class."""

    names: tuple[str, ...]
    shown: Mapping[str, int]


def parse_shares(text: str) -> Shares:
    """Reads "60,20,20" as shares that add up to 1; UserError if it isn't three positive numbers."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(0 < n < float("inf") for n in numbers):
        raise UserError(f"--shares {text}: want three positive numbers for train, dev and test, as in 60,20,20")
    train, dev, test = (n / sum(numbers) for n in numbers)
    return train, dev, test


def groups_by_pattern(names: Sequence[str], pattern: str) -> dict[str, str]:
    """Groups names by what the pattern's brackets hold, without brackets by what it matches; UserError."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group-by {pattern}: not a regular expression ({error})") from None
    groups = {}
    for name in names:
        found = compiled.search(name)
        if found is None:
            raise UserError(f"{name}: --group-by {pattern} doesn't match it; change the pattern")
        groups[name] = "\n".join(part or "" for part in found.groups()) if found.groups() else found[0]
    return groups


def groups_by_column(names: Sequence[str], where: str) -> dict[str, str]:
    """Groups names by a column of a table, as "FILE.csv:COLUMN"; its column `name` finds the row. UserError."""
    file, _, column = where.rpartition(":")
    try:
        with Path(file).open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file or where}: can't be read ({error}); want --group-column FILE.csv:COLUMN") from None
    if not rows or not {"name", column} <= rows[0].keys():
        raise UserError(f"{file}: want a header with the columns name and {column}, and a row for each picture")
    groups = {row["name"]: row[column] or "" for row in rows}
    for name in names:
        if name not in groups:
            raise UserError(f"{name}: has no row in {file}; add it")
    return {name: groups[name] for name in names}


def together(
    shown: Mapping[str, Iterable[str]], groupings: Iterable[Mapping[str, str]], pairs: Iterable[tuple[str, str]]
) -> list[Unit]:
    """Forms the smallest units that split no group nor pair; `shown` has each picture's classes."""
    leader = {name: name for name in shown}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    links: list[tuple[str, str]] = []
    for groups in groupings:
        first: dict[str, str] = {}
        links += [(name, first.setdefault(group, name)) for name, group in groups.items()]
    for a, b in [*links, *pairs]:
        leader[max(find(a), find(b))] = min(find(a), find(b))
    members: dict[str, list[str]] = {}
    for name in sorted(shown):
        members.setdefault(find(name), []).append(name)
    return [
        Unit(tuple(m), Counter(c for name in m for c in (set(shown[name]) or {CLEAN}))) for m in members.values()
    ]


def divide(units: Sequence[Unit], shares: Shares, seed: int) -> dict[str, list[str]]:
    """Divides units into names by split: rare classes first, larger units first, each to where most lacks.

    The order among equals comes from SHA-256 of seed and name: the same on every machine. A class shown by at
    least three units is in every split, as far as units with several classes allow.
    """
    total = Counter[str]()
    for unit in units:
        total.update(unit.shown)
    left = Counter(c for unit in units for c in unit.shown)
    goal = [{c: share * n for c, n in total.items()} for share in shares]
    placed: list[list[Unit]] = [[], [], []]
    have = [Counter[str](), Counter[str](), Counter[str]()]

    def rarest(unit: Unit) -> str:
        return min(unit.shown, key=lambda c: (c == CLEAN, total[c], c))

    def order(unit: Unit) -> tuple[bool, int, str, int, str]:
        c = rarest(unit)
        return (c == CLEAN, total[c], c, -len(unit.names), _shuffled(seed, unit.names[0]))

    for unit in sorted(units, key=order):
        options = [0, 1, 2]
        for c in sorted(unit.shown, key=lambda c: (c == CLEAN, total[c], c)):
            lacking = [s for s in options if not have[s][c]]
            if lacking and left[c] <= sum(not h[c] for h in have):
                options = lacking
        c = rarest(unit)
        full = [sum(h.values()) / max(sum(g.values()), 1e-9) for h, g in zip(have, goal, strict=True)]
        best = max(options, key=lambda s: (goal[s][c] - have[s][c], -full[s]))
        placed[best].append(unit)
        have[best].update(unit.shown)
        left.subtract(dict.fromkeys(unit.shown, 1))
    _fill_gaps(placed)
    return {
        split: sorted(n for unit in part for n in unit.names) for split, part in zip(SPLITS, placed, strict=True)
    }


def read_shown(folder: Path, alike: bool) -> tuple[dict[str, set[str]], list[tuple[str, str]]]:
    """Reads which classes each picture shows, and with `alike` finds the pairs of near-duplicates.

    UserError while the data set has errors: a split of half the pictures would be none.
    """
    classes, pictures, faults = read_pictures(folder)
    errors = [f for f in faults if f.level == "error"]
    if errors or not pictures:
        first = f"{errors[0].file}: {errors[0].reason}" if errors else "it has no pictures"
        raise UserError(
            f"{folder}: {len(errors)} errors, the first is {first}; see `inspectd-train check {folder}`"
        )
    shown = {p.name: {classes[k - 1] for k in p.classes} for p in pictures}
    pairs = alike_pairs([p.signature for p in pictures], [p.shape for p in pictures]) if alike else []
    names = [p.name for p in pictures]
    by_pixels: dict[str, str] = {}
    copies = [(by_pixels.setdefault(p.pixels_sha256, p.name), p.name) for p in pictures]
    return shown, [(names[p.first], names[p.second]) for p in pairs] + [(a, b) for a, b in copies if a != b]


def write_split(folder: Path, name: str, splits: Mapping[str, Sequence[str]]) -> None:
    """Writes the split file whole or not at all; UserError if it can't be written, or another is there already."""
    file = folder / name
    if file.is_file() and read_json(file) != splits:
        raise UserError(
            f"{file}: is there already, and is another: what bundles have learned from could come to be in dev or "
            "test; remove it first, or write to another file with --out"
        )
    try:
        replace(file, (json.dumps(splits, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise UserError(
            f"{file}: can't be written ({error.strerror or error}); the old one, if any, stays"
        ) from None


def gaps(splits: Mapping[str, Sequence[str]], units: Sequence[Unit]) -> tuple[list[str], list[str]]:
    """Says what is wrong with a split, a sentence each: first what can't be used, then what can but is weak."""
    bad = [f"{s} would be empty: only {len(units)} groups of pictures" for s, names in splits.items() if not names]
    weak = []
    home = {name: split for split, names in splits.items() for name in names}
    for c in sorted({c for unit in units for c in unit.shown} - {CLEAN}):
        having = [unit for unit in units if c in unit.shown]
        without = set(splits) - {home[unit.names[0]] for unit in having}
        if without:
            where = " and ".join(split for split in splits if split in without)
            weak.append(
                f"no picture with {c!r} would be in {where}: only {len(having)} groups of pictures show it"
            )
    return bad, weak


def _fill_gaps(placed: list[list[Unit]]) -> None:
    """Moves single units so that no split lacks a class that another can spare, nor is empty. In place."""
    for _ in range(sum(len(part) for part in placed)):
        move = _useful_move(placed)
        if move is None:
            return
        unit, source, target = move
        placed[source].remove(unit)
        placed[target].append(unit)


def _useful_move(placed: list[list[Unit]]) -> tuple[Unit, int, int] | None:
    """Finds the smallest unit whose move gives a split a class that it lacks: unit, from where, to where."""
    classes = sorted({c for part in placed for unit in part for c in unit.shown if c != CLEAN})
    counts = [Counter(c for unit in part for c in unit.shown) for part in placed]
    for target in range(3):
        gaps = {c for c in classes if not counts[target][c]}
        moves = [
            (len(unit.names), unit.names, unit, source)
            for source in range(3)
            for unit in placed[source]
            if source != target
            and (gaps & unit.shown.keys() or not placed[target])
            and len(placed[source]) > 1
            and all(counts[source][c] > 1 for c in unit.shown if c != CLEAN)
        ]
        if moves:
            _, _, unit, source = min(moves, key=lambda m: m[:2])
            return unit, source, target
    return None


def _shuffled(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\n{name}".encode()).hexdigest()

"""Counts and names the files of a source that an import leaves out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from inspectd.runtime.left_out import OTHER_PICTURES
from inspectd_train.data.sources import is_picture, place, shown

MOST_GROUPS = 12


def left_out(root: Path, seen: Collection[Path], used: Collection[Path], reasons: Mapping[Path, str]) -> str:
    """Says in one line what was `seen` and not `used`, as "4 in ok/ (no label file), 2 .gif (format not read)".

    Pictures are counted by folder below `root` and by reason: that of `reasons`, else "no labels name it". All
    else is counted by suffix. Empty if nothing was left out.
    """
    taken, known = {place(file) for file in used}, {place(file): why for file, why in reasons.items()}
    groups = Counter(_group(root, file, known.get(place(file))) for file in seen if place(file) not in taken)
    words = [f"{count} {what}" for what, count in sorted(groups.items())]
    if len(words) > MOST_GROUPS:
        rest = sum(count for _, count in sorted(groups.items())[MOST_GROUPS:])
        words = [*words[:MOST_GROUPS], f"{rest} more"]
    return ", ".join(words)


def _group(root: Path, file: Path, reason: str | None) -> str:
    suffix = file.suffix.lower()
    if is_picture(file):
        folder = os.path.relpath(file.parent, root)
        where = shown(root.absolute().name if folder == "." else folder)
        return f"in {where}/ ({reason or 'no labels name it'})"
    what = "format not read" if suffix in OTHER_PICTURES else "neither picture nor label"
    return f"{shown(suffix) or 'without a suffix'} ({what})"

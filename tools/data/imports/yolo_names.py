"""Reads the class names of YOLO labels: in the YAML file of Ultralytics, Roboflow or CVAT, or a line each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from inspectd.runtime.errors import UserError
from inspectd_train.data.folder import read_text
from inspectd_train.data.labels import label_of
from inspectd_train.data.sources import shown

LISTS = ("classes.txt", "obj.names")
ITEM = re.compile(
    r"""\s*(?:(\d+)\s*:\s)?\s*("(?:[^"\\]|\\["\\])*"|'(?:[^']|'')*'|[^\s,'"\[\]{}#&*!|>%@`-][^,\[\]{}]*?|)\s*(,|$)"""
)
"""A name in a list: an index with a colon if there is one, the name in quotes or plain, and what ends it."""


def read_names(source: Path, seen: Sequence[Path]) -> tuple[dict[int, str], Path]:
    """The class names by index, and their file: the only YAML file in `source`, else classes.txt. UserError."""
    yamls = [f for f in seen if f.suffix in (".yaml", ".yml") and f.parent == source]
    lists = [f for f in seen if f.name in LISTS]
    if len(yamls) > 1 or (not yamls and len(lists) != 1):
        found = ", ".join(shown(f.relative_to(source).as_posix()) for f in yamls or lists) or "none"
        raise UserError(f"{source}: want one data.yaml or classes.txt with the class names, found {found}")
    file = (yamls or lists)[0]
    text = read_text(file)
    try:
        names = _in_yaml(text) if yamls else dict(enumerate(line.strip() for line in text.rstrip().splitlines()))
        return {index: label_of(name) for index, name in names.items()}, file
    except ValueError as error:
        raise UserError(f"{file}: {error}; write `names: [scratch, pit]`") from None


def _in_yaml(text: str) -> dict[int, str]:
    """The entry `names` of a YAML file: a list or a mapping, on one line or several. ValueError for all else."""
    lines = [re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.splitlines()]
    starts = [k for k, line in enumerate(lines) if re.match(r"names\s*:(\s|$)", line)]
    if len(starts) != 1:
        raise ValueError("no entry `names`" if not starts else "`names` stands twice")
    first = lines[starts[0]].split(":", 1)[1].strip()
    rest = []
    for line in lines[starts[0] + 1 :]:
        if line and line[0] not in " \t-]}":
            break
        rest.append(line.strip())
    if first[:1] in ("[", "{"):
        inner = " ".join([first, *rest]).strip()
        if inner[-1] != {"[": "]", "{": "}"}[inner[0]]:
            raise ValueError("`names` can't be read")
        return _items(inner[1:-1])
    entries = [line for line in rest if line]
    if first or not entries:
        raise ValueError("`names` can't be read")
    if all(entry.startswith("- ") for entry in entries):
        lists = [_items(entry[2:]) for entry in entries]
        if any(len(names) != 1 for names in lists):
            raise ValueError("a line of `names` has more than one name, or none; put names with commas in quotes")
        return {k: names[0] for k, names in enumerate(lists)}
    return {k: name for entry in entries for k, name in _items(entry, keyed=True).items()}


def _items(text: str, keyed: bool = False) -> dict[int, str]:
    """The names of a list, by their index or by their place. ValueError for what is none."""
    names: dict[int, str] = {}
    at = 0
    while at < len(text):
        found = ITEM.match(text, at)
        if found is None or (keyed and found[1] is None):
            raise ValueError(f"{text.strip()!r} is no list of names")
        at = found.end()
        index, name = int(found[1]) if found[1] else len(names), _plain(found[2])
        if index in names:
            raise ValueError(f"the index {index} stands twice")
        if found[2] or at < len(text):  # a comma may end a list
            names[index] = name
    return names


def _plain(name: str) -> str:
    """A name without its quotes."""
    if name[:1] == '"':
        return re.sub(r"\\(.)", r"\1", name[1:-1])
    return name[1:-1].replace("''", "'") if name[:1] == "'" else name

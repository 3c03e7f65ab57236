"""What labels mean: which are the background, which are none's, and which are one label spelled in two ways."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from inspectd_train.data.dataset import BACKGROUND
from inspectd_train.data.sources import is_text

BACKGROUNDS = frozenset({BACKGROUND, "_background_", "__background__"})
"""What labelling tools call pixels without a defect."""
IGNORED = frozenset({"dont-care", "__ignore__"})
"""What pixels that nobody knows are called: here, and in LabelMe."""
SOUNDS_LIKE_DONT_CARE = frozenset(
    {"ignore", "ignored", "dontcare", "unlabeled", "unlabelled", "unsure", "unknown"}
)
GOOD_WORDS = frozenset(
    {"good", "ok", "okay", "io", "pass", "passed", "clean", "normal", "nodefect", "nodefects", "defectfree"}
    | {"faultless", "none", "empty", "background"}
    | {"reviewed", "checked", "verified", "done", "finished", "labeled", "labelled", "annotated"}
)
"""Tags, in letters only, that say that a picture shows no defect, or that somebody has looked."""


def label_of(value: Any) -> str:
    """A label as written in a file; ValueError for none, an empty one or half a character."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.strip():
        raise ValueError("a label is missing or empty")
    if not is_text(text):
        raise ValueError(f"the label {text!a} has half a character")
    return text


def folded(label: str) -> str:
    """A label without what people spell in different ways: case, spaces, dashes, signs that can't be seen."""
    return "".join(char for char in unicodedata.normalize("NFKC", label).casefold() if char.isalnum())


def says_good(tag: str) -> bool:
    """Whether a tag of a whole picture says that it shows no defect, or says nothing of defects."""
    return folded(tag) in GOOD_WORDS


def doubtful_labels(labels: Iterable[str]) -> list[str]:
    """Finds labels that may be one label spelled in several ways, or no defect at all; a sentence each."""
    groups: dict[str, list[str]] = {}
    for name in sorted({*labels, BACKGROUND}):
        groups.setdefault(_stem(folded(name)) or name, []).append(name)
    found = [
        f"{', '.join(map(repr, names[:-1]))} and {names[-1]!r} are {len(names)} classes; if they are one label, "
        "spell it in one way and import anew"
        for names in groups.values()
        if len(names) > 1
    ]
    return found + [
        f"{name!r} is learned as a defect; if it means don't-care, import anew with --dont-care {name}"
        for name in sorted(set(labels))
        if folded(name) in SOUNDS_LIKE_DONT_CARE
    ]


def _stem(name: str) -> str:
    """A folded label without what the plural adds: scratches is scratch, holes is hole."""
    return name.removesuffix("s").removesuffix("e") if len(name) > 3 else name

"""What lies in a folder of pictures or labels, and what a file says of itself before it is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from inspectd.runtime.containers import PNG, orientation
from inspectd.runtime.image_files import FORMATS

SYSTEM_FILES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir"}
"""What macOS, Windows and Synology leave in folders, in small letters; names that begin with a dot besides."""


def is_hidden(name: str) -> bool:
    """Whether a name is of a file or folder that nobody put there on purpose, as `._a.png` or `__MACOSX`."""
    return name.startswith(".") or name.casefold() in SYSTEM_FILES


def is_picture(file: Path) -> bool:
    """Whether a file is a picture of a format that is read, by its suffix."""
    return file.suffix.lower() in FORMATS


def files_in(folder: Path) -> list[Path]:
    """The files of a folder without hidden ones, by name; links that lead nowhere too. OSError."""
    return sorted(f for f in folder.iterdir() if not is_hidden(f.name) and not f.is_dir())


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yields the files of a folder and of all folders in it, in name order, without hidden ones. OSError.

    Links are followed, also those of folders, but not into a folder (one of `above`) that they lie in.
    """
    real = folder.resolve()
    if real in above:
        return
    for entry in sorted(folder.iterdir()):
        if is_hidden(entry.name):
            continue
        if entry.is_dir():
            yield from files_below(entry, (*above, real))
        else:
            yield entry


def place(file: Path) -> str:
    """What tells a file from others, wherever it is named from; links are not followed, as stores share blobs."""
    return os.path.normpath(os.path.abspath(file))  # noqa: PTH100


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; file names of Linux are bytes, and JSON can hold half characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    """A name as text that can be printed, written and drawn: what is no character becomes a question mark."""
    return name.encode("utf-8", "replace").decode()


def turned(file: Path) -> int:
    """The EXIF orientation of a picture, 1 if it is upright; OSError."""
    return orientation(file.read_bytes())


def grey_bits(file: Path) -> int:
    """The bits of a pixel of a grey PNG; 8 for everything else. OSError."""
    with file.open("rb") as content:
        head = content.read(26)
    return head[24] if len(head) == 26 and head.startswith(PNG) and head[25] == 0 else 8

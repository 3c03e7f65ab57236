"""What of a folder of pictures is not read: it is counted and said, never passed over in silence."""

from pathlib import Path
from typing import NamedTuple

from inspectd.runtime.image_files import FORMATS, shown_name

OTHER_PICTURES = frozenset({
    ".apng", ".arw", ".avif", ".cr2", ".cr3", ".dcm", ".dib", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif",
    ".ico", ".j2k", ".jp2", ".jpx", ".jxl", ".nef", ".pbm", ".pcx", ".pfm", ".pgm", ".pnm", ".ppm", ".psd", ".raf",
    ".raw", ".svg", ".tga", ".xpm",
})  # fmt: skip
"""Ends of the names of pictures in formats that are not read."""
MOST_NAMED = 3


class LeftOut(NamedTuple):
    """What lies in a folder and is not read."""

    pictures: list[str]
    """Names of pictures in formats that are not read, in order."""
    hidden: int
    """Number of pictures whose names begin with a dot, as copies from a Mac leave them."""
    folders: int
    """Number of folders within: they are not looked into."""
    others: int
    """Number of all other files."""

    @property
    def missed(self) -> str:
        """The pictures that somebody may miss, in words; empty if there are none."""
        named = ", ".join(self.pictures[:MOST_NAMED]) + ", …" * (len(self.pictures) > MOST_NAMED)
        pictures = f"{_count(len(self.pictures), 'picture')} of formats that are not read ({named})"
        hidden = f"{_count(self.hidden, 'hidden picture')}"
        return ", ".join([pictures] * bool(self.pictures) + [hidden] * bool(self.hidden))

    @property
    def all(self) -> str:
        """Everything, in words; empty if nothing is left out."""
        folders, others = _count(self.folders, "folder"), _count(self.others, "other file")
        parts = [self.missed, folders * bool(self.folders), others * bool(self.others)]
        return ", ".join(part for part in parts if part)


def left_out(folder: Path) -> LeftOut:
    """Look at what of a folder is not read; raises OSError if it can't be listed."""
    found: list[str] = []
    hidden = folders = others = 0
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if path.is_dir():
            folders += 1
        elif path.name.startswith("."):
            hidden += suffix in FORMATS or suffix in OTHER_PICTURES
        elif suffix in OTHER_PICTURES:
            found.append(shown_name(path))
        elif suffix not in FORMATS or not path.is_file():
            others += 1
    return LeftOut(found, hidden, folders, others)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"

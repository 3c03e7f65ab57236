"""What every check of `inspectd doctor camera` ends as, and how checks read a kernel's small files. No function
here raises: what can't be read is said, never a fault of the doctor.
"""

from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Literal

import msgspec

Status = Literal["ok", "warn", "fail", "skipped"]
NOTE = "; matters only where a GigE camera hangs"
GRUB = "in GRUB_CMDLINE_LINUX of /etc/default/grub, then sudo update-grub"


class Finding(msgspec.Struct, frozen=True):
    """One setting, as it is and as it should be and why; `remedy` is empty exactly when the status is ok.

    A remedy is commands and words, with `; ` between them.
    """

    check: str
    status: Status
    found: str
    wanted: str
    remedy: str = ""


def judged(check: str, good: bool, found: str, wanted: str, remedy: str, bad: Status = "warn") -> Finding:
    """A finding that is ok if it is good, else what `bad` says, with the remedy."""
    return Finding(check, "ok" if good else bad, found, wanted, "" if good else remedy)


def number(check: str, good: Callable[[int], bool], unit: str, wanted: str, remedy: str, *paths: Path) -> Finding:
    """Judge the number in a file; of several files, the greatest one."""
    try:
        value = max(int(path.read_text(encoding="ascii")) for path in paths)
    except (OSError, ValueError) as error:
        return unreadable(check, error, wanted, *paths)
    return judged(check, good(value), f"{value} {unit}".rstrip(), wanted, remedy)


def at_least(check: str, least: int, unit: str, path: Path, remedy: str, note: str = "") -> Finding:
    """Judge the number in a file by its lower bound."""
    return number(check, lambda value: value >= least, unit, f"{least} {unit} or more{note}", remedy, path)


def unreadable(check: str, error: OSError | ValueError, wanted: str, *paths: Path) -> Finding:
    """A check that is skipped as its files can't be read, or don't hold what they should."""
    reason, files = getattr(error, "strerror", "no number"), " ".join(quote(str(path)) for path in paths)
    return Finding(check, "skipped", f"{files}: {reason}", wanted, f"on the host: sudo cat {files}")


def text(path: Path) -> str:
    """Text of the file; empty if it can't be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def entries(folder: Path) -> list[Path]:
    """Entries of the folder; none if it can't be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def sysctl_remedy(assignment: str) -> str:
    """How to set a sysctl for now and for ever."""
    said = quote(assignment)
    return f"sudo sysctl -w {said}; to keep it: echo {said} | sudo tee -a /etc/sysctl.d/90-inspectd.conf"

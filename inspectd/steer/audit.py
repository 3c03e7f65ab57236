"""Who changed what, kept for ever: `audit.jsonl`."""

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from inspectd.runtime.durable import UnwritableError, open_regular, sync_folder, write_synced

MAX_AUDIT_BYTES = 256 * 2**20
"""Some 800,000 changes; then nothing is changed until somebody has put the file away."""


class Change(Struct, frozen=True):
    """One line of `audit.jsonl`."""

    who: str
    """The name of the client's key; `local` without keys."""
    client: str
    """What the client calls itself."""
    id: str
    """Id of the request."""
    verb: str
    old: object
    new: object
    outcome: str
    """`done`, or `failed: ` and why."""
    when: str = ""
    """UTC, ISO 8601; filled in as it is written."""


class Audit:
    """`audit.jsonl`: a line for each change, only ever appended to. Opened each time: it may be put away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Raises UnwritableError if a change could not be written down."""
        self._append(b"")

    def write(self, change: Change) -> None:
        """Write a change down, synced to the disk; raises UnwritableError, and then it must not happen."""
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._append(msgspec.json.encode(replace(change, when=when)) + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            is_new = not self._path.exists()
            if not is_new and self._path.stat().st_size > MAX_AUDIT_BYTES:
                raise UnwritableError(f"{self._path} has grown too large, move it away")
            if line and not is_new and not _ends_a_line(self._path):  # power was lost in the middle of one
                line = b"\n" + line
            write_synced(self._path, line, os.O_APPEND)
            if is_new:
                sync_folder(self._path.parent)
        except OSError as error:
            sentence = f"the audit log {self._path} can't be written: {error.strerror}"
            raise UnwritableError(sentence) from None


def _ends_a_line(path: Path) -> bool:
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"

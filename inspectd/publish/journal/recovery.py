"""What an earlier daemon left of its journal, and whether this one can go on with its numbers."""

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from inspectd.publish.journal.records import (
    CLOSED,
    END,
    NEXT,
    OPENED,
    PAGE,
    RESULT,
    VOID,
    Position,
    Segment,
    decode_entry,
    read_segment,
    records,
)
from inspectd.runtime.errors import UnavailableError

TAINTED = "tainted"
"""Name of the file which says that results were not kept: the next start is a new epoch."""


def lock_folder(folder: Path) -> int:
    """Make the journal's folder and lock it, so that no other daemon writes here, whatever lock it holds beside.

    Gives the descriptor that holds the lock. Raises UnavailableError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"the journal {folder} can't be made: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UnavailableError(
            f"another daemon writes the journal {folder}; stop it first, or give this line another state_dir"
        ) from None
    return fd


class Tail(NamedTuple):
    """What was true at the end of the newest segment."""

    segment: Segment
    position: Position
    end: int
    closed: bool
    damaged: bool


def open_segments(folder: Path, paths: list[Path], size: int) -> tuple[list[Segment], Tail | None, set[Path]]:
    """Find the segments, oldest first, the end of the newest, and the files whose records are dropped now: numbers
    go on from that end even then.
    """
    try:
        there = (segment for path in folder.glob("*.journal") if (segment := read_segment(path)))
        found = sorted(there, key=lambda segment: segment.position.number)
        return found, _find_tail(found[-1]) if found else None, _preallocate(folder, paths, size)
    except OSError as error:
        raise UnavailableError(
            f"the journal {folder} can't be made ({len(paths)} files of {size // 2**20} MiB): {error.strerror}"
        ) from None


def _preallocate(folder: Path, paths: list[Path], size: int) -> set[Path]:
    """Make the segments; gives the files of a journal of another form, whose records are dropped."""
    surplus = {path for path in folder.glob("*.journal") if path not in paths}
    dropped = set(surplus)
    for path in paths:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            if os.fstat(fd).st_size not in (0, size):
                os.ftruncate(fd, 0)
                dropped.add(path)
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
    if surplus:
        (folder / TAINTED).touch()  # the newest may be among them: killed from here on, the next start must know
    for path in surplus:
        path.unlink()
    return dropped


def why_new_epoch(tail: Tail | None, boot_id: str, dropped: int, unread: int, tainted: bool) -> str:
    """Why the epoch that was can't go on, as numbers of it may be gone; empty if it can, or if there was none."""
    if dropped:
        return f"{dropped} files of results, not as journal.segment_mib and journal.segments say, were dropped"
    if unread:
        return f"{unread} files of the journal are damaged, or of another version"
    if tainted:
        return "the journal failed before, and results were not kept"
    if tail is None:
        return ""
    if tail.damaged:
        return "the end of the journal is damaged"
    if not tail.closed and tail.position.boot_id != boot_id:
        return "the power was lost"
    return ""


def _find_tail(segment: Segment) -> Tail:
    """Find where the newest segment ends, and what was true there."""
    position = segment.position
    seq, part_ids, end, boot, kind = position.seq, dict(position.part_ids), PAGE, position.boot_id, 0
    data = segment.path.read_bytes()
    for kind, payload, at, end in records(data, PAGE, segment.seed):  # noqa: B007  (the last are looked at below)
        if kind == OPENED:
            boot = payload.decode()
        elif kind in (RESULT, VOID):
            entry = decode_entry(payload)
            segment.note(entry.seq, at)
            seq = max(seq, entry.seq)
            part_ids[entry.camera] = max(entry.part_id, part_ids.get(entry.camera, 0))
    segment.whole = True
    damaged = data[end : end + len(END)] != END or kind == NEXT
    last = Position(position.number, position.epoch, seq, part_ids, boot)
    return Tail(segment, last, end, kind == CLOSED, damaged)

"""The results journal: a result is in it before it is on the wire.

Segments of a fixed size (`records.py`), the oldest reused. Damage of any kind ends the epoch, because numbers
that were on the wire may be gone. A killed process loses nothing (page cache); a helper thread syncs every
100 ms.
"""

import errno
import os
import secrets
import threading
import zlib
from collections import deque
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from inspectd.publish.journal.records import (
    CLOSED,
    END,
    LATE,
    NEXT,
    OPENED,
    PAGE,
    RECORD,
    RESULT,
    Entry,
    Position,
    Segment,
    never_begun,
    pack_header,
    pack_record,
    pack_void,
)
from inspectd.publish.journal.recovery import TAINTED, lock_folder, open_segments, why_new_epoch
from inspectd.runtime.errors import UnavailableError
from inspectd.settings.publish import JournalConfig

log = structlog.get_logger()
SYNC_S = 0.1
CLOSE_S = 5.0
"""Longest wait for the disk at the end, in seconds."""


class _Newest(NamedTuple):
    """Place of the newest result, and its payload."""

    seq: int
    segment: Segment
    at: int
    payload: bytes


class Journal:
    """The journal, written by one thread; `close` ends it. It goes on from `seq`, `epoch`, `part_ids`."""

    def __init__(self, folder: Path, config: JournalConfig, boot_id: str) -> None:
        self.failure = ""
        """Why results are no longer kept; empty while they are."""
        self._folder, self._size = folder, config.segment_mib * 1024 * 1024
        paths = [folder / f"{i:03d}.journal" for i in range(config.segments)]
        self._lock = lock_folder(folder)
        try:
            found, tail, dropped = open_segments(folder, paths, self._size)
        except UnavailableError:
            os.close(self._lock)
            raise
        self.segments = [segment for segment in found if segment.path not in dropped]
        """Segments with results, oldest first; the last is being written."""
        used = {segment.path for segment in self.segments}
        position = tail.position if tail else Position(0, 0, 0, {}, boot_id)
        self.seq, self.part_ids = position.seq, position.part_ids
        unread = [path for path in paths if path not in used | dropped and not never_begun(path)]
        why = why_new_epoch(tail, boot_id, len(dropped), len(unread), (folder / TAINTED).exists())
        self.epoch = position.epoch if tail and not why else secrets.randbits(63) + 1
        if why:
            log.warning("a new epoch begins", why=why, epoch=self.epoch, last_seq=self.seq)
        self._boot_id, self._number = boot_id, position.number
        self._order = deque([path for path in paths if path not in used] + [s.path for s in self.segments])
        self._stopped, self._dirty = threading.Event(), False
        self._files = {path: os.open(path, os.O_RDWR | os.O_CLOEXEC) for path in self._order}
        """Descriptors of all segments: when the next is begun there may be none left in this process."""
        self._retired: deque[int] = deque()  # descriptors of full segments, synced by the helper
        self._newest: _Newest | None = None
        if tail and not why:
            self._fd, self._at = self._files[tail.segment.path], tail.end
        else:
            self._fd = -1
            self._begin_segment()
        (folder / TAINTED).unlink(missing_ok=True)
        self._tainted = False
        self._append(OPENED, boot_id.encode())
        os.fdatasync(self._fd)  # before the first number is on the wire
        self._syncer = threading.Thread(target=self._sync, name="journal-sync", daemon=True)
        self._syncer.start()

    def append(self, entry: Entry) -> None:
        """Keep one result. A failure shows in `failure` and is never raised: results go out all the same.

        Under the number of the last one it corrects that; if it can't be kept, neither is what it corrects.
        """
        self.seq = entry.seq - 1  # in case a segment is begun for it
        payload = msgspec.msgpack.encode(entry)
        at = self._keep(RESULT, payload)
        if at:
            self.segments[-1].note(entry.seq, at)
            self._newest = _Newest(entry.seq, self.segments[-1], at, payload)
        elif self._newest is not None and self._newest.seq == entry.seq:
            self._void(self._newest)
        self.seq = entry.seq
        self.part_ids[entry.camera] = max(entry.part_id, self.part_ids.get(entry.camera, 0))

    def append_late(self, entry: Entry) -> None:
        """Keep an answer that came after its deadline; it has no number (seq 0), for it is no result."""
        self._keep(LATE, msgspec.msgpack.encode(entry))

    def _keep(self, kind: int, payload: bytes) -> int:
        """Append a record; gives where it begins, 0 if it is not kept."""
        if not self.failure:
            try:
                return self._append(kind, payload)
            except OSError as error:
                self._fail(error)
        return 0

    def _void(self, newest: _Newest) -> None:
        """Write over the head of a record: that changes a page in memory even where nothing can be added."""
        head = pack_void(newest.segment.seed, newest.payload)
        try:
            fd = os.open(newest.segment.path, os.O_RDWR | os.O_CLOEXEC)  # a later segment may have been begun
            try:
                if os.pwrite(fd, head, newest.at) != len(head):
                    raise OSError(errno.EIO, "short write")
            finally:
                self._retired.append(fd)  # synced with those, then closed
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Write the mark of a clean end and sync. A disk that stalls for CLOSE_S is left as by a kill."""
        self._stopped.set()
        self._syncer.join(CLOSE_S)
        if self._syncer.is_alive():
            log.error("the journal's disk does not answer: the journal is left without the mark of a clean end")

    def _end(self) -> None:
        """Close the journal, in the helper thread."""
        if not self.failure:
            try:
                self._append(CLOSED, b"")
            except OSError as error:
                self._fail(error)
        self._sync_once()
        while self._files:
            os.close(self._files.popitem()[1])
        os.close(self._lock)

    def _append(self, kind: int, payload: bytes) -> int:
        """Append a record; gives where it begins; raises OSError."""
        size = RECORD.size + len(payload) + 2 * len(END)  # room for NEXT and the end behind it
        if PAGE + size > self._size:
            raise OSError(errno.EFBIG, "a result is larger than journal.segment_mib")
        if self._at + size > self._size:
            self._write(NEXT, b"")
            self._begin_segment()
        at = self._at
        self._write(kind, payload)
        return at

    def _write(self, kind: int, payload: bytes) -> None:
        record = pack_record(self.segments[-1].seed, kind, payload)
        if os.pwrite(self._fd, record, self._at) != len(record):
            raise OSError(errno.EIO, "short write")
        self._at += len(record) - len(END)
        self._dirty = True

    def _begin_segment(self) -> None:
        """Reuse the oldest segment: nothing is allocated while parts go by."""
        self._number += 1
        path = self._order[0]
        position = Position(self._number, self.epoch, self.seq, dict(self.part_ids), self._boot_id)
        header = pack_header(position)
        fd = self._files[path]
        os.pwrite(fd, header + END, 0)
        self._order.rotate(-1)
        if self.segments and self.segments[0].path == path:
            del self.segments[0]
        self.segments.append(Segment(position, path, zlib.crc32(header)))
        self.segments[-1].whole = True  # every result is noted as it is written
        if self._fd >= 0:
            self._retired.append(self._fd)
        self._fd, self._at = fd, PAGE

    def _sync(self) -> None:
        """Sync in the helper thread, the only one that closes a descriptor."""
        while not self._stopped.wait(SYNC_S):
            self._sync_once()
        self._end()

    def _sync_once(self) -> None:
        if self.failure and not self._tainted:
            self._taint()
        try:
            while self._retired:
                os.fdatasync(self._retired[0])
                if (fd := self._retired.popleft()) not in self._files.values():
                    os.close(fd)
            if self._dirty:
                self._dirty = False
                os.fdatasync(self._fd)
            if not self.failure and not os.fstat(self._fd).st_nlink:
                raise OSError(errno.ENOENT, "a file of the journal was deleted")
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failure = f"results are not kept: {error.strerror or error}"
        self._taint()

    def _taint(self) -> None:
        """Note on the disk that numbers were on the wire that are not here: the next start is a new epoch."""
        try:
            (self._folder / TAINTED).touch()
            self._tainted = True
        except OSError:
            pass  # it is the same disk: the helper tries again, and `failure` is in every heartbeat


def boot_id() -> str:
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

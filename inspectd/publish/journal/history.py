"""The journal read while it is written, in bounded steps: by the publish thread, between two results."""

import errno
import os
from pathlib import Path
from typing import NamedTuple

import structlog

from inspectd.publish.journal.records import RECORD, RESULT, Entry, Segment, decode_entry, records
from inspectd.publish.journal.writer import Journal
from inspectd.runtime.clock import now_ns
from inspectd.wire.results import Next

log = structlog.get_logger()
MAX_ENTRIES = 64
"""Most entries of a chunk: the protocol allows 256, but nothing else goes out while one is made."""
STEP_BYTES = 256 * 1024
"""Most bytes that are read in one step."""
UNREADABLE_NS, FORGOTTEN_NS = 5_000_000_000, 1_000_000_000
"""Nanoseconds after which a piece that was asked for in vain lies on a bad disk, as only a read that waits would
report it; and the longest pause between two questions for that time to go on."""
MAX_RECORD = 16 * 2**20
"""Most bytes of a record; one that claims to be longer is damage."""


class Chunk(NamedTuple):
    """Results of one epoch in a row, oldest first, as an answer to a replay."""

    entries: list[Entry]
    upto: int
    """Every result from the wanted number up to this one is in the chunk or is not kept."""
    next: Next | None = None
    """Where to read on when the epoch has ended and this chunk holds its last results; else None."""


class History:
    """The results in the journal, for the thread that writes it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._fd, self._path, self._size = -1, Path(), 0
        self._unreadable: list[Segment] = []  # segments that were logged as unreadable
        self._in_vain: dict[Path, tuple[int, int]] = {}  # when a file had nothing to read: first, last

    def oldest(self) -> Next:
        """Place of the oldest result that is kept; of the coming one, if none is."""
        return _first_of(self._journal.segments[0])

    def read(self, epoch: int, start: int) -> Chunk | None:
        """Results from number `start` of an epoch on. None: one step is done, and more are to do: call again.

        For an epoch that is not known, or no longer, the chunk is empty and `next` is the oldest epoch that is
        kept.
        """
        segments = self._journal.segments
        own = [i for i, segment in enumerate(segments) if segment.position.epoch == epoch]
        if not own:
            return Chunk([], max(start - 1, 0), self.oldest())
        place = max((i for i in own if segments[i].position.seq < start), default=own[0])
        segment = segments[place]
        try:
            if segment.last < start and not segment.whole:
                self._scan(segment)
                return None
            found = self._collect(segment, start)
        except OSError as error:  # a bad disk: its results count as not kept any more
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return None  # somebody will give a descriptor back
            if segment not in self._unreadable:
                self._unreadable = [*self._unreadable[-MAX_ENTRIES:], segment]
                log.error("the journal can't be read", file=str(segment.path), problem=str(error))
            found = [], True
        if found is None:
            return None
        entries, ended = found
        if not ended:
            return Chunk(entries, entries[-1].seq)
        if place == len(segments) - 1:
            return Chunk(entries, self._journal.seq)
        after = segments[place + 1]
        if after.position.epoch == epoch:
            upto = after.position.seq
            return Chunk(
                [entry for entry in entries if entry.seq <= upto], upto
            )  # the next segment begins with the correction
        last = entries[-1].seq if entries else max(start - 1, 0)
        return Chunk(entries, last, _first_of(after))

    def close(self) -> None:
        """Let go of the file that was read last."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _scan(self, segment: Segment) -> None:
        """Find where results are in one more piece of a segment that an earlier daemon wrote."""
        size = STEP_BYTES
        while size:
            data = self._read(segment, segment.scanned, size)
            if data is None:
                return
            end = 0
            for kind, payload, at, end in records(data, 0, segment.seed):  # noqa: B007
                if kind == RESULT:
                    segment.note(decode_entry(payload).seq, segment.scanned + at)
            segment.scanned += end
            size = self._rest(data, end, segment.scanned)
            if end:
                break
        segment.whole = not size

    def _collect(self, segment: Segment, start: int) -> tuple[list[Entry], bool] | None:
        """Results of a segment from a number on, and whether they are all it holds; None if it is not read yet.

        Two with one number may follow each other: the second corrects the first. So the last one that was
        read stays behind, unless nothing can follow it.
        """
        entries: list[Entry] = []
        at, size = segment.before(start), STEP_BYTES
        while True:
            data = self._read(segment, at, size)
            if data is None:
                return None
            end = 0
            for kind, payload, _, end in records(data, 0, segment.seed):  # noqa: B007
                if kind != RESULT or (entry := decode_entry(payload)).seq < start:
                    continue
                if entries and entries[-1].seq == entry.seq:
                    entries.pop()
                entries.append(entry)
                if len(entries) > MAX_ENTRIES:
                    return entries[:-1], False
            at += end
            size = self._rest(data, end, at)
            if not size:
                return entries, True
            if len(entries) > 1:
                return entries[:-1], False

    def _rest(self, data: bytes, end: int, at: int) -> int:
        """Bytes to read for the record behind the last whole one of this piece, which ends at `end`; 0 if none
        follows, but zeros or damage. `at`: the file offset of the piece's end.
        """
        if end + RECORD.size > len(data):
            return STEP_BYTES if at + RECORD.size <= self._size else 0
        length, _, kind = RECORD.unpack_from(data, end)
        size = RECORD.size + length
        if kind == 0 or end + size <= len(data) or size > min(MAX_RECORD, self._size - at):
            return 0
        return int(max(size, STEP_BYTES))

    def _read(self, segment: Segment, at: int, size: int) -> bytes | None:
        """Read bytes of a segment; None if only the disk has them: then they are asked for, and others go on."""
        if segment.path != self._path or self._fd < 0:
            self.close()
            self._fd, self._path = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC), segment.path
        self._size = os.fstat(self._fd).st_size
        buffer = bytearray(max(0, min(size, self._size - at)))
        try:
            got = os.preadv(self._fd, [buffer], at, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # not every file system knows
                got = os.preadv(self._fd, [buffer], at)
            elif error.errno == errno.EAGAIN:
                got = 0
            else:
                raise
        if got < len(buffer):
            self._wait_for(segment)
            os.posix_fadvise(self._fd, at, size, os.POSIX_FADV_WILLNEED)
            return None
        self._in_vain.pop(segment.path, None)
        return bytes(buffer)

    def _wait_for(self, segment: Segment) -> None:
        """Note that a segment's bytes are on the disk alone; raises OSError if that has been so for too long."""
        now = now_ns()
        since, last = self._in_vain.get(segment.path, (now, now))
        since = now if now - last > FORGOTTEN_NS else since
        self._in_vain[segment.path] = since, now
        if now - since > UNREADABLE_NS:
            raise OSError(errno.EIO, "the disk does not answer")


def _first_of(segment: Segment) -> Next:
    return Next(segment.position.epoch, segment.position.seq + 1)

"""The results journal: a result is in it before it is on the wire.

A fixed number of preallocated segment files, the oldest reused. Each begins with a page of header (number,
epoch, first sequence number, last part ids), then records back to back.

    record   u32 length of payload, u32 CRC-32 seeded with the CRC of the segment's header, u8 type, payload

Behind the last record stands an empty one (zeros): whatever else is found there is damage, and damage of
any kind ends the epoch, because numbers that were on the wire may be gone. The seed keeps stale records of
a file's former life from being read. A killed process loses nothing (page cache); a helper thread syncs
every 100 ms.
"""

import errno
import os
import secrets
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from inspectd.config import Journal as JournalConfig
from inspectd.errors import UnavailableError

PAGE = 4096
RECORD = struct.Struct("<IIB")
MAGIC = b"INSJRNL1"
SYNC_S = 0.1
RESULT, OPENED, CLOSED, NEXT = 1, 2, 3, 4
END = bytes(RECORD.size)
TAINTED = "tainted"


class Position(msgspec.Struct, frozen=True):
    """Header of a segment: what was true when it was begun."""

    number: int
    epoch: int
    seq: int
    """The last sequence number before it."""
    part_ids: dict[str, int]
    """The highest part id of each camera before it."""
    boot_id: str
    """The boot it was begun in; an OPENED record tells of a later one."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Payload of a RESULT record: the three frames of the message, and its keys."""

    seq: int
    camera: str
    part_id: int
    topic: bytes
    header: bytes
    body: bytes


class _Tail(NamedTuple):
    position: Position
    path: Path
    end: int
    seed: int
    closed: bool
    damaged: bool


class Journal:
    """Opened and written by one thread; `close` ends it. `seq`, `epoch`, `part_ids` are those to go on from."""

    def __init__(self, folder: Path, config: JournalConfig, boot_id: str) -> None:
        self.failure = ""
        """Why results are no longer kept; empty while they are."""
        self._folder, self._size = folder, config.segment_mib * 1024 * 1024
        paths = [folder / f"{i:03d}.journal" for i in range(config.segments)]
        kept = _preallocate(folder, paths, self._size)
        headers = {header[1]: header for path in paths if (header := _read_header(path))}
        kept = kept and all(path in headers or _never_begun(path) for path in paths)
        tail = _find_tail(list(headers.values()))
        position = tail.position if tail else Position(0, 0, 0, {}, boot_id)
        lost_power = tail is not None and not tail.closed and position.boot_id != boot_id
        self.seq, self.part_ids = position.seq, position.part_ids
        whole = kept and tail is not None and not tail.damaged and not (folder / TAINTED).exists()
        same_epoch = whole and not lost_power
        self.epoch = position.epoch if same_epoch else secrets.randbits(63) + 1
        self._boot_id, self._number = boot_id, position.number
        self._order = deque(sorted(paths, key=lambda path: headers[path][0].number if path in headers else 0))
        self._stopped, self._dirty = threading.Event(), False
        self._retired: deque[int] = deque()  # descriptors of full segments, synced and closed by the helper
        if tail and same_epoch:
            self._fd, self._at, self._seed = os.open(tail.path, os.O_RDWR | os.O_CLOEXEC), tail.end, tail.seed
        else:
            self._fd = -1
            self._begin_segment()
        (folder / TAINTED).unlink(missing_ok=True)
        self._append(OPENED, boot_id.encode())
        os.fdatasync(self._fd)  # before the first number is on the wire
        self._syncer = threading.Thread(target=self._sync, name="journal-sync", daemon=True)
        self._syncer.start()

    def append(self, entry: Entry) -> None:
        """Keep one result; its failure is told by `failure`, never raised: results go out all the same."""
        self.seq = entry.seq
        self.part_ids[entry.camera] = max(entry.part_id, self.part_ids.get(entry.camera, 0))
        if not self.failure:
            try:
                self._append(RESULT, msgspec.msgpack.encode(entry))
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Write the mark of a clean end and sync."""
        self._stopped.set()
        self._syncer.join()
        if not self.failure:
            try:
                self._append(CLOSED, b"")
            except OSError as error:
                self._fail(error)
            self._sync_once()
        os.close(self._fd)

    def _append(self, kind: int, payload: bytes) -> None:
        size = RECORD.size + len(payload) + 2 * len(END)  # room for NEXT and the end behind it
        if PAGE + size > self._size:
            raise OSError(errno.EFBIG, "a result is larger than journal.segment_mib")
        if self._at + size > self._size:
            self._write(NEXT, b"")
            self._begin_segment()
        self._write(kind, payload)

    def _write(self, kind: int, payload: bytes) -> None:
        record = RECORD.pack(len(payload), _crc(self._seed, kind, payload), kind) + payload + END
        if os.pwrite(self._fd, record, self._at) != len(record):
            raise OSError(errno.EIO, "short write")
        self._at += len(record) - len(END)
        self._dirty = True

    def _begin_segment(self) -> None:
        """Reuse the oldest segment: nothing is allocated while parts go by."""
        self._number += 1
        path = self._order[0]
        self._order.rotate(-1)
        header = _pack_header(Position(self._number, self.epoch, self.seq, self.part_ids, self._boot_id))
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.pwrite(fd, header + END, 0)
        if self._fd >= 0:
            self._retired.append(self._fd)
        self._fd = fd
        self._at, self._seed = PAGE, zlib.crc32(header)

    def _sync(self) -> None:
        """The helper thread, the only one that closes a descriptor while the journal is open."""
        while not self._stopped.wait(SYNC_S):
            self._sync_once()

    def _sync_once(self) -> None:
        try:
            while self._retired:
                os.fdatasync(self._retired[0])
                os.close(self._retired.popleft())
            if self._dirty:
                self._dirty = False
                os.fdatasync(self._fd)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failure = f"results are not kept: {error.strerror or error}"
        try:
            (
                self._folder / TAINTED
            ).touch()  # numbers on the wire that are not here: the next start is a new epoch
        except OSError:
            pass  # the same disk; `failure` is in every heartbeat


def boot_id() -> str:
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def read_entries(folder: Path) -> Iterator[Entry]:
    """All results in a journal, oldest first; of two with one number the second, which corrects the first."""
    headers = (header for path in folder.glob("*.journal") if (header := _read_header(path)))
    last: Entry | None = None
    for _, path, seed in sorted(headers, key=lambda header: header[0].number):
        for kind, payload, _ in _records(path, seed):
            if kind == RESULT:
                entry = msgspec.msgpack.decode(payload, type=Entry)
                if last is not None and last.seq != entry.seq:
                    yield last
                last = entry
    if last is not None:
        yield last


def _preallocate(folder: Path, paths: list[Path], size: int) -> bool:
    """Make the segments. False if the folder held a journal of another form: its records are dropped."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        surplus = [path for path in folder.glob("*.journal") if path not in paths]
        kept = not surplus
        for path in paths:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                if os.fstat(fd).st_size not in (0, size):
                    os.ftruncate(fd, 0)
                    kept = False
                os.posix_fallocate(fd, 0, size)
            finally:
                os.close(fd)
        for path in surplus:
            path.unlink()
        return kept
    except OSError as error:
        raise UnavailableError(
            f"the journal {folder} can't be made ({len(paths)} files of {size // 2**20} MiB): {error.strerror}"
        ) from None


def _pack_header(position: Position) -> bytes:
    body = msgspec.json.encode(position)
    return (MAGIC + struct.pack("<II", len(body), zlib.crc32(body)) + body).ljust(PAGE, b"\0")


def _read_header(path: Path) -> tuple[Position, Path, int] | None:
    """None for a segment that was never begun, whose beginning was torn, or that another version wrote."""
    with path.open("rb") as file:
        page = file.read(PAGE)
    if len(page) < PAGE or not page.startswith(MAGIC):
        return None
    length, crc = struct.unpack_from("<II", page, len(MAGIC))
    body = page[len(MAGIC) + 8 :][:length]
    if zlib.crc32(body) != crc:
        return None
    try:
        return msgspec.json.decode(body, type=Position), path, zlib.crc32(page)
    except msgspec.DecodeError:
        return None


def _never_begun(path: Path) -> bool:
    with path.open("rb") as file:
        return not any(file.read(PAGE))


def _records(path: Path, seed: int) -> Iterator[tuple[int, bytes, int]]:
    """Type, payload and end of each whole record."""
    data, at = path.read_bytes(), PAGE
    while at + RECORD.size <= len(data):
        length, crc, kind = RECORD.unpack_from(data, at)
        end = at + RECORD.size + length
        payload = data[at + RECORD.size : end]
        if kind == 0 or end > len(data) or _crc(seed, kind, payload) != crc:
            return
        yield kind, payload, end
        at = end


def _crc(seed: int, kind: int, payload: bytes) -> int:
    return zlib.crc32(payload, seed ^ kind)


def _find_tail(headers: list[tuple[Position, Path, int]]) -> _Tail | None:
    """Where the newest segment ends, and what was true there."""
    if not headers:
        return None
    position, path, seed = max(headers, key=lambda header: header[0].number)
    seq, part_ids, end, boot, kind = position.seq, dict(position.part_ids), PAGE, position.boot_id, 0
    for kind, payload, end in _records(path, seed):  # noqa: B007  (the last ones are looked at below)
        if kind == OPENED:
            boot = payload.decode()
        elif kind == RESULT:
            entry = msgspec.msgpack.decode(payload, type=Entry)
            seq = max(seq, entry.seq)
            part_ids[entry.camera] = max(entry.part_id, part_ids.get(entry.camera, 0))
    with path.open("rb") as file:
        file.seek(end)
        damaged = file.read(len(END)) != END or kind == NEXT
    last = Position(position.number, position.epoch, seq, part_ids, boot)
    return _Tail(last, path, end, seed, kind == CLOSED, damaged)

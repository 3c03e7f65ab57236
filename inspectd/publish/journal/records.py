"""The files of the journal: a fixed number of preallocated segments.

Each begins with a page of header (number, epoch, first sequence number, last part ids), then records back to
back.

    record   u32 length of payload, u32 CRC-32 seeded with the CRC of the segment's header, u8 type, payload

Behind the last record stands an empty one (zeros): whatever else is found there is damage. The seed keeps
stale records of a file's former life from being read.
"""

import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import msgspec

PAGE = 4096
RECORD = struct.Struct("<IIB")
MAGIC = b"INSJRNL1"
RESULT, OPENED, CLOSED, NEXT, LATE, VOID = 1, 2, 3, 4, 5, 6
"""Types of records. VOID: was a RESULT whose correction could not be kept; its number is used up."""
END = bytes(RECORD.size)
STEP = 64
"""Number of results per remembered place in a segment."""


class Position(msgspec.Struct, frozen=True):
    """Header of a segment: what was true when it was begun."""

    number: int
    epoch: int
    seq: int
    """Last sequence number before the segment."""
    part_ids: dict[str, int]
    """Highest part id of each camera before the segment."""
    boot_id: str
    """Boot in which the segment was begun; an OPENED record notes a later one."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """Payload of a RESULT record: the three frames of the message, and its keys. A LATE record has seq 0."""

    seq: int
    camera: str
    part_id: int
    """The part; of a range the last, behind which a later daemon goes on."""
    topic: bytes
    header: bytes
    body: bytes


class Segment:
    """One file of the journal, and where in it some of the results are."""

    def __init__(self, position: Position, path: Path, seed: int) -> None:
        self.position, self.path, self.seed = position, path, seed
        self.whole = False
        """Whether all places are known; else those before `scanned`."""
        self.scanned = PAGE
        self.last = position.seq
        """Newest result whose place was noted."""
        self._numbers: list[int] = []
        self._places: list[int] = []
        self._counted = 0

    def note(self, seq: int, at: int) -> None:
        """Note that a result lies there; called in the order of the file."""
        if self._counted % STEP == 0:
            self._numbers.append(seq)
            self._places.append(at)
        self._counted += 1
        self.last = seq

    def before(self, seq: int) -> int:
        """A place from which the result can be found by reading on, at most STEP results further up to `last`."""
        index = bisect_right(self._numbers, seq) - 1
        return self._places[index] if index >= 0 else PAGE


def crc(seed: int, kind: int, payload: bytes | memoryview) -> int:
    """CRC-32 of a record."""
    return zlib.crc32(payload, seed ^ kind)


def pack_record(seed: int, kind: int, payload: bytes) -> bytes:
    """Pack a record, and the empty one behind it."""
    return RECORD.pack(len(payload), crc(seed, kind, payload), kind) + payload + END


def pack_void(seed: int, payload: bytes) -> bytes:
    """Pack the head of a VOID record, to be written over that of the RESULT with this payload."""
    return RECORD.pack(len(payload), crc(seed, VOID, payload), VOID)


def records(data: bytes, at: int, seed: int) -> Iterator[tuple[int, bytes, int, int]]:
    """Type, payload, begin and end of each whole record from `at` on."""
    while at + RECORD.size <= len(data):
        length, found, kind = RECORD.unpack_from(data, at)
        end = at + RECORD.size + length
        payload = data[at + RECORD.size : end]
        if kind == 0 or end > len(data) or crc(seed, kind, payload) != found:
            return
        yield kind, payload, at, end
        at = end


decode_entry = msgspec.msgpack.Decoder(Entry).decode


def pack_header(position: Position) -> bytes:
    """Pack the first page of a segment."""
    body = msgspec.json.encode(position)
    return (MAGIC + struct.pack("<II", len(body), zlib.crc32(body)) + body).ljust(PAGE, b"\0")


def read_segment(path: Path) -> Segment | None:
    """Read a segment; None if it was never begun, its beginning is torn, or another version wrote it."""
    with path.open("rb") as file:
        page = file.read(PAGE)
    if len(page) < PAGE or not page.startswith(MAGIC):
        return None
    length, found = struct.unpack_from("<II", page, len(MAGIC))
    body = page[len(MAGIC) + 8 :][:length]
    if zlib.crc32(body) != found:
        return None
    try:
        return Segment(msgspec.json.decode(body, type=Position), path, zlib.crc32(page))
    except msgspec.DecodeError:
        return None


def never_begun(path: Path) -> bool:
    """Whether nothing was written to a segment since it was made."""
    with path.open("rb") as file:
        return not any(file.read(PAGE))


def read_entries(folder: Path, kind: int = RESULT) -> Iterator[Entry]:
    """All results in a journal, oldest first; of two with one number the second, which corrects the first.

    kind: RESULT, or LATE for the answers that came after their deadline.
    """
    segments = (segment for path in folder.glob("*.journal") if (segment := read_segment(path)))
    last: Entry | None = None
    for segment in sorted(segments, key=lambda segment: segment.position.number):
        for found, payload, _, _ in records(segment.path.read_bytes(), PAGE, segment.seed):
            if found == kind:
                entry = decode_entry(payload)
                if last is not None and (last.seq != entry.seq or kind == LATE):
                    yield last
                last = entry
    if last is not None:
        yield last

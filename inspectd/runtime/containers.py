"""What image files are made of: whether one is whole, how many pictures it holds, and how it is turned. Pure."""

import re
import struct
import zlib
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
"""Chunks of a PNG file that its pixels depend on."""
ORIENTATION = 274
TAGS = {273, ORIENTATION, 279, 324, 325, 0xB001}
"""Tags of TIFF 6.0 and of MPO that are looked at."""
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker of JPEG within coded pixels: neither a stuffed byte nor a restart."""
END_OF_IMAGE = 0xD9
MAX_NUMBERS = 2**17
"""Most numbers of a tag that are read: twice as many as a picture has lines at most."""


def is_whole_jpeg(data: bytes) -> bool:
    """Whether a JPEG file has its begin and its end; phones and cameras write bytes of their own behind that."""
    return data.startswith(b"\xff\xd8\xff") and _end_of_jpeg(data) is not None


def is_whole_png(data: bytes) -> bool:
    """Whether a PNG file has its begin and its end."""
    ends = data.endswith(b"IEND\xae\x42\x60\x82") or any(name == b"IEND" for name, _, _ in _chunks(data))
    return data.startswith(PNG) and ends


def is_whole_bmp(data: bytes) -> bool:
    """Whether a BMP file holds all the rows that it states; its size field is often 0 or wrong."""
    if not data.startswith(b"BM") or len(data) < 54:
        return False
    stated, first = int.from_bytes(data[2:6], "little"), int.from_bytes(data[10:14], "little")
    width, height, bits, compression, size = struct.unpack_from("<iixxHII", data, 18)
    if int.from_bytes(data[14:18], "little") < 40:  # the header of OS/2, whose fields are others
        return len(data) >= stated > 54
    if compression not in (0, 3):  # run lengths: how many bytes they take is written
        return bool(size > 0 and len(data) >= first + size > 54)
    rows = (abs(width) * bits + 31) // 32 * 4 * abs(height)
    return bool(54 <= first <= len(data) - rows)


def is_whole_webp(data: bytes) -> bool:
    """Whether a WebP file holds as many bytes as it states."""
    stated = int.from_bytes(data[4:8], "little")
    return data.startswith(b"RIFF") and data[8:12] == b"WEBP" and len(data) >= 8 + stated > 20


def is_whole_tiff(data: bytes) -> bool:
    """Whether all strips of the first directory lie within the file (TIFF 6.0, tags 273, 279; tiles 324, 325)."""
    if not data.startswith((b"II*\0", b"MM\0*")):
        return False
    tags, _ = _directory(data, 4)
    offsets, sizes = tags.get(273) or tags.get(324) or [], tags.get(279) or tags.get(325) or []
    fits = all(offset + size <= len(data) for offset, size in zip(offsets, sizes, strict=False))
    return bool(offsets) and len(offsets) == len(sizes) and fits


def jpeg_pictures(data: bytes) -> int:
    """Number of pictures in a JPEG file: more than one by CIPA DC-007 (MPO), whose index is an APP2 segment."""
    for marker, segment in _segments(data):
        if marker == 0xE2 and segment.startswith(b"MPF\0") and segment[4:8] in (b"II*\0", b"MM\0*"):
            tags, _ = _directory(segment[4:], 4)
            return max(1, *tags.get(0xB001, [1]))
    end = _end_of_jpeg(data)
    return 2 if end is not None and data[end : end + 3] == b"\xff\xd8\xff" else 1


def webp_pictures(data: bytes) -> int:
    """Number of pictures in a WebP file: more than one in an animation, whose frames are chunks."""
    return max(1, sum(name == b"ANMF" for name, _ in _riff_chunks(data)))


def png_pictures(data: bytes) -> int:
    """Number of pictures in a PNG file: more than one in an animation."""
    counts = [struct.unpack(">I", body[:4])[0] for name, body, _ in _chunks(data) if name == b"acTL"]
    return max(1, *counts) if counts else 1


def tiff_pictures(data: bytes) -> int:
    """Number of pictures in a TIFF file, 2 if there are more: each has a directory, which names the next."""
    return 2 if _directory(data, 4)[1] else 1


def orientation(data: bytes) -> int:
    """How EXIF says that a picture is to be turned before it is shown: 1 (not at all) to 8."""
    blocks: list[bytes] = []
    if data.startswith(b"\xff\xd8"):
        blocks = [s for marker, s in _segments(data) if marker == 0xE1 and s.startswith(b"Exif\0\0")]
    elif data.startswith(PNG):
        blocks = [bytes(body) for name, body, _ in _chunks(data) if name == b"eXIf"]
    elif data.startswith(b"RIFF"):
        blocks = [body for name, body in _riff_chunks(data) if name == b"EXIF"]
    elif data.startswith((b"II*\0", b"MM\0*")):
        blocks = [data]
    for block in blocks:
        tags, _ = _directory(block.removeprefix(b"Exif\0\0"), 4)
        if tags.get(ORIENTATION, [1])[:1] in ([2], [3], [4], [5], [6], [7], [8]):
            return tags[ORIENTATION][0]
    return 1


def needed_of_png(data: bytes) -> bytes | None:
    """A PNG file with nothing but what its pixels depend on; None if one of these chunks is damaged or missing.

    The rest, as colour profiles, only makes the decoder complain where it is odd.
    """
    kept: list[bytes | memoryview] = []
    names = []
    for name, body, crc in _chunks(data):
        if name in NEEDED:
            if zlib.crc32(body, zlib.crc32(name)) != crc:
                return None
            names.append(name)
            kept += [struct.pack(">I", len(body)), name, body, struct.pack(">I", crc)]
    is_sound = names[:1] == [b"IHDR"] and names[-1:] == [b"IEND"] and b"IDAT" in names
    return b"".join([PNG, *kept]) if is_sound else None


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """The chunks of a PNG file, as far as they are whole: name, body, CRC."""
    view, at = memoryview(data), len(PNG)
    while at + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + size > len(data):
            return
        yield name, view[at + 8 : at + 8 + size], struct.unpack_from(">I", data, at + 8 + size)[0]
        if name == b"IEND":  # what is behind it belongs to nobody
            return
        at += 12 + size


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a WebP file: name and body."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _end_of_jpeg(data: bytes) -> int | None:
    """The place behind the first picture's end mark; None if the file ends before. Thumbnails lie in segments."""
    at = 2
    while at < len(data):
        found = MARKER.search(data, at)
        if found is None:
            return None
        marker, at = data[found.end() - 1], found.end()
        if marker == END_OF_IMAGE:
            return at
        if marker not in (0x01, 0xD8):  # these two have no length
            at += int.from_bytes(data[at : at + 2], "big")
    return None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The segments of a JPEG file before its pixels: marker and content."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xFF:  # a byte that fills
            at += 1
            continue
        yield data[at + 1], data[at + 4 : at + 2 + size]
        at += 2 + size


def _directory(data: bytes, at: int) -> tuple[dict[int, list[int]], int]:
    """The directory of TIFF data whose place is written at `at`: its numbers by tag, and the place of the next."""
    order = "little" if data.startswith(b"II") else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], order)  # type: ignore[arg-type]

    start = number(at, 4)
    end = start + 2 + 12 * number(start, 2)
    tags: dict[int, list[int]] = {}
    for entry in range(start + 2, min(end, len(data)), 12):
        if number(entry, 2) not in TAGS:
            continue
        size = {3: 2, 4: 4}.get(number(entry + 2, 2), 0)
        count = min(number(entry + 4, 4), MAX_NUMBERS)
        first = entry + 8 if size * count <= 4 else number(entry + 8, 4)
        tags[number(entry, 2)] = [number(first + i * size, size) for i in range(count)] if size else []
    return tags, number(end, 4)

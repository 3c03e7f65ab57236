"""Reading an image file, whole or not at all."""

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
HARMLESS = re.compile("TIFF_Warning|libpng warning")
"""Warnings of decoders about odd tags and colour profiles, not lost pixels."""
_decoding = threading.Lock()  # the standard error is the process's


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder, in name order; raises OSError if it can't be listed."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in WHOLE and p.is_file())


def read_image(path: Path) -> U8:
    """Read an 8-bit image as uint8 [H, W, C], C = 1 or 3 (RGB).

    Raises ValueError with one sentence if the file can't be read, is cut off, or is not 8-bit grey or RGB.
    Decoders fill what is missing of a damaged file with grey, and only mutter; such a picture could pass. So
    the file's end is checked, and a picture that the decoder complains about is refused. (BMP and plain TIFF
    have no checksum: wrong bytes within a whole file can't be seen.)
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{shown_name(path)}: can't be read: {error.strerror}") from None
    whole = WHOLE.get(path.suffix.lower())
    if whole is None:
        raise ValueError(f"{shown_name(path)}: is not one of {', '.join(sorted(WHOLE))}")
    if not whole(data):
        raise ValueError(f"{shown_name(path)}: is cut off or not what its name says")
    image, complaint = _decode(data)
    if image is None or complaint:
        raise ValueError(f"{shown_name(path)}: can't be decoded, the file is damaged {complaint}".rstrip())
    if image.dtype != np.uint8:
        raise ValueError(f"{shown_name(path)}: has {image.dtype.itemsize * 8} bits per channel, 8 are needed")
    if image.ndim == 2:
        return np.asarray(image[:, :, None], np.uint8)
    if image.shape[2] != 3:
        raise ValueError(f"{shown_name(path)}: has {image.shape[2]} channels, 1 (grey) or 3 (colour) are needed")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def shown_name(path: Path) -> str:
    """The file's name as text that can be sent and printed; names need not be UTF-8."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def _decode(data: bytes) -> tuple[npt.NDArray[Any] | None, str]:
    """Decode an image; gives it, and what the decoders wrote to the standard error: their only way to warn."""
    with _decoding, os.fdopen(os.memfd_create("decoder", os.MFD_CLOEXEC), "r+b") as said:
        stderr = os.dup(2)
        try:
            os.dup2(said.fileno(), 2)
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:  # as of a header that names an absurd size
            image = None
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    grave = [line for line in lines if not HARMLESS.search(line)]
    return image, f"({grave[0]})" if grave else ""


def write_png(path: Path, image: U8) -> None:
    """Write uint8 [H, W] or [H, W, C], C = 1 or 3 (RGB), as PNG; raises OSError."""
    # cv2.imwrite reports success on a full disk
    _, png = cv2.imencode(".png", image if image.shape[-1] != 3 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    path.write_bytes(png.tobytes())


def _whole_jpeg(data: bytes) -> bool:
    return data.startswith(b"\xff\xd8\xff") and data.rstrip(b"\0").endswith(b"\xff\xd9")


def _whole_png(data: bytes) -> bool:
    return data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xae\x42\x60\x82")


def _whole_bmp(data: bytes) -> bool:
    return data.startswith(b"BM") and len(data) >= int.from_bytes(data[2:6], "little") > 54


def _whole_tiff(data: bytes) -> bool:
    """Whether all strips of the first directory lie within the file (TIFF 6.0, tags 273, 279; tiles 324, 325)."""
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(data[:4])
    if order is None:
        return False

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]

    start = number(4, 4)
    tags: dict[int, list[int]] = {}
    for entry in range(start + 2, start + 2 + 12 * number(start, 2), 12):
        size = {3: 2, 4: 4}.get(number(entry + 2, 2), 0)
        count = min(number(entry + 4, 4), len(data))
        at = entry + 8 if size * count <= 4 else number(entry + 8, 4)
        tags[number(entry, 2)] = [number(at + i * size, size) for i in range(count)] if size else []
    offsets, sizes = tags.get(273) or tags.get(324) or [], tags.get(279) or tags.get(325) or []
    fits = all(offset + size <= len(data) for offset, size in zip(offsets, sizes, strict=False))
    return bool(offsets) and len(offsets) == len(sizes) and fits


WHOLE: dict[str, Callable[[bytes], bool]] = {
    ".jpg": _whole_jpeg,
    ".jpeg": _whole_jpeg,
    ".png": _whole_png,
    ".bmp": _whole_bmp,
    ".tif": _whole_tiff,
    ".tiff": _whole_tiff,
}

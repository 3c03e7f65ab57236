"""Reading an image file, whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from inspectd.runtime import containers
from inspectd.runtime.decoder import decode, decode_apart

U8 = npt.NDArray[np.uint8]
Decoded = tuple[npt.NDArray[Any] | None, str]


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder, in name order, without hidden ones; raises OSError if it can't be listed."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in FORMATS and p.name[0] != "." and p.is_file())


def read_image(path: Path) -> U8:
    """Read an 8-bit image as uint8 [H, W, C], C = 1 or 3 (RGB).

    Raises ValueError with one sentence if the file can't be read, is cut off, holds more than one picture, or is
    not 8-bit grey or RGB. Decoders fill what is missing of a damaged file with grey, and only mutter; such a
    picture could pass. So the file's end and the checksums of PNG are checked, and a picture that a decoder
    complains about is refused. (BMP and plain TIFF have no checksum: wrong bytes within them can't be seen.)
    """
    name = shown_name(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: can't be read: {error.strerror}") from None
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise ValueError(f"{name}: is not one of {', '.join(sorted(FORMATS))}")
    if not form.is_whole(data):
        raise ValueError(f"{name}: is cut off or not what its name says")
    if form.pictures(data) > 1:
        raise ValueError(f"{name}: holds more than one picture; save each to a file of its own")
    image, complaint = form.decode(data)
    if image is None or complaint:
        why = f" ({complaint})" if complaint else ""
        raise ValueError(f"{name}: can't be decoded, the file is damaged{why}")
    if image.dtype != np.uint8:
        raise ValueError(f"{name}: has {image.dtype.itemsize * 8} bits per channel, 8 are needed")
    image = image.reshape(*image.shape[:2], -1)
    if image.shape[2] == 1:
        return np.asarray(image, np.uint8)
    if image.shape[2] != 3:
        raise ValueError(f"{name}: has {image.shape[2]} channels, 1 (grey) or 3 (colour) are needed")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), np.uint8)  # in place


def shown_name(path: Path) -> str:
    """The file's name as text that can be sent and printed; names need not be UTF-8."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def write_png(path: Path, image: U8) -> None:
    """Write uint8 [H, W] or [H, W, C], C = 1 or 3 (RGB), as PNG; raises OSError."""
    # cv2.imwrite reports success on a full disk
    _, png = cv2.imencode(".png", image if image.shape[-1] != 3 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    path.write_bytes(png.tobytes())


class _FileFormat(NamedTuple):
    """How the files of a format are read."""

    is_whole: Callable[[bytes], bool]
    pictures: Callable[[bytes], int]
    decode: Callable[[bytes], Decoded]


def _decode_png(data: bytes) -> Decoded:
    needed = containers.needed_of_png(data)
    return (None if needed is None else decode(needed)), ""  # a stream that ends early is an error of its decoder


_JPEG = _FileFormat(containers.is_whole_jpeg, containers.jpeg_pictures, decode_apart)
_TIFF = _FileFormat(containers.is_whole_tiff, containers.tiff_pictures, decode_apart)
FORMATS = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".png": _FileFormat(containers.is_whole_png, containers.png_pictures, _decode_png),
    ".bmp": _FileFormat(containers.is_whole_bmp, lambda _: 1, lambda data: (decode(data), "")),
    ".tif": _TIFF,
    ".tiff": _TIFF,
}

"""From the bytes of a GenTL buffer to the slot's picture: Mono8 or RGB8, cut to the camera's rectangle.

Grey for a colour model and colour for a grey one are converted by the rule of `inspectd/runtime/channels.py`.

Pixel formats have their PFNC names. Of deeper pixels the upper 8 bits are kept and the lower ones dropped, not
rounded. Lines follow each other without padding, those of the packed formats (`p`) too: with an odd width a line
may begin within a byte. Bayer mosaics are cut to 8 bits, then demosaiced by OpenCV's bilinear method.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from inspectd.acquire.camera import U8
from inspectd.runtime.channels import recolour

Rect = tuple[int, int, int, int]
Convert = Callable[[U8, U8], None]
Fill = Callable[[U8, U8], object]


class _Format(NamedTuple):
    bits: int
    """Bits per pixel in the buffer."""
    depth: int
    """Bits that count, per channel."""
    channels: int
    order: str
    """Order of a pixel's colours; for a Bayer mosaic of its first 2x2 pixels."""


LAYOUTS = {"8": (8, 8), "10": (16, 10), "12": (16, 12), "10p": (10, 10), "12p": (12, 12)}
BAYER = {"RG": "RGGB", "GR": "GRBG", "GB": "GBRG", "BG": "BGGR"}
FORMATS = (
    {f"Mono{name}": _Format(*layout, 1, "") for name, layout in LAYOUTS.items()}
    | {f"Bayer{c}{name}": _Format(*layout, 3, BAYER[c]) for c in BAYER for name, layout in LAYOUTS.items()}
    | {name + "8": _Format(24, 8, 3, name) for name in ("RGB", "BGR")}
)
ALLOWED = "RGB8, BGR8, and Mono, BayerRG, BayerGR, BayerGB, BayerBG with 8, 10, 12, 10p or 12p"
PREFERRED = {
    1: ("Mono8", "RGB8", "BGR8", *(f"Bayer{c}8" for c in BAYER)),
    3: ("RGB8", "BGR8", *(f"Bayer{c}8" for c in BAYER), "Mono8"),
}
"""By the channels that the model wants: what a camera is asked for, the first that it has."""
GROUPS = {10: (4, 5), 12: (2, 3)}
"""Groups of packed pixels by bits per pixel: so many pixels fill so many bytes."""


def nbytes(pixel_format: str, width: int, height: int) -> int:
    """Bytes of one picture in the buffer; raises ValueError for a format that can't be converted."""
    how = FORMATS.get(pixel_format)
    if how is None:
        raise ValueError(f"pixel format {pixel_format} can't be converted; allowed are {ALLOWED}")
    return (how.bits * width * height + 7) // 8


def converter(pixel_format: str, channels: int, width: int, height: int, rect: Rect) -> Convert:
    """Make a function (buffer, image) that fills `image` with the rectangle (x, y, w, h) of the buffer.

    The buffer is uint8 [n], n at least `nbytes`, else ValueError; the image uint8 [h, w, channels], C-contiguous.
    The function has scratch memory of its own: one call at a time. channels: 1 = Mono8, 3 = RGB8. Raises
    ValueError if the format can't be converted, or the rectangle does not lie in the picture.
    """
    size, how = nbytes(pixel_format, width, height), FORMATS[pixel_format]
    x, y, w, h = rect
    if not (0 <= x < x + w <= width and 0 <= y < y + h <= height):
        raise ValueError(f"the rectangle {rect} does not lie within the camera's {width}x{height} pixels")
    fill = _filler(how, width, height, rect)
    if how.channels != channels:
        fill = _recoloured(fill, np.empty((h, w, how.channels), np.uint8))

    def convert(buffer: U8, image: U8) -> None:
        if buffer.size < size:
            raise ValueError(f"the buffer has {buffer.size} bytes, {width}x{height} {pixel_format} has {size}")
        # for any other target OpenCV and reshape would make a new one, and say nothing
        assert image.shape == (h, w, channels) and image.flags.c_contiguous
        fill(buffer[:size], image)

    return convert


def _filler(how: _Format, width: int, height: int, rect: Rect) -> Fill:
    if how.order in BAYER.values():
        return _demosaiced(how, width, height, rect)
    if how.bits in GROUPS:
        return _unpacked(how.bits, width, rect)
    if how.bits == 16:
        return _shifted(how.depth, width, height, rect)
    shape, cut = (height, width, how.channels), _cut(rect)
    if how.order == "BGR":
        return lambda data, image: cv2.cvtColor(data.reshape(shape)[cut], cv2.COLOR_BGR2RGB, dst=image)
    return lambda data, image: np.copyto(image, data.reshape(shape)[cut])


def _recoloured(fill: Fill, scratch: U8) -> Fill:
    def fill_recoloured(data: U8, image: U8) -> None:
        fill(data, scratch)
        recolour(scratch, image)

    return fill_recoloured


def _cut(rect: Rect) -> Any:
    x, y, w, h = rect
    return np.s_[y : y + h, x : x + w]


def _shifted(depth: int, width: int, height: int, rect: Rect) -> Fill:
    """Fill from 16-bit little-endian pixels, by the upper 8 of their `depth` bits."""
    cut, step = _cut(rect), 1 << (depth - 8)
    # OpenCV scales and rounds in one pass, numpy's shift with a narrower target takes longer. Centred on 0, the
    # `step` values that shall become one round to that one, and none lies half-way.
    scale, offset = 1 / step, -(step - 1) / 2 / step

    def fill(data: U8, image: U8) -> None:
        cv2.convertScaleAbs(data.view("<u2").reshape(height, width)[cut], dst=image, alpha=scale, beta=offset)

    return fill


def _unpacked(bits: int, width: int, rect: Rect) -> Fill:
    """Fill from packed pixels of 10 or 12 bits, lowest bits first, by their upper 8.

    Each byte of a group goes to a plane of its own: planes are shifted and joined much faster than strided bytes.
    """
    x, y, w, h = rect
    pixels, size = GROUPS[bits]
    first, last = y * width // pixels * pixels, (y + h) * width  # from the group in which the rectangle begins
    count = (last - first) // pixels
    data_cut = slice(first // pixels * size, (first // pixels + count) * size)
    planes = [np.empty((count, 1), np.uint8) for _ in range(size)]
    spare, scratch = np.empty((count, 1), np.uint8), np.empty(last - first, np.uint8)
    picture = scratch[y * width - first :].reshape(h, width, 1)[:, x : x + w]
    is_direct = w == width and first == y * width
    upper = [divmod(bits * i + bits - 8, 8) for i in range(pixels)]  # the byte and bit where they begin

    def fill(data: U8, image: U8) -> None:
        target = image.reshape(-1) if is_direct else scratch
        if count:
            cv2.split(data[data_cut].reshape(count, 1, size), planes)
            for byte, bit in upper:
                if bit:
                    np.multiply(planes[byte + 1], 1 << (8 - bit), out=spare)  # for bytes faster than left_shift
                    np.right_shift(planes[byte], bit, out=planes[byte])
                    np.bitwise_or(planes[byte], spare, out=planes[byte])
            found = [planes[byte] for byte, _ in upper]
            cv2.merge(found, target[: count * pixels].reshape(count, 1, pixels))
        for i in range(first + count * pixels, last):  # the last group, which the rectangle does not fill
            byte, bit = divmod(bits * i + bits - 8, 8)
            target[i - first] = int.from_bytes(data[byte : byte + 2].tobytes(), "little") >> bit & 255
        if not is_direct:
            np.copyto(image, picture)

    return fill


def _demosaiced(how: _Format, width: int, height: int, rect: Rect) -> Fill:
    """Fill from a Bayer mosaic, the same as if the whole picture were demosaiced and then cut."""
    if min(width, height) < 3:
        raise ValueError(f"a Bayer picture of {width}x{height} pixels can't be converted, 3x3 are needed")
    x, y, w, h = rect
    whole = (0, 0, width, height)
    reduce = None if how.bits == 8 else _filler(how._replace(order=""), width, height, whole)
    reduced = np.empty((height, width, 1) if reduce else 0, np.uint8)
    cut, code, repairs_code = _cut(rect), _bayer_code(how.order, x, y), _bayer_code(how.order, 0, 0)
    borders = [(x, y, w, 1), (x, y + h - 1, w, 1), (x, y, 1, h), (x + w - 1, y, 1, h)]
    repairs = [_repair(width, height, rect, border) for border in borders if rect != whole]

    def fill(data: U8, image: U8) -> None:
        if reduce:
            reduce(data, reduced)
        mosaic = (reduced if reduce else data).reshape(height, width)
        if min(w, h) > 2:  # else all of it is border
            cv2.cvtColor(mosaic[cut], code, dst=image)
        # OpenCV takes the cut's border for the sensor's, and repeats there what lies one pixel further in
        for around, scratch, inner, border in repairs:
            cv2.cvtColor(mosaic[around], repairs_code, dst=scratch)
            image[border] = scratch[inner]

    return fill


def _bayer_code(order: str, x: int, y: int) -> int:
    """OpenCV's code for a cut that begins at (x, y). Its names with four letters begin at the first pixel, those
    with two letters at the second one of the second row.
    """
    seen = [order[(y + row) % 2 * 2 + (x + column) % 2] for row in (0, 1) for column in (0, 1)]
    return int(getattr(cv2, f"COLOR_Bayer{''.join(seen)}2RGB"))


def _repair(width: int, height: int, rect: Rect, border: Rect) -> tuple[Any, U8, Any, Any]:
    """The cut around a border of `rect`, scratch memory for it, where the border lies in that and in `rect`."""
    x, y, w, h = border
    left, top = max(0, x - 2) // 2 * 2, max(0, y - 2) // 2 * 2  # even: the order is that of the whole picture
    columns, rows = min(width, x + w + 2) - left, min(height, y + h + 2) - top  # at the sensor's border three
    scratch = np.empty((rows, columns, 3), np.uint8)
    inner, outer = _cut((x - left, y - top, w, h)), _cut((x - rect[0], y - rect[1], w, h))
    return _cut((left, top, columns, rows)), scratch, inner, outer

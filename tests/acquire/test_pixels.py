"""Conversion of the camera's formats, bit by bit against slow references written from the formats' definitions."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.acquire.pixels import BAYER, FORMATS, MONO_BITS, converter, nbytes

U8 = npt.NDArray[np.uint8]
COLOURS = {"R": 0, "G": 1, "B": 2}


def packed(values: list[int], bits: int) -> bytes:
    """Pixels one after the other, low bits first, as PFNC packs them."""
    number = sum(value << (i * bits) for i, value in enumerate(values))
    return number.to_bytes(-(-len(values) * bits // 8), "little")


def unpacked(data: bytes, bits: int, count: int) -> list[int]:
    number = int.from_bytes(data, "little")
    return [(number >> (i * bits)) & ((1 << bits) - 1) for i in range(count)]


def colour_at(pattern: str, x: int, y: int) -> int:
    """Which colour a Bayer sensor's pixel has: BayerRG begins R G / G B."""
    first, second = pattern
    row = first + second if y % 2 == 0 else {"RG": "GB", "GR": "BG", "GB": "RG", "BG": "GR"}[pattern]
    return COLOURS[row[x % 2]]


def demosaiced(pattern: str, picture: U8) -> U8:
    """Bilinear: each missing colour is the mean of the nearest pixels that have it, halves rounded up; the
    outermost rows and columns repeat their neighbours."""
    height, width = picture.shape
    out = np.zeros((height, width, 3), np.uint8)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            for c in range(3):
                if colour_at(pattern, x, y) == c:
                    out[y, x, c] = picture[y, x]
                    continue
                near = [
                    (dx, dy)
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                    if (dx, dy) != (0, 0) and colour_at(pattern, x + dx, y + dy) == c
                ]
                straight = [n for n in near if 0 in n] or near
                total = sum(int(picture[y + dy, x + dx]) for dx, dy in straight)
                out[y, x, c] = (total + len(straight) // 2) // len(straight)
    out[:, 0], out[:, -1] = out[:, 1], out[:, -2]
    out[0], out[-1] = out[1], out[-2]
    return out


def reference(pixel_format: str, data: bytes, width: int, height: int) -> U8:
    """The whole picture, uint8 [H, W, C]."""
    count = width * height
    if pixel_format in BAYER:
        return demosaiced(pixel_format[5:7], np.frombuffer(data, np.uint8, count).reshape(height, width))
    if pixel_format in ("RGB8", "BGR8"):
        picture = np.frombuffer(data, np.uint8, 3 * count).reshape(height, width, 3)
        return picture if pixel_format == "RGB8" else picture[:, :, ::-1]
    bits = MONO_BITS[pixel_format]
    each = bits if pixel_format.endswith("p") else 8 if bits == 8 else 16
    values = unpacked(data, each, count)
    return np.array([value >> (bits - 8) for value in values], np.uint8).reshape(height, width, 1)


def channels_of(pixel_format: str) -> int:
    return next(channels for channels, formats in FORMATS.items() if pixel_format in formats)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[str, bytes, int, int, tuple[int, int, int, int]]:
    """Format, bytes, width, height, rectangle; deep formats hold no more bits than they have."""
    pixel_format = draw(st.sampled_from([name for formats in FORMATS.values() for name in formats]))
    width, height = draw(st.integers(4, 19)), draw(st.integers(4, 13))
    bits = MONO_BITS.get(pixel_format, 8)
    size = nbytes(pixel_format, width, height)
    if bits > 8 and not pixel_format.endswith("p"):
        values = draw(st.lists(st.integers(0, 2**bits - 1), min_size=width * height, max_size=width * height))
        data = b"".join(value.to_bytes(2, "little") for value in values)
    else:
        data = draw(st.binary(min_size=size, max_size=size))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    rect = x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y))
    return pixel_format, data, width, height, draw(st.sampled_from([rect, (0, 0, width, height)]))


@given(pictures(), st.binary(max_size=9))
def test_every_format_bit_by_bit(
    picture: tuple[str, bytes, int, int, tuple[int, int, int, int]], more: bytes
) -> None:
    pixel_format, data, width, height, rect = picture
    channels = channels_of(pixel_format)
    x, y, w, h = rect
    image = np.full((h, w, channels), 77, np.uint8)
    converter(pixel_format, channels, width, height, rect)(np.frombuffer(data + more, np.uint8), image)
    expected = reference(pixel_format, data, width, height)[y : y + h, x : x + w]
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("bits", [10, 12])
def test_the_references_packing_is_that_of_the_standard(bits: int) -> None:
    """PFNC 2.4: Mono12p byte 0 = P0[7:0], byte 1 = P1[3:0] P0[11:8], byte 2 = P1[11:4]."""
    if bits == 12:
        assert packed([0xABC, 0x123], 12) == bytes([0xBC, 0x3A, 0x12])
    else:
        assert packed([0x3FF, 0, 0x3FF, 0], 10) == bytes([0xFF, 0x03, 0xF0, 0x3F, 0x00])


@pytest.mark.parametrize("pixel_format", [name for formats in FORMATS.values() for name in formats])
def test_a_short_buffer_is_told_with_both_sizes(pixel_format: str) -> None:
    size = nbytes(pixel_format, 7, 5)
    channels = channels_of(pixel_format)
    convert = converter(pixel_format, channels, 7, 5, (0, 0, 7, 5))
    with pytest.raises(ValueError, match=f"7x5 {pixel_format} has {size} bytes, the camera sent {size - 1}"):
        convert(np.zeros(size - 1, np.uint8), np.zeros((5, 7, channels), np.uint8))


@pytest.mark.parametrize(
    ("pixel_format", "channels", "said"),
    [
        ("RGB8", 1, "the model wants Mono8, the camera is set to RGB8"),
        ("Mono12p", 3, "the model wants RGB8, the camera is set to Mono12p"),
        ("Coord3D_ABC32f", 1, "Coord3D_ABC32f; it can be Mono8, Mono10"),
    ],
)
def test_what_can_not_be_converted_is_refused(pixel_format: str, channels: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        converter(pixel_format, channels, 640, 480, (0, 0, 640, 480))

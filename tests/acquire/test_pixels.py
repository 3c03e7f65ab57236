"""What a GenTL buffer holds becomes exactly the slot's picture."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.acquire.pixels import FORMATS, Rect, converter, nbytes
from inspectd.runtime.channels import with_channels
from tests.makers import examples

MONO = ["Mono8", "Mono10", "Mono12", "Mono10p", "Mono12p"]
BAYER = [f"Bayer{first}{depth}" for first in ("RG", "GR", "GB", "BG") for depth in ("8", "10", "12", "10p", "12p")]
COLOUR = [*BAYER, "RGB8", "BGR8"]
TILES = {"RG": ["RG", "GB"], "GR": ["GR", "BG"], "GB": ["GB", "RG"], "BG": ["BG", "GR"]}


# ---- references, from the definitions of PFNC ----


def bits_of(name: str) -> int:
    return int("".join(filter(str.isdigit, name)))


def sent(name: str, width: int, height: int, seed: int) -> np.ndarray:
    """Bytes that a camera might send; unused bits are 0."""
    rng = np.random.default_rng(seed)
    if name.endswith("p") or bits_of(name) == 8:
        return rng.integers(0, 256, nbytes(name, width, height), np.uint8)
    return rng.integers(0, 1 << bits_of(name), width * height).astype("<u2").view(np.uint8)


def values(name: str, data: np.ndarray, count: int) -> np.ndarray:
    """Each pixel's value in its full depth."""
    bits = bits_of(name)
    if name.endswith("p"):
        each = np.unpackbits(data, bitorder="little")[: count * bits].reshape(count, bits)
        return each @ (1 << np.arange(bits))
    if bits == 8:
        return data[:count].astype(int)
    return data[0 : 2 * count : 2] + 256 * data[1 : 2 * count : 2].astype(int)


def demosaiced(tile: list[str], mosaic: np.ndarray) -> np.ndarray:
    """A colour that a pixel lacks is the rounded mean of those of its 3x3 neighbourhood that have it; the border
    repeats what lies one pixel further in.
    """
    height, width = mosaic.shape
    colours = np.array([[tile[y % 2][x % 2] for x in range(width)] for y in range(height)])
    inner = np.zeros((height - 2, width - 2, 3), np.uint8)
    for channel, colour in enumerate("RGB"):
        has = (colours == colour).astype(int)
        shifts = [np.s_[y : y + height - 2, x : x + width - 2] for y in range(3) for x in range(3)]
        count = sum(has[shift] for shift in shifts)
        mean = (sum((has * mosaic)[shift] for shift in shifts) + count // 2) // count
        inner[..., channel] = np.where(has[1:-1, 1:-1], mosaic[1:-1, 1:-1], mean)
    return np.pad(inner, ((1, 1), (1, 1), (0, 0)), "edge")


def reference(name: str, data: np.ndarray, width: int, height: int) -> np.ndarray:
    if name in ("RGB8", "BGR8"):
        picture = data[: 3 * width * height].reshape(height, width, 3)
        return picture if name == "RGB8" else picture[:, :, ::-1]
    upper = values(name, data, width * height) >> (bits_of(name) - 8)
    grey = upper.astype(np.uint8).reshape(height, width)
    return grey[:, :, None] if name in MONO else demosaiced(TILES[name[5:7]], grey)


# ---- the pictures ----


def converted(name: str, width: int, height: int, rect: Rect, *buffers: np.ndarray) -> np.ndarray:
    """The last buffer's picture, cut out of a slot in which nothing else was touched."""
    _, _, w, h = rect
    channels = FORMATS[name].channels
    assert channels is not None
    slot = np.full(h * w * channels + 64, 0xA5, np.uint8)
    image = slot[32:-32].reshape(h, w, channels)
    convert = converter(name, channels, width, height, rect)
    for buffer in buffers:
        buffer.flags.writeable = False
        convert(buffer, image)
    assert set(slot[:32]) | set(slot[-32:]) == {0xA5}
    return image


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, Rect]:
    """A picture's width and height, and a rectangle of it."""
    width, height = draw(st.integers(3, 150)), draw(st.integers(3, 20))
    if draw(st.booleans()):
        return width, height, (0, 0, width, height)
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return width, height, (x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))


@pytest.mark.parametrize("name", MONO + COLOUR)
@examples(40)
@given(cuts(), st.integers(0, 2**32), st.integers(0, 9), st.integers(0, 3))
def test_a_picture_and_its_cuts(
    name: str, cut: tuple[int, int, Rect], seed: int, longer: int, offset: int
) -> None:
    width, height, rect = cut
    x, y, w, h = rect
    older, data = (sent(name, width, height, seed + i) for i in range(2))
    buffer = np.concatenate([np.full(offset, 7, np.uint8), data, np.full(longer, 255, np.uint8)])[offset:]
    found = converted(name, width, height, rect, older, buffer)
    assert np.array_equal(found, reference(name, data, width, height)[y : y + h, x : x + w])


@pytest.mark.parametrize("name", [name for name in MONO + COLOUR if name not in BAYER])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (1, 5), (5, 1), (2, 2)])
def test_tiny_pictures(name: str, size: tuple[int, int]) -> None:
    data = sent(name, *size, 0)
    assert np.array_equal(converted(name, *size, (0, 0, *size), data), reference(name, data, *size))


@pytest.mark.parametrize("name", MONO + COLOUR)
def test_a_picture_that_OpenCV_may_share_out_among_threads(name: str) -> None:  # noqa: N802
    width, height, (x, y, w, h) = 641, 483, (101, 51, 402, 333)
    data = sent(name, width, height, 1)
    whole = reference(name, data, width, height)
    assert np.array_equal(converted(name, width, height, (0, 0, width, height), data), whole)
    assert np.array_equal(converted(name, width, height, (x, y, w, h), data), whole[y : y + h, x : x + w])


@pytest.mark.parametrize("name", ["Mono10", "Mono12"])
def test_low_bits_are_dropped_not_rounded(name: str) -> None:
    every = np.arange(1 << bits_of(name))
    data = every.astype("<u2").view(np.uint8)
    found = converted(name, len(every), 1, (0, 0, len(every), 1), data)
    assert np.array_equal(found[0, :, 0], every >> (bits_of(name) - 8))


def test_packing_as_it_stands_in_PFNC() -> None:  # noqa: N802
    """Three bytes of 12p: p0[7:0], p1[3:0] p0[11:8], p1[11:4]; five bytes of 10p, also lowest bits first."""
    data = np.array([0xBC, 0xFA, 0xDE], np.uint8)  # 0xABC, 0xDEF
    assert converted("Mono12p", 2, 1, (0, 0, 2, 1), data).tolist() == [[[0xAB], [0xDE]]]
    packed = 0x3FF | 0x2AA << 10 | 0x001 << 20 | 0x204 << 30
    data = np.frombuffer(packed.to_bytes(5, "little"), np.uint8)
    assert converted("Mono10p", 4, 1, (0, 0, 4, 1), data).tolist() == [[[0xFF], [0xAA], [0x00], [0x81]]]


def test_a_packed_line_may_begin_within_a_byte() -> None:
    pixels = [0x111, 0x222, 0x333, 0x444, 0x555, 0x666, 0x777, 0x888, 0x999]
    packed = sum(pixel << 12 * i for i, pixel in enumerate(pixels))
    data = np.frombuffer(packed.to_bytes(14, "little"), np.uint8)
    assert nbytes("Mono12p", 3, 3) == 14
    assert converted("Mono12p", 3, 3, (0, 1, 2, 2), data)[:, :, 0].tolist() == [[0x44, 0x55], [0x77, 0x88]]


@pytest.mark.parametrize(("name", "at"), [("RG", (0, 0)), ("GR", (0, 1)), ("GB", (1, 0)), ("BG", (1, 1))])
def test_where_the_red_pixels_are(name: str, at: tuple[int, int]) -> None:
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[at[0] :: 2, at[1] :: 2] = 200
    found = converted(f"Bayer{name}8", 8, 8, (0, 0, 8, 8), mosaic.reshape(-1))
    assert (found == [200, 0, 0]).all()


# ---- memory ----


@pytest.mark.parametrize("name", MONO + COLOUR)
@pytest.mark.parametrize("rect", [(0, 0, 640, 480), (3, 5, 600, 400)])
def test_nothing_of_an_image_size_is_allocated_per_frame(name: str, rect: Rect) -> None:
    channels = FORMATS[name].channels
    assert channels is not None
    convert = converter(name, channels, 640, 480, rect)
    data, image = sent(name, 640, 480, 0), np.zeros((rect[3], rect[2], channels), np.uint8)
    tracemalloc.start()
    try:
        convert(data, image)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        convert(data, image)
        assert tracemalloc.get_traced_memory()[1] - before < 10_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["Mono12", "Mono12p", "BGR8", "BayerRG8"])
def test_an_image_that_would_not_be_written_in_place(name: str) -> None:
    channels = FORMATS[name].channels
    assert channels is not None
    convert, data = converter(name, channels, 8, 6, (0, 0, 8, 6)), sent(name, 8, 6, 0)
    for image in (np.zeros((8, 6, channels), np.uint8), np.zeros((6, 16, channels), np.uint8)[:, ::2]):
        with pytest.raises(AssertionError):
            convert(data, image)


@pytest.mark.parametrize("name", MONO + COLOUR)
def test_grey_becomes_colour_and_colour_grey_as_everywhere(name: str) -> None:
    """By the rule by which a file's picture is converted, for the daemon and for the training tool."""
    rect, data = (1, 2, 7, 5), sent(name, 10, 9, 4)
    plain = np.ascontiguousarray(reference(name, data, 10, 9)[2:7, 1:8])
    channels = 4 - plain.shape[2]
    image = np.zeros((5, 7, channels), np.uint8)
    convert = converter(name, channels, 10, 9, rect)
    for _ in range(2):
        convert(data, image)
    assert np.array_equal(image, with_channels(plain, channels))
    grey = plain @ [0.299, 0.587, 0.114] if channels == 1 else plain[..., 0]
    assert (abs(image - grey[..., None]) <= 0.51).all()


# ---- what is refused ----


@pytest.mark.parametrize("name", MONO + COLOUR)
def test_a_buffer_that_is_too_short(name: str) -> None:
    channels, size = FORMATS[name].channels, nbytes(name, 7, 5)
    assert channels is not None
    convert, image = converter(name, channels, 7, 5, (0, 0, 7, 5)), np.zeros((5, 7, channels), np.uint8)
    for length in (0, size - 1):
        with pytest.raises(ValueError, match=f"^the buffer has {length} bytes, 7x5 {name} has {size}$"):
            convert(np.zeros(length, np.uint8), image)
    assert not image.any()


def test_sizes() -> None:
    sizes = {name: nbytes(name, 5, 3) for name in ("Mono8", "Mono10", "Mono10p", "Mono12p", "BayerRG8", "RGB8")}
    assert sizes == {"Mono8": 15, "Mono10": 30, "Mono10p": 19, "Mono12p": 23, "BayerRG8": 15, "RGB8": 45}


@pytest.mark.parametrize("name", ["Mono16", "Mono12Packed", "YUV422_8", "0x1100007", "", "mono8"])
def test_a_format_that_is_not_known(name: str) -> None:
    assert name not in FORMATS
    with pytest.raises(ValueError, match=f"^pixel format {name} can't be converted; allowed are RGB8, .*Mono"):
        nbytes(name, 8, 8)
    with pytest.raises(ValueError, match=f"^pixel format {name} can't be converted; allowed are RGB8, .*Mono"):
        converter(name, 1, 8, 8, (0, 0, 8, 8))


@pytest.mark.parametrize("rect", [(-1, 0, 4, 4), (0, -1, 4, 4), (5, 0, 4, 4), (0, 3, 4, 4), (0, 0, 0, 4)])
def test_a_rectangle_outside_the_picture(rect: Rect) -> None:
    with pytest.raises(ValueError, match=r"^the rectangle .* does not lie within the camera's 8x6 pixels$"):
        converter("Mono8", 1, 8, 6, rect)


@pytest.mark.parametrize("size", [(2, 8), (8, 2), (1, 1)])
def test_a_mosaic_too_small_to_have_neighbours(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"^a Bayer picture of .* pixels can't be converted, 3x3 are needed$"):
        converter("BayerGR8", 3, *size, (0, 0, *size))

"""An image file is read whole or not at all."""

import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.runtime import decoder
from inspectd.runtime.image_files import image_files, read_image, write_png
from tests.makers import disk_for, examples

LOSSLESS = ["a.png", "a.bmp", "a.tif", "a.tiff"]
LOSSY = ["a.jpg", "a.jpeg"]
ALL = LOSSLESS + LOSSY


def picture(channels: int, smooth: bool = False) -> np.ndarray:
    image = np.random.default_rng(channels).integers(0, 256, (33, 47, channels), np.uint8)
    return cv2.GaussianBlur(image, (0, 0), 5).reshape(33, 47, channels) if smooth else image


def write(path: Path, image: np.ndarray) -> None:
    assert cv2.imwrite(str(path), image[:, :, ::-1] if image.shape[2] == 3 else image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_format_comes_back_as_it_was(tmp_path: Path, name: str, channels: int) -> None:
    write(tmp_path / name, picture(channels))
    found = read_image(tmp_path / name)
    assert found.dtype == np.uint8
    assert np.array_equal(found, picture(channels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LOSSY)
def test_a_lossy_format_comes_back_nearly_as_it_was(tmp_path: Path, name: str, channels: int) -> None:
    write(tmp_path / name, picture(channels, smooth=True))
    found = read_image(tmp_path / name)
    assert found.shape == (33, 47, channels)
    assert np.abs(found.astype(int) - picture(channels, smooth=True)).mean() < 4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_any_truncation_is_refused_or_harmless(tmp_path: Path, name: str, channels: int) -> None:
    """Every length of the last and the first 300 bytes, and each 37th between."""
    path = tmp_path / name
    write(path, picture(channels))
    data, whole = path.read_bytes(), read_image(path)
    lengths = {*range(0, len(data), 37), *range(min(300, len(data))), *range(max(0, len(data) - 300), len(data))}
    survived = 0
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        try:
            found = read_image(path)
        except ValueError as error:
            assert str(error).startswith(f"{name}: ")
            assert "\n" not in str(error)
            continue
        survived += 1
        assert np.array_equal(found, whole)
    assert survived <= 300


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("rows", [4, 64])
def test_any_truncation_of_a_tiff_of_any_kind(tmp_path: Path, compression: int, rows: int) -> None:
    path = tmp_path / "a.tif"
    flags = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, rows]
    assert cv2.imwrite(str(path), picture(3, smooth=True), flags)
    data, whole = path.read_bytes(), read_image(path)
    for length in [*range(0, len(data), 61), *range(len(data) - 250, len(data))]:
        path.write_bytes(data[:length])
        try:
            assert np.array_equal(read_image(path), whole)
        except ValueError:
            pass


@examples(40)
@given(st.sampled_from(ALL), st.integers(0, 2000), st.integers(0, 255))
def test_a_damaged_byte_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    write(path, picture(3))
    data = bytearray(path.read_bytes())
    data[at % len(data)] = byte
    path.write_bytes(data)
    try:
        assert read_image(path).dtype == np.uint8
    except ValueError as error:
        assert str(error).startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_refused(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / name), picture(1).astype(np.uint16) * 257)
    with pytest.raises(ValueError, match=f"{name}: has 16 bits per channel, 8 are needed"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_transparency_is_refused(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / name), np.zeros((33, 47, 4), np.uint8))
    with pytest.raises(ValueError, match=r"has 4 channels, 1 \(grey\) or 3 \(colour\) are needed"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("content", ["other", "text", "nothing"])
def test_content_that_is_not_what_the_name_says(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    if content == "other":
        other = tmp_path / ("b.jpg" if path.suffix == ".png" else "b.png")
        write(other, picture(3))
        path.write_bytes(other.read_bytes())
    else:
        path.write_bytes(b"hello" if content == "text" else b"")
    with pytest.raises(ValueError, match=f"{name}: is cut off or not what its name says"):
        read_image(path)


def test_whole_at_both_ends_and_nothing_between(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"IEND\xae\x42\x60\x82")
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xff\xd9")
    for name in ("a.png", "a.jpg"):
        with pytest.raises(ValueError, match=f"{name}: can't be decoded, the file is damaged"):
            read_image(tmp_path / name)


def test_a_jpeg_cut_behind_its_thumbnail_is_refused(tmp_path: Path) -> None:
    """The thumbnail in a camera's EXIF block has an end mark of its own."""
    _, thumbnail = cv2.imencode(".jpg", picture(3)[:16, :16])
    _, encoded = cv2.imencode(".jpg", picture(3))
    segment = b"Exif\0\0" + thumbnail.tobytes()
    marker = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    data = encoded.tobytes()
    whole = data[:2] + marker + data[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert read_image(path).shape == (33, 47, 3)
    path.write_bytes(whole[: 2 + len(marker)])
    with pytest.raises(ValueError, match=r"a\.jpg: "):
        read_image(path)


def huge_bmp(path: Path) -> None:
    write(path, picture(3))
    data = bytearray(path.read_bytes())
    struct.pack_into("<ii", data, 18, 2**20 + 1, 2**20 + 1)
    path.write_bytes(data)


def test_an_absurd_size_raises_nothing_else(tmp_path: Path) -> None:
    huge_bmp(tmp_path / "a.bmp")
    with pytest.raises(ValueError, match=r"a\.bmp: "):
        read_image(tmp_path / "a.bmp")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.png: can't be read: No such file or directory"):
        read_image(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(ValueError, match=r"b\.png: can't be read: Is a directory"):
        read_image(tmp_path / "b.png")


def test_a_format_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"a\.gif: is not one of \.bmp, \.jfif, .*, \.tiff, \.webp"):
        read_image(tmp_path / "a.gif")


def test_the_images_of_a_folder_in_name_order(tmp_path: Path) -> None:
    for name in ("b.png", "A.JPG", "c.txt", "a10.bmp", "a2.tiff", ".hidden", "._b.png", "png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in image_files(tmp_path)] == ["A.JPG", "a10.bmp", "a2.tiff", "b.png"]
    with pytest.raises(OSError, match="No such file"):
        image_files(tmp_path / "none")


@pytest.mark.parametrize("shape", [(33, 47), (33, 47, 1), (33, 47, 3)])
def test_write_png(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_png(tmp_path / "a.png", image)
    assert np.array_equal(read_image(tmp_path / "a.png"), image.reshape(*shape[:2], -1))


def test_write_png_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_png(tmp_path / "no/a.png", picture(1))
    with disk_for(20), pytest.raises(OSError, match="too large"):
        write_png(tmp_path / "a.png", picture(1))


def test_a_jpeg_with_a_hole_is_refused(tmp_path: Path) -> None:
    """The decoder fills the rest with grey and only mutters: a part with its defect gone would pass."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "whole.jpg"), noise)
    data = (tmp_path / "whole.jpg").read_bytes()
    read_image(tmp_path / "whole.jpg")
    for cut in (0.4, 0.7, 0.95):
        (tmp_path / "cut.jpg").write_bytes(data[: int(len(data) * cut)] + b"\xff\xd9")
        with pytest.raises(ValueError, match=r"cut\.jpg: can't be decoded, the file is damaged"):
            read_image(tmp_path / "cut.jpg")


def test_a_damaged_lzw_tiff_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.tif"), noise, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    data = bytearray((tmp_path / "a.tif").read_bytes())
    read_image(tmp_path / "a.tif")
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tif: can't be decoded, the file is damaged"):
        read_image(tmp_path / "a.tif")


def test_what_others_print_meanwhile_damages_no_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The standard error is never turned aside: it is the process's, and of those that are started meanwhile."""
    for name in ("a.png", "a.jpg"):
        write(tmp_path / name, picture(3, smooth=True))
    ended = threading.Event()

    def print_on() -> None:
        while not ended.is_set():
            os.write(2, b"another library\n")

    printing = threading.Thread(target=print_on)
    printing.start()
    try:
        where = os.readlink("/proc/self/fd/2")
        for _ in range(20):
            for name in ("a.png", "a.jpg"):
                assert read_image(tmp_path / name).shape == (33, 47, 3)
        reading = threading.Thread(target=lambda: [read_image(tmp_path / "a.jpg") for _ in range(100)])
        reading.start()
        while reading.is_alive():
            shown = subprocess.run(["readlink", "/proc/self/fd/2"], stdout=subprocess.PIPE, text=True, check=True)
            assert shown.stdout.strip() == where
    finally:
        ended.set()
        printing.join()
    assert set(capfd.readouterr().err.splitlines()) == {"another library"}


def test_odd_extras_of_a_png_are_no_damage_and_not_worth_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, encoded = cv2.imencode(".png", picture(1))
    data = encoded.tobytes()
    profile = b"iCCP" + b"odd\0\0" + zlib.compress(b"no profile")
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    torn = b"\0\0\0\4tEXtabcd\1\2\3\4"  # the checksum of a remark is wrong
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + torn + data[33:])
    assert np.array_equal(read_image(tmp_path / "a.png"), picture(1))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_png_whose_checksum_is_wrong_is_refused(tmp_path: Path, at: float) -> None:
    write(tmp_path / "a.png", picture(3))
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[int(at * len(data))] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.png: can't be decoded, the file is damaged"):
        read_image(tmp_path / "a.png")


def test_a_png_that_ends_early_inside_is_refused(tmp_path: Path) -> None:
    """Each chunk is whole, and there are too few pixels."""
    _, encoded = cv2.imencode(".png", picture(3), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    data = encoded.tobytes()
    at, parts = 8, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    pixels = zlib.decompress(b"".join(body for name, body in parts if name == b"IDAT"))
    short = [parts[0], (b"IDAT", zlib.compress(pixels[: len(pixels) // 2])), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in short]
    (tmp_path / "a.png").write_bytes(data[:8] + b"".join(chunks))
    with pytest.raises(ValueError, match=r"a\.png: can't be decoded, the file is damaged"):
        read_image(tmp_path / "a.png")


def test_more_than_one_picture_in_a_file_is_refused(tmp_path: Path) -> None:
    pages = [picture(1), picture(1)[::-1]]
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), pages)
    _, png = cv2.imencode(".png", picture(1))
    control = b"acTL" + struct.pack(">II", 2, 0)
    chunk = struct.pack(">I", 8) + control + struct.pack(">I", zlib.crc32(control))
    (tmp_path / "a.png").write_bytes(png.tobytes()[:33] + chunk + png.tobytes()[33:])
    _, jpeg = cv2.imencode(".jpg", picture(1))
    index = b"MPF\0MM\0*" + struct.pack(">IHHHIII", 8, 1, 0xB001, 4, 1, 2, 0)
    segment = b"\xff\xe2" + struct.pack(">H", len(index) + 2) + index
    (tmp_path / "a.jpg").write_bytes(jpeg.tobytes()[:20] + segment + jpeg.tobytes()[20:] + jpeg.tobytes())
    for name in ("a.tif", "a.png", "a.jpg"):
        with pytest.raises(ValueError, match=f"{name}: holds more than one picture; save each to a file"):
            read_image(tmp_path / name)


def test_bytes_behind_the_end_are_no_damage(tmp_path: Path) -> None:
    """Phones write a trailer behind a JPEG's end mark, others a checksum behind a PNG's."""
    for name in ("a.jpg", "a.png", "a.bmp"):
        write(tmp_path / name, picture(3, smooth=True))
        whole = read_image(tmp_path / name)
        for trailer in (b"SEFT trailer", b"\0" * 9, b"\xff", bytes(range(256))):
            path = tmp_path / f"trailing_{name}"
            path.write_bytes((tmp_path / name).read_bytes() + trailer)
            assert np.array_equal(read_image(path), whole)
    two = (tmp_path / "a.jpg").read_bytes() * 2
    (tmp_path / "two.jpg").write_bytes(two)
    with pytest.raises(ValueError, match=r"two\.jpg: holds more than one picture"):
        read_image(tmp_path / "two.jpg")


@pytest.mark.parametrize("stated", [0, 1, 54, 2**31])
def test_a_bmp_whose_size_field_is_wrong_is_read_by_its_rows(tmp_path: Path, stated: int) -> None:
    write(tmp_path / "a.bmp", picture(3))
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    struct.pack_into("<I", data, 2, stated)
    (tmp_path / "a.bmp").write_bytes(data)
    assert np.array_equal(read_image(tmp_path / "a.bmp"), picture(3))
    (tmp_path / "a.bmp").write_bytes(data[:-48])
    with pytest.raises(ValueError, match=r"a\.bmp: is cut off"):
        read_image(tmp_path / "a.bmp")


def test_other_suffixes_of_formats_that_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", picture(3, smooth=True))
    for name in ("a.jpe", "a.JFIF"):
        (tmp_path / name).write_bytes((tmp_path / "a.jpg").read_bytes())
        assert np.array_equal(read_image(tmp_path / name), read_image(tmp_path / "a.jpg"))
    flags = [cv2.IMWRITE_WEBP_QUALITY, 101]  # lossless
    assert cv2.imwrite(str(tmp_path / "a.webp"), picture(3)[:, :, ::-1], flags)
    assert np.array_equal(read_image(tmp_path / "a.webp"), picture(3))
    assert [path.name for path in image_files(tmp_path)] == ["a.JFIF", "a.jpe", "a.jpg", "a.webp"]
    data = (tmp_path / "a.webp").read_bytes()
    for length in range(0, len(data), 53):
        (tmp_path / "a.webp").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"a\.webp: is cut off"):
            read_image(tmp_path / "a.webp")


def test_an_animated_webp_is_refused(tmp_path: Path) -> None:
    _, webp = cv2.imencode(".webp", picture(3))
    still = webp.tobytes()[12:]
    frame = b"\0" * 16 + still
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\2" + b"\0" * 3 + b"\x2e\0\0\x20\0\0"
    chunks += b"ANIM" + struct.pack("<I", 6) + b"\0" * 6
    chunks += (b"ANMF" + struct.pack("<I", len(frame)) + frame + b"\0" * (len(frame) % 2)) * 2
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)
    with pytest.raises(ValueError, match=r"a\.webp: holds more than one picture"):
        read_image(tmp_path / "a.webp")


def test_a_decoder_that_is_killed_is_started_again(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", picture(3, smooth=True))
    whole = read_image(tmp_path / "a.jpg")
    assert decoder._running is not None
    decoder._running._process.kill()
    assert np.array_equal(read_image(tmp_path / "a.jpg"), whole)


def test_a_forked_process_has_a_decoder_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg", picture(3, smooth=True))
    write(tmp_path / "b.jpg", picture(1, smooth=True))
    program = (
        "import os, sys; from pathlib import Path; from inspectd.runtime.image_files import read_image\n"
        "read_image(Path('a.jpg')); child = os.fork(); name = 'ab'[child == 0]\n"
        "good = all(read_image(Path(name + '.jpg')).shape[2] == 3 - 2 * (child == 0) for _ in range(200))\n"
        "os._exit(not (good and (child == 0 or os.waitpid(child, 0)[1] == 0)))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, timeout=120).returncode == 0


def test_a_name_that_is_not_utf8_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"bad\xff.png")
    path.write_bytes(b"no image")
    with pytest.raises(ValueError) as caught:
        read_image(path)
    str(caught.value).encode()

"""What each format's labels mean where they are odd: scales, tags, ids, folders, names, links."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.tools.data.imported import areas, content, imported, masks, write_picture

SQUARE = [10, 10, 30, 10, 30, 20, 10, 20]
POINTS = [[10, 10], [30, 10], [30, 20], [10, 20]]


def coco(
    folder: Path, annotations: list[dict[str, Any]], pictures: tuple[str, ...] = ("a.png",), **more: Any
) -> Path:
    """A COCO file of pictures of 120 x 96 px with the ids 1, 2, ... and their annotations."""
    images = [{"id": n, "file_name": name, "width": 120, "height": 96} for n, name in enumerate(pictures, 1)]
    for seed, name in enumerate(pictures):
        write_picture(folder / name, seed=seed)
    whole = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "scratch"}]} | more
    (folder / "instances.json").write_text(json.dumps(whole))
    return folder / "instances.json"


def region(outline: Any = (SQUARE,), image: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image, "category_id": 1, "segmentation": outline} | more


def labelme(folder: Path, stem: str = "a", label: Any = "scratch", suffix: str = ".png", **more: Any) -> Path:
    write_picture(folder / f"{stem}{suffix}", seed=len(stem))
    shapes = [{"label": label, "points": POINTS, "shape_type": "polygon"}]
    whole = {"shapes": shapes, "imagePath": f"{stem}{suffix}", "imageHeight": 96, "imageWidth": 120} | more
    (folder / f"{stem}.json").write_text(json.dumps(whole))
    return folder


def cvat(folder: Path, *images: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations.xml").write_text(f"<annotations><version>1.1</version>{''.join(images)}</annotations>")
    return folder


def frame(name: str, inside: str, more: str = "") -> str:
    return f'<image id="0" name="{name}" width="120" height="96" {more}>{inside}</image>'


POLYGON = '<polygon label="scratch" points="10,10;30,10;30,20;10,20" z_order="0"/>'
SHORT = '<polygon label="scratch" points="0.1,0.1;0.3,0.1;0.3,0.2" z_order="0"/>'
BOX = '<box label="scratch" xtl="0.1" ytl="0.1" xbr="0.5" ybr="0.4" z_order="0"/>'


# ---- scale


def test_coordinates_of_another_scale_are_refused_in_every_format(tmp_path: Path) -> None:
    for n, inside in enumerate((SHORT, BOX)):
        write_picture(tmp_path / f"v{n}/images/a.png")
        code, said = imported("cvat", cvat(tmp_path / f"v{n}", frame("a.png", inside)), tmp_path / "d")
        assert code == 1 and "has coordinates from 0 to 1 only" in said
    for kind, points in (("circle", [[0.5, 0.5], [0.6, 0.5]]), ("rectangle", [[0.1, 0.1], [0.5, 0.5]])):
        shapes = [{"label": "scratch", "points": points, "shape_type": kind}]
        code, said = imported("labelme", labelme(tmp_path / kind, shapes=shapes), tmp_path / "d")
        assert code == 1 and "has coordinates from 0 to 1 only" in said


def test_what_may_be_percent_is_told(tmp_path: Path) -> None:
    names = tuple(f"{n}.png" for n in range(4))
    file = coco(tmp_path, [region(image=n, id=n) for n in range(1, 5)], names)
    entries = content(file)
    for image in entries["images"]:
        image |= {"width": 1200, "height": 900}
        write_picture(tmp_path / image["file_name"], 900, 1200, image["id"])
    file.write_text(json.dumps(entries))
    code, said = imported("coco", file, tmp_path / "d")
    assert code == 0 and "warning: all regions lie within 0 to 100 on both axes" in said
    entries["annotations"][0]["segmentation"] = [[110, 10, 130, 10, 130, 20]]
    file.write_text(json.dumps(entries))
    assert "are these percent" not in imported("coco", file, tmp_path / "e")[1]


def test_outlines_that_contradict_their_box_or_leave_the_picture_are_told(tmp_path: Path) -> None:
    odd = [region(bbox=[10, 10, 20, 10]), region(bbox=[40, 40, 20, 10], id=2)]
    odd += [region([[100, 50, 190, 50, 190, 60]], id=3)]
    code, said = imported("coco", coco(tmp_path, odd), tmp_path / "d")
    assert (
        code == 0 and "annotation 2 of 'scratch' has an outline of x 10 to 30, y 10 to 20 px, but a box of" in said
    )
    assert "annotation 3 of 'scratch' reaches 70 px out of its picture of 120 x 96 px" in said
    assert "annotation 1" not in said


# ---- ids


def test_ids_are_compared_as_they_are_meant(tmp_path: Path) -> None:
    """VIA writes image ids as text, an outline without a list around it, and a category once for each option."""
    categories = [{"id": 1, "name": "scratch"}, {"id": 1, "name": "scratch"}]
    file = coco(tmp_path, [region(SQUARE, image="1", category_id="1")], categories=categories)
    assert imported("coco", file, tmp_path / "d")[0] == 0 and areas(tmp_path / "d") == {"a": {1: 200}}
    file = coco(tmp_path, [region(image=1.5)])
    assert "1.5 is no id" in imported("coco", file, tmp_path / "e")[1]
    file = coco(tmp_path, [region(), region([[50, 50, 60, 50, 60, 60]])])
    code, said = imported("coco", file, tmp_path / "f")
    assert code == 0 and "1 annotation ids stand twice, the first is 1" in said


def test_a_picture_labelled_twice_is_refused(tmp_path: Path) -> None:
    labelme(tmp_path / "s")
    (tmp_path / "s/again.json").write_text((tmp_path / "s/a.json").read_text())
    code, said = imported("labelme", tmp_path / "s", tmp_path / "d")
    assert code == 1 and "a.png: is labelled twice, by a.json and by again.json" in said
    for name in ("a.png", "a.bmp"):
        write_picture(tmp_path / "m/images" / name)
        write_picture(tmp_path / "m/masks" / name)
    (tmp_path / "m/classes.json").write_text('{"0": "background", "1": "scratch"}')
    code, said = imported("masks", tmp_path / "m", tmp_path / "d")
    assert code == 1 and "which has the same name; keep one" in said


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "m/images/a.png")
    write_picture(tmp_path / "m/masks/a.png")
    (tmp_path / "m/classes.json").write_text('{"0": "background", "1": "scratch", "1": "pit"}')
    code, said = imported("masks", tmp_path / "m", tmp_path / "d")
    assert code == 1 and "'1' stands twice in one object" in said


# ---- what is said of a whole picture


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"scratch": True}, "a.png: labelled 'scratch', but no pixel of its mask is; label it"),
        ({"unusable": True, "ok": False}, "a.png: is tagged 'unusable', but nothing is drawn on it"),
        ({"OK": True, "scratch": False}, ""),
        ({"reviewed": True}, ""),
    ],
)
def test_a_tag_of_a_defect_without_a_shape_is_no_good_part(
    tmp_path: Path, flags: dict[str, bool], said: str
) -> None:
    labelme(tmp_path / "s", shapes=[], flags=flags)
    labelme(tmp_path / "s", "bb")
    code, text = imported("labelme", tmp_path / "s", tmp_path / "d", "--missing", "clean")
    assert (code, said in text) == (1 if said else 0, True), text


def test_tags_of_cvat(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_picture(tmp_path / "images" / name)
    tagged = frame("b.png", '<tag label="scratch"/>')
    good = frame("c.png", '<tag label="good"/>')
    folder = cvat(tmp_path, frame("a.png", POLYGON), tagged, good)
    code, said = imported("cvat", folder, tmp_path / "d", "--missing", "clean")
    assert code == 1 and "b.png: labelled 'scratch', but no pixel of its mask is; label it" in said
    cvat(tmp_path, frame("a.png", POLYGON), tagged.replace("scratch", "broken"), good)
    code, said = imported("cvat", folder, tmp_path / "d", "--missing", "clean")
    assert code == 1 and "b.png: is tagged 'broken', but nothing is drawn on it" in said
    cvat(tmp_path, frame("a.png", POLYGON), good)
    code, said = imported("cvat", folder, tmp_path / "d")
    assert code == 0 and areas(tmp_path / "d") == {"a": {1: 200}, "c": {}}
    assert "left out: 1 in images/ (not in annotations.xml)" in said


def test_a_class_tagged_and_not_drawn_is_named(tmp_path: Path) -> None:
    labelme(tmp_path / "s", label="pit", flags={"scratch": True})
    labelme(tmp_path / "s", "bb")
    code, said = imported("labelme", tmp_path / "s", tmp_path / "d")
    assert code == 1 and "a.png: labelled 'scratch', but no pixel of its mask is" in said


@pytest.mark.parametrize("label", ["_background_", "__background__", "background"])
def test_what_tools_call_the_background_is_no_defect(tmp_path: Path, label: str) -> None:
    labelme(tmp_path / "s", label=label)
    labelme(tmp_path / "s", "bb")
    assert imported("labelme", tmp_path / "s", tmp_path / "d")[0] == 0
    assert content(tmp_path / "d/classes.json") == {"0": "background", "1": "scratch"}
    assert areas(tmp_path / "d") == {"a": {}, "bb": {1: 200}}


def test_ignore_stays_dont_care_when_others_are_named(tmp_path: Path) -> None:
    labelme(tmp_path / "s", label="__ignore__")
    labelme(tmp_path / "s", "bb", label="unsure")
    labelme(tmp_path / "s", "ccc")
    assert imported("labelme", tmp_path / "s", tmp_path / "d", "--dont-care", "unsure")[0] == 0
    assert areas(tmp_path / "d") == {"a": {255: 200}, "bb": {255: 200}, "ccc": {1: 200}}
    code, said = imported("labelme", tmp_path / "s", tmp_path / "e")
    assert code == 0 and "'unsure' is learned as a defect; if it means don't-care" in said


@pytest.mark.parametrize("label", [None, "", "  ", "\ud83d"])
def test_a_shape_without_a_label_is_refused(tmp_path: Path, label: str | None) -> None:
    code, said = imported("labelme", labelme(tmp_path / "s", label=label), tmp_path / "d")
    assert code == 1 and "a.json: not a LabelMe file" in said


# ---- folders, names, links


def test_frames_of_a_video_have_no_suffix(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/frame_000000.PNG")
    code, said = imported("cvat", cvat(tmp_path, frame("frame_000000", POLYGON)), tmp_path / "d")
    assert code == 0 and areas(tmp_path / "d") == {"frame_000000": {1: 200}}, said
    write_picture(tmp_path / "images/frame_000000.jpg")
    code, said = imported("cvat", tmp_path, tmp_path / "e")
    assert code == 1 and "may both be the picture frame_000000" in said


def test_a_turned_box_of_cvat(tmp_path: Path) -> None:
    """By 90 degrees around its centre a box of 40 x 20 px is one of 20 x 40 px; by 30 it keeps its area."""
    box = '<box label="scratch" rotation="{}" xtl="40" ytl="30" xbr="80" ybr="50" z_order="0"/>'
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / "images" / name)
    entries = [frame("a.png", box.format(90)), frame("b.png", box.format(30))]
    assert imported("cvat", cvat(tmp_path, *entries), tmp_path / "d")[0] == 0
    found = masks(tmp_path / "d")
    assert np.argwhere(found["a"])[[0, -1]].tolist() == [[20, 50], [59, 69]]
    assert abs(int((found["b"] == 1).sum()) - 800) <= 8
    rows, columns = np.nonzero(found["b"])
    assert np.corrcoef(rows, columns)[0, 1] > 0.5  # clockwise: its right end goes down


def test_a_region_that_later_ones_cover_is_told(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "scratch"}, {"id": 2, "name": "pit"}]
    both = [region(), region(id=2, category_id=2)]
    file = coco(tmp_path, [*both, region([[50, 50, 60, 50, 60, 60]], id=3)], categories=categories)
    assert imported("coco", file, tmp_path / "d")[0] == 1
    code, said = imported("coco", file, tmp_path / "d", "--overlap", "later")
    assert code == 0 and "covers" not in said
    file = coco(tmp_path, both, categories=categories)
    code, said = imported("coco", file, tmp_path / "e", "--overlap", "later")
    assert code == 0 and "a.png: later regions cover all of 'scratch', which is left out of it" in said
    assert content(tmp_path / "e/labels.json") == {"a.png": ["pit"]}


def test_pictures_of_two_subsets_may_have_one_name(tmp_path: Path) -> None:
    for subset in ("Train", "Test"):
        write_picture(tmp_path / "images" / subset / "a.png")
    entries = [frame("a.png", POLYGON, f'subset="{subset}"') for subset in ("Train", "Test")]
    assert imported("cvat", cvat(tmp_path, *entries), tmp_path / "d")[0] == 0
    assert areas(tmp_path / "d") == {"Train_a": {1: 200}, "Test_a": {1: 200}}


def test_masks_in_folders_and_masks_that_are_no_png(tmp_path: Path) -> None:
    mask = np.zeros((96, 120), np.uint8)
    mask[10:20, 10:30] = 1
    for lot in ("lot1", "lot2"):
        write_picture(tmp_path / "images" / lot / "a.png")
        (tmp_path / "masks" / lot).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "masks" / lot / "a.png"), mask)
    (tmp_path / "classes.json").write_text('{"0": "background", "1": "scratch"}')
    assert imported("masks", tmp_path, tmp_path / "d")[0] == 0
    assert areas(tmp_path / "d") == {"lot1_a": {1: 200}, "lot2_a": {1: 200}}
    cv2.imwrite(str(tmp_path / "masks/lot1/a.png"), mask * 255)
    code, said = imported("masks", tmp_path, tmp_path / "e")
    assert code == 0 and "lot1/a.png: its mask has only 0 and 255, and 255 is don't-care" in said


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits_keep_their_indices(tmp_path: Path, bits: int) -> None:
    write_picture(tmp_path / "images/a.png")
    (tmp_path / "masks").mkdir()
    mask = np.zeros((96, 120), np.uint8)
    mask[10:20, 10:30] = 1
    packed = np.packbits(np.unpackbits(mask[:, :, None], axis=2)[:, :, -bits:].reshape(96, -1), axis=1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    (tmp_path / "masks/a.png").write_bytes(png(struct.pack(">IIBBBBB", 120, 96, bits, 0, 0, 0, 0), rows))
    (tmp_path / "classes.json").write_text('{"0": "background", "1": "scratch"}')
    assert imported("masks", tmp_path, tmp_path / "d")[0] == 0
    assert areas(tmp_path / "d") == {"a": {1: 200}}


def png(header: bytes, rows: bytes) -> bytes:
    """A PNG file of its header's content and its rows, each with a filter byte."""
    import zlib

    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_store_of_links_to_blobs(tmp_path: Path) -> None:
    """As caches keep files: names are links to contents in one folder, and equal pictures are one content."""
    labelme(tmp_path / "there", suffix=".jpg")
    write_picture(tmp_path / "there/good.jpg", seed=1)
    (tmp_path / "s/deep").mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    for n, file in enumerate(sorted((tmp_path / "there").iterdir())):
        blob = file.rename(tmp_path / "blobs" / f"blob{n}{file.suffix}")
        (tmp_path / "s/deep" / file.name).symlink_to(blob)
    (tmp_path / "s/linked").symlink_to(tmp_path / "s/deep", target_is_directory=True)
    (tmp_path / "s/linked").unlink()
    code, said = imported("labelme", tmp_path / "s", tmp_path / "d", "--missing", "clean")
    assert code == 0 and areas(tmp_path / "d") == {"a": {1: 200}, "good": {}}, said


def test_folders_behind_links_are_read_and_loops_end(tmp_path: Path) -> None:
    labelme(tmp_path / "elsewhere")
    (tmp_path / "s").mkdir()
    (tmp_path / "s/lot1").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere/up").symlink_to(tmp_path / "s", target_is_directory=True)
    code, said = imported("labelme", tmp_path / "s", tmp_path / "d")
    assert code == 0 and areas(tmp_path / "d") == {"a": {1: 200}}, said


def test_names_that_are_no_utf8_are_one_sentence(tmp_path: Path) -> None:
    """In a process of its own, as the terminal's encoding is part of it."""
    odd = os.fsdecode(b"bad\xff")
    mask = np.zeros((96, 120), np.uint8)
    mask[10:20, 10:30] = 255
    for name in (f"train/good/{odd}.png", "test/scratch/a.png", f"test/{odd}/a.png"):
        write_picture(tmp_path / "m" / name)
    for name in ("scratch", odd):
        (tmp_path / "m/ground_truth" / name).mkdir(parents=True)
        (tmp_path / "m/ground_truth" / name / "a_mask.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    write_picture(tmp_path / f"l/{odd}.png")
    labelme(tmp_path / "l")
    for words in (["mvtec", "m"], ["labelme", "l", "--missing", "clean"], ["labelme", odd]):
        command = [sys.executable, "-m", "inspectd_train.cli.main", "import", *words, "--out", "d"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert ended.returncode == 1 and b"Traceback" not in ended.stderr and ended.stderr.count(b"\n") == 1
    assert (
        b"bad?.png: its name is not UTF-8; rename it"
        in subprocess.run(
            [
                sys.executable,
                "-m",
                "inspectd_train.cli.main",
                "import",
                "labelme",
                "l",
                "--missing",
                "clean",
                "--out",
                "d",
            ],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        ).stderr
    )


def test_a_picture_of_several_pages_is_named_with_its_folder(tmp_path: Path) -> None:
    labelme(tmp_path / "s/lot1", suffix=".tif")
    assert cv2.imwritemulti(str(tmp_path / "s/lot1/a.tif"), [np.zeros((96, 120), np.uint8)] * 2)
    code, said = imported("labelme", tmp_path / "s", tmp_path / "d")
    assert code == 1 and "lot1/a.tif: holds more than one picture" in said


def exif(orientation: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHII", 8, 1, 274, 3, 1, orientation) + b"\0" * 4


def turn(file: Path, orientation: int) -> None:
    """Writes an EXIF orientation into a picture of any format."""
    data = file.read_bytes()
    if file.suffix == ".jpg":
        segment = b"Exif\0\0" + exif(orientation)
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    elif file.suffix == ".png":
        import zlib

        chunk = b"eXIf" + exif(orientation)
        data = (
            data[:33]
            + struct.pack(">I", len(chunk) - 4)
            + chunk
            + struct.pack(">I", zlib.crc32(chunk))
            + data[33:]
        )
    elif file.suffix == ".webp":
        chunk = b"EXIF" + struct.pack("<I", len(exif(orientation))) + exif(orientation)
        data = data + chunk
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    else:
        start = struct.unpack_from("<I", data, 4)[0]
        count = struct.unpack_from("<H", data, start)[0]
        entries = data[start + 2 : start + 2 + 12 * count]
        entry = struct.pack("<HHII", 274, 3, 1, orientation)
        data = data[:4] + struct.pack("<I", len(data)) + data[8:]
        data += struct.pack("<H", count + 1) + entries + entry + b"\0" * 4
    file.write_bytes(data)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_matters_in_every_format(tmp_path: Path, suffix: str) -> None:
    labelme(tmp_path / "s", suffix=suffix)
    turn(tmp_path / f"s/a{suffix}", 1)
    assert imported("labelme", tmp_path / "s", tmp_path / "d")[0] == 0
    turn(tmp_path / f"s/a{suffix}", 6)
    labelme_pixels = tmp_path / f"s/a{suffix}"
    if suffix != ".tif":  # whose first entry is still the upright one; the others have two blocks, the last counts
        labelme(tmp_path / "s", suffix=suffix)
        turn(labelme_pixels, 6)
    code, said = imported("labelme", tmp_path / "s", tmp_path / "e")
    assert code == 1 and f"a{suffix}: EXIF says that it is to be turned (orientation 6)" in said

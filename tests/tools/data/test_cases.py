"""Files of other people's that once became wrong labels, or were refused though they are right."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.data.imported import CASES, areas, content, imported

REFUSED = [
    ("coco", "coco_duplicate_category_id/instances.json", [], "the category id 1 stands for 'scratch' and 'pit'"),
    ("coco", "coco_duplicate_image_id/instances.json", [], "the image id 1 stands for 'a.png' and 'b.png'"),
    (
        "coco",
        "coco_normalised/instances.json",
        [],
        "a.png: annotation 1 of 'scratch' has coordinates from 0 to 1 only",
    ),
    ("labelme", "coco_normalised/labelme", [], "a.png: shape 1 of 'scratch' has coordinates from 0 to 1 only"),
    (
        "coco",
        "coco_one_picture_two_ids/instances.json",
        [],
        "a.png: is labelled twice, by the image id 1 in instances.json and by the image id 2 in instances.json",
    ),
    ("labelme", "exif_rotated/pictures", [], "part180.jpg: EXIF says that it is to be turned (orientation 3)"),
    ("labelme", "exif_rotated/pictures", [], "square90.jpg: EXIF says that it is to be turned (orientation 6)"),
    ("labelme", "labelme_bom_gbk/gbk", [], "a.json: not UTF-8 text"),
    ("labelme", "labelme_bom_gbk/nfd", [], "whose name looks the same"),
    ("labelme", "labelme_good_folder_dropped/pictures", [], "c.png: has no label file, like 4 in all"),
    ("masks", "masks_jpeg_indices", [], "p0.png: its mask masks/p0.jpg is no PNG, BMP or TIFF"),
    ("masks", "masks_one_gif", ["--missing", "clean"], "p0.png: its mask masks/p0.gif is no PNG, BMP or TIFF"),
]
SQUARE, BAND = {1: 200}, {1: 1200}
TAKEN = [
    ("cvat", "cvat_project_default_subset", [], {"a": SQUARE}, ""),
    ("cvat", "cvat_project_export", [], {"a": SQUARE, "b": SQUARE}, ""),
    ("labelme", "hidden_files/pictures", [], {"a": SQUARE}, ""),
    ("labelme", "hidden_files/zip", [], {"a": SQUARE}, ""),
    ("labelme", "labelme_bom_gbk/bom", [], {"a": SQUARE}, ""),
    ("labelme", "labelme_bom_gbk/xrect", [], {"a": SQUARE}, ""),
    ("labelme", "labelme_bom_gbk/rot", [], {"a": SQUARE}, ""),
    (
        "labelme",
        "labelme_good_folder_dropped/pictures",
        ["--missing", "clean"],
        {"a": SQUARE, "b": SQUARE, "c": {}, "d": {}, "e": {}, "f": {}},
        "",
    ),
    (
        "labelme",
        "labelme_good_folder_dropped/pictures",
        ["--missing", "skip"],
        {"a": SQUARE, "b": SQUARE},
        "left out: 4 in ok/ (no label file)",
    ),
    ("labelme", "labelme_ignore_label", [], {"a": {1: 200, 255: 400}}, ""),
    ("masks", "masks_1bit", [], {"p0": {1: 1800}, "p1": {1: 1800}}, ""),
    (
        "mvtec",
        "mvtec_subfolders/x",
        [],
        {"001": {}, "007": BAND, "test_scratch_000": BAND, "train_good_lot1_000": {}},
        "",
    ),
    (
        "mvtec",
        "mvtec_webp_jfif/x",
        [],
        {"000": BAND, "ajfif": {}, "ajpe": {}, "apng": {}, "awebp": {}},
        "left out: 1 .gif (format not read), 1 .ppm (format not read)",
    ),
]


@pytest.mark.parametrize(("form", "case", "more", "said"), REFUSED)
def test_a_mistake_is_named_and_nothing_is_written(
    tmp_path: Path, form: str, case: str, more: list[str], said: str
) -> None:
    code, text = imported(form, CASES / case, tmp_path / "d", *more)
    assert code == 1 and said in text


@pytest.mark.parametrize(("form", "case", "more", "found", "said"), TAKEN)
def test_what_is_harmless_is_imported_whole(
    tmp_path: Path, form: str, case: str, more: list[str], found: dict[str, dict[int, int]], said: str
) -> None:
    code, text = imported(form, CASES / case, tmp_path / "d", *more)
    assert code == 0, text
    assert areas(tmp_path / "d") == found
    assert said in text if said else "left out" not in text


def test_validation_folders_are_read(tmp_path: Path) -> None:
    code, _ = imported("mvtec", CASES / "mvtec_validation_folder/bottle", tmp_path / "d")
    found = areas(tmp_path / "d")
    assert code == 0 and len(found) == 10 and sum(not area for area in found.values()) == 8
    assert {f"validation_good_00{n}" for n in range(3)} <= found.keys()


def test_spelling_variants_of_one_label_are_told(tmp_path: Path) -> None:
    code, said = imported("labelme", CASES / "labelme_label_spelling/pictures", tmp_path / "d")
    assert code == 0 and "warning: 'Scratch', 'scratch', 'scratch ' and 'scratch\\u200b' are 4 classes" in said
    assert len(content(tmp_path / "d/classes.json")) == 5


def test_two_hundred_boxes_in_a_large_picture_take_little_memory(tmp_path: Path) -> None:
    """A process of its own: what it took at most is the kernel's count, since its program began."""
    program = (
        "import sys; from pathlib import Path; from inspectd_train.cli.main import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    words = ["import", "coco", CASES / "coco_many_regions_12mp/instances.json", "--out", tmp_path / "d"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, check=True
    )
    assert int(ended.stdout.split()[-1]) <= 300 * 1024  # KiB
    assert len(areas(tmp_path / "d")["a"]) == 1

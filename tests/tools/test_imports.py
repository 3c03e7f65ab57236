"""Each format by a small sample, laid out as its tool writes it."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from inspectd.runtime.errors import UserError
from inspectd_train.cli.main import app
from inspectd_train.data.folder import whole_folder
from inspectd_train.data.imports.regions import Patch, circle, coco_counts, line, polygon, runs
from inspectd_train.data.imports.store import unique_names

HEIGHT, WIDTH = 70, 90
RUNS = (
    "01Q\\1m0WeN000000000000000000\\OmN5S1KmN5S1KmN5S1KmN5S1KmN5S1?000000000000000000000000000000"
    "000000000000000000Z]1\\OZcN00000000000000000"
)
# pycocotools 2.0.11's mask.encode of RUNS_MASK below
rng = np.random.default_rng(0)


def picture(file: Path, height: int = HEIGHT, width: int = WIDTH, channels: int = 3) -> bytes:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), rng.integers(0, 255, (height, width, channels), np.uint8))
    return file.read_bytes()


def pixels(patch: Patch, height: int, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A region's pixels in the whole picture, bool [height, width]."""
    inside = np.zeros((height, width), np.bool_)
    high, wide = patch.inside.shape
    inside[patch.top : patch.top + high, patch.left : patch.left + wide] = patch.inside
    return inside


def run(*words: object) -> tuple[int, str]:
    said = CliRunner().invoke(app, [str(word) for word in words])
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    return said.exit_code, said.output.replace("\n", " ")


def mask_of(out: Path, stem: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    mask = cv2.imread(str(out / "masks" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None and mask.dtype == np.uint8 and mask.ndim == 2
    return np.asarray(mask, np.uint8)


def loaded(file: Path) -> Any:
    return json.loads(file.read_text())


# ---- outlines and runs


def test_a_pixel_belongs_when_its_centre_does() -> None:
    inside = pixels(polygon([(2, 1), (5, 1), (5, 3), (2, 3)], 5, 8), 5, 8)
    assert np.argwhere(inside).tolist() == [[y, x] for y in (1, 2) for x in (2, 3, 4)]
    assert polygon([(2.6, 1.6), (5.4, 1.6), (5.4, 3.4), (2.6, 3.4)], 5, 8).inside.sum() == 2
    assert polygon([(-9, -9), (99, -9), (99, 99), (-9, 99)], 5, 8).inside.all()


def test_a_region_too_thin_for_any_centre_is_its_outline() -> None:
    thin = polygon([(1.6, 0.6), (1.7, 0.6), (1.7, 4.4), (1.6, 4.4)], 5, 8)
    assert np.argwhere(pixels(thin, 5, 8)).tolist() == [[y, 1] for y in range(5)]
    assert circle((3.9, 2.9), 0.2, 5, 8).inside.sum() == 1
    assert not polygon([(20, 20), (25, 20), (25, 25)], 5, 8).inside.any()


@given(st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=8))
def test_the_even_odd_rule_of_the_daemon(points: list[tuple[float, float]]) -> None:
    from inspectd.extract.polygons import contains

    y, x = np.mgrid[:20, :20] + 0.5
    expected = contains(points, x, y)
    if expected.any():
        assert (
            np.count_nonzero(pixels(polygon(points, 20, 20), 20, 20) != expected) <= 1
        )  # a centre exactly on an edge


def test_a_line_has_the_width_that_is_asked_for() -> None:
    assert pixels(line([(0, 5), (20, 5)], 4, 10, 20), 10, 20).sum(axis=0).tolist() == [4] * 20


def runs_mask() -> np.ndarray[Any, np.dtype[np.uint8]]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:40, 20:60] = 1
    mask[20:25, 30:35] = 0
    mask[60:, 80:] = 1
    mask[0, 0] = 1
    return mask


@given(st.lists(st.integers(0, 10**6), max_size=20))
def test_compressed_runs_are_read_back(counts: list[int]) -> None:
    assert coco_counts(compressed(counts)) == counts


def compressed(counts: list[int]) -> str:
    """COCO's packing, the other way round (cocoapi's rleToString)."""
    text = ""
    for k, count in enumerate(counts):
        x, more = count - (counts[k - 2] if k > 2 else 0), True
        while more:
            c, x = x & 31, x >> 5
            more = x != -1 if c & 16 else x != 0
            text += chr((c | 32 if more else c) + 48)
    return text


# ---- COCO


def coco(folder: Path, *segmentations: Any, categories: tuple[int, ...] = (7,)) -> dict[str, Any]:
    picture(folder / "images" / "a.png")
    picture(folder / "images" / "b.png")
    image = {"height": HEIGHT, "width": WIDTH, "license": 1}
    content = {
        "info": {"year": 2024},
        "licenses": [],
        "images": [{"id": 3, "file_name": "a.png", **image}, {"id": 4, "file_name": "b.png", **image}],
        "categories": [
            {"id": 9, "name": "pit", "supercategory": "defect"},
            {"id": 7, "name": "crack", "supercategory": "defect"},
            {"id": 0, "name": "defect", "supercategory": "none"},
        ],
        "annotations": [
            {
                "id": n,
                "image_id": 3,
                "category_id": k,
                "bbox": [0, 0, 1, 1],
                "area": 1,
                "iscrowd": 0,
                "segmentation": s,
            }
            for n, (s, k) in enumerate(zip(segmentations, categories, strict=True))
        ],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances.json").write_text(json.dumps(content))
    return content


def taken(form: str, folder: Path, out: str, *more: str) -> tuple[int, str]:
    """Imports the folder s; pictures without an annotation are good parts."""
    return run("import", form, folder / "s", "--out", folder / out, "--missing", "clean", *more)


SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]


def test_coco_polygons_and_both_kinds_of_runs(tmp_path: Path) -> None:
    counts = [0, 1, *run_lengths(runs_mask())[2:]]
    coco(
        tmp_path / "s",
        [SQUARE, [30, 45, 40, 45, 40, 55, 30, 55]],
        {"size": [HEIGHT, WIDTH], "counts": counts},
        {"size": [HEIGHT, WIDTH], "counts": compressed(counts)},
        categories=(9, 7, 7),
    )
    code, said = taken("coco", tmp_path, "d", "--overlap", "later")
    assert code == 0, said
    assert loaded(tmp_path / "d/classes.json") == {"0": "background", "1": "crack", "2": "pit"}
    assert loaded(tmp_path / "d/labels.json") == {"a.png": ["crack", "pit"], "b.png": []}
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[10:20, 10:20] = expected[45:55, 30:40] = 2
    expected[runs_mask() == 1] = 1
    assert (mask_of(tmp_path / "d", "a") == expected).all()
    assert not mask_of(tmp_path / "d", "b").any()
    assert (tmp_path / "d/images/a.png").read_bytes() == (tmp_path / "s/images/a.png").read_bytes()


def run_lengths(mask: np.ndarray[Any, np.dtype[np.uint8]], order: str = "F") -> list[int]:
    flat = mask.ravel(order=order).tolist()  # type: ignore[arg-type]
    lengths, value = [0], 0
    for pixel in flat:
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


def test_runs_as_pycocotools_writes_them() -> None:
    assert (runs(coco_counts(RUNS), HEIGHT, WIDTH, by_column=True) == (runs_mask() == 1)).all()
    with pytest.raises(ValueError, match="add up to"):
        runs([5, 5], HEIGHT, WIDTH, by_column=True)


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([], "has no outline"),
        ([[1, 2, 3, 4]], "has no outline"),
        ({"size": [5, 5], "counts": [25]}, "for another size"),
        ({"size": [HEIGHT, WIDTH], "counts": [25]}, "add up to 25"),
        ({"size": [HEIGHT, WIDTH], "counts": "ä"}, "no character of compressed run lengths"),
        ([[200, 200, 210, 200, 210, 210]], "covers no pixel"),
    ],
)
def test_coco_faults_name_the_picture(tmp_path: Path, segmentation: Any, said: str) -> None:
    coco(tmp_path / "s", segmentation)
    code, text = taken("coco", tmp_path, "d")
    assert code == 1 and "a.png: " in text and said in text
    assert sorted(os.listdir(tmp_path)) == ["s"]


def test_overlap_names_the_file_and_both_classes(tmp_path: Path) -> None:
    coco(tmp_path / "s", [SQUARE], [[15, 15, 25, 15, 25, 25, 15, 25]], categories=(9, 7))
    code, text = taken("coco", tmp_path, "d")
    assert code == 1 and "a.png: pit and crack overlap at x 15, y 15" in text
    assert taken("coco", tmp_path, "d", "--overlap", "later")[0] == 0
    assert mask_of(tmp_path / "d", "a")[17, 17] == 1


def test_unlabelled_pixels_as_stated(tmp_path: Path) -> None:
    coco(tmp_path / "s", [SQUARE])
    code, text = taken("coco", tmp_path, "d", "--unlabelled", "error")
    assert code == 1 and "b.png: 6300 px are not labelled" in text
    assert taken("coco", tmp_path, "e", "--unlabelled", "dont-care")[0] == 0
    assert np.unique(mask_of(tmp_path / "e", "a")).tolist() == [1, 255]


def test_labels_of_another_picture_size_are_refused(tmp_path: Path) -> None:
    coco(tmp_path / "s", [SQUARE])
    picture(tmp_path / "s/images/a.png", WIDTH, HEIGHT)
    code, text = taken("coco", tmp_path, "d")
    assert code == 1 and "a.png: is 70 x 90 px, the labels are for 90 x 70" in text


# ---- LabelMe


def labelme(file: Path, *shapes: dict[str, Any]) -> None:
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [{"group_id": None, "description": "", "flags": {}, "mask": None, **s} for s in shapes],
        "imagePath": f"..\\pictures\\{file.stem}.jpg",
        "imageData": "AAAA",
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    picture(file.parent.parent / "pictures" / f"{file.stem}.jpg")


def test_labelme_shapes(tmp_path: Path) -> None:
    ok, png = cv2.imencode(".png", np.array([[0, 255], [255, 255]], np.uint8))
    assert ok
    labelme(
        tmp_path / "s/labels/a.json",
        {"label": "pit", "shape_type": "polygon", "points": [[10, 10], [20, 10], [20, 20], [10, 20]]},
        {"label": "crack", "shape_type": "rectangle", "points": [[40, 5], [30, 2]]},
        {"label": "pit", "shape_type": "circle", "points": [[60, 40], [60, 45]]},
        {"label": "crack", "shape_type": "linestrip", "points": [[0, 65], [30, 65], [60, 65]]},
        {
            "label": "pit",
            "shape_type": "mask",
            "points": [[80, 60], [81, 61]],
            "mask": base64.b64encode(png).decode(),
        },
        {"label": "unsure", "shape_type": "rectangle", "points": [[18, 10], [22, 20]]},
    )
    labelme(tmp_path / "s/labels/good.json")
    words = ("import", "labelme", tmp_path / "s", "--out", tmp_path / "d", "--dont-care", "unsure")
    code, text = run(*words)
    assert code == 1 and "--line-px" in text
    code, text = run(*words, "--line-px", 2)
    assert code == 0, text
    assert loaded(tmp_path / "d/classes.json") == {"0": "background", "1": "crack", "2": "pit"}
    assert loaded(tmp_path / "d/labels.json") == {"a.jpg": ["crack", "pit"], "good.jpg": []}
    mask = mask_of(tmp_path / "d", "a")
    assert (mask[10:20, 10:18] == 2).all() and (mask[10:20, 18:22] == 255).all()
    assert (mask[2:5, 30:40] == 1).all() and (mask[64:66, :60] == 1).all()
    assert mask[60:62, 80:82].tolist() == [[0, 2], [2, 2]]
    assert abs(np.count_nonzero(mask[30:55, 50:70] == 2) - np.pi * 25) < 5


@pytest.mark.parametrize("folder", ["labels", "pictures"], ids=["beside the labels", "in a folder of their own"])
def test_labelme_pictures_without_labels(tmp_path: Path, folder: str) -> None:
    labelme(tmp_path / "s/labels/a.json", {"label": "pit", "points": [[10, 10], [20, 10], [20, 20]]})
    picture(tmp_path / "s" / folder / "b.png")
    code, text = run("import", "labelme", tmp_path / "s", "--out", tmp_path / "d")
    assert code == 1 and "b.png: has no label file" in text
    assert run("import", "labelme", tmp_path / "s", "--out", tmp_path / "d", "--missing", "skip")[0] == 0
    assert run("import", "labelme", tmp_path / "s", "--out", tmp_path / "e", "--missing", "clean")[0] == 0
    assert (os.listdir(tmp_path / "d/images"), loaded(tmp_path / "e/labels.json")["b.png"]) == (["a.jpg"], [])


def test_a_picture_that_nobody_annotated_is_no_good_part_unseen(tmp_path: Path) -> None:
    coco(tmp_path / "s", [SQUARE])
    (tmp_path / "s/annotations.xml").write_text(CVAT.replace("lot1/", "").replace("lot2/a", "b"))
    for form in ("coco", "cvat"):
        words = ("import", form, tmp_path / "s", "--out", tmp_path / form, "--overlap", "later")
        code, text = run(*words)
        assert code == 1 and "b.png: has no annotation; if such are good parts, say --missing clean" in text
        assert run(*words, "--missing", "skip")[0] == 0
        assert os.listdir(tmp_path / form / "images") == ["a.png"]


# ---- masks


def test_index_masks(tmp_path: Path) -> None:
    picture(tmp_path / "s/images/a.bmp")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:9, 5:9], mask[20:30, 20:30], mask[0] = 1, 2, 255
    (tmp_path / "s/masks").mkdir()
    cv2.imwrite(str(tmp_path / "s/masks/a.png"), mask)
    (tmp_path / "s/classes.json").write_text('{"0": "good", "1": "pit", "2": "crack"}')
    assert run("import", "masks", tmp_path / "s", "--out", tmp_path / "d", "--unlabelled", "error")[0] == 0
    assert (mask_of(tmp_path / "d", "a") == mask).all()
    cv2.imwrite(str(tmp_path / "s/masks/a.png"), mask + 5)
    code, text = run("import", "masks", tmp_path / "s", "--out", tmp_path / "e")
    assert code == 1 and "a.bmp: its mask has the class index 4" in text


def test_colour_masks(tmp_path: Path) -> None:
    picture(tmp_path / "s/images/a.png", channels=1)
    bgr = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    bgr[5:9, 5:9], bgr[20:30, 20:30] = (0, 0, 255), (0, 255, 0)
    (tmp_path / "s/masks").mkdir()
    cv2.imwrite(str(tmp_path / "s/masks/a.png"), bgr)
    words = ["import", "masks", tmp_path / "s", "--out", tmp_path / "d", "--colours", "pit=#ff0000"]
    code, text = run(*words)
    assert code == 1 and "a.png: its mask has the colour #00ff00 at x 20, y 20" in text
    assert run(*words, "--colours", "crack=00FF00")[0] == 0
    assert [mask_of(tmp_path / "d", "a")[y, y] for y in (0, 6, 25)] == [0, 1, 2]


def test_pictures_and_masks_that_lack_each_other(tmp_path: Path) -> None:
    picture(tmp_path / "s/images/a.png")
    picture(tmp_path / "s/masks/b.png", channels=1)
    (tmp_path / "s/classes.json").write_text('{"0": "background", "1": "pit"}')
    assert "a.png: has no mask" in run("import", "masks", tmp_path / "s", "--out", tmp_path / "d")[1]
    said = run("import", "masks", tmp_path / "s", "--out", tmp_path / "d", "--missing", "skip")[1]
    assert "b.png: a mask without a picture" in said


# ---- MVTec AD


def mvtec(folder: Path) -> None:
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/hole/000", "test/cut/000"):
        picture(folder / f"{name}.png")
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[10:20, 30:35] = 255
    for label in ("hole", "cut"):
        (folder / "ground_truth" / label).mkdir(parents=True)
        cv2.imwrite(str(folder / "ground_truth" / label / "000_mask.png"), truth)


def test_mvtec_layout_with_equal_names(tmp_path: Path) -> None:
    mvtec(tmp_path / "s")
    assert run("import", "mvtec", tmp_path / "s", "--out", tmp_path / "d", "--unlabelled", "error")[0] == 0
    assert loaded(tmp_path / "d/classes.json") == {"0": "background", "1": "cut", "2": "hole"}
    labels = loaded(tmp_path / "d/labels.json")
    assert labels["test_hole_000.png"] == ["hole"] and labels["train_good_000.png"] == []
    assert "001.png" in labels
    assert np.unique(mask_of(tmp_path / "d", "test_hole_000"), return_counts=True)[1].tolist() == [6250, 50]
    assert run("import", "mvtec", tmp_path / "s", "--out", tmp_path / "e", "--one-class", "defect")[0] == 0
    assert loaded(tmp_path / "e/classes.json") == {"0": "background", "1": "defect"}


def test_mvtec_empty_and_missing_masks(tmp_path: Path) -> None:
    mvtec(tmp_path / "s")
    cv2.imwrite(str(tmp_path / "s/ground_truth/cut/000_mask.png"), np.zeros((HEIGHT, WIDTH), np.uint8))
    assert (
        "is empty, but the folder says 'cut'" in run("import", "mvtec", tmp_path / "s", "--out", tmp_path / "d")[1]
    )
    (tmp_path / "s/ground_truth/cut/000_mask.png").unlink()
    assert "000_mask.png is missing" in run("import", "mvtec", tmp_path / "s", "--out", tmp_path / "d")[1]
    assert run("import", "mvtec", tmp_path / "s", "--out", tmp_path / "d", "--missing", "skip")[0] == 0


# ---- CVAT

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>5</id><name>t</name><size>2</size><mode>annotation</mode>
    <labels>
      <label><name>pit</name><color>#ff0000</color><type>any</type><attributes></attributes></label>
      <label><name>crack</name><color>#00ff00</color><type>any</type><attributes></attributes></label>
      <label><name>never</name><color>#00ff00</color><type>any</type><attributes></attributes></label>
    </labels></task><dumped>2024-05-02 10:00:00.000000+00:00</dumped></meta>
  <image id="0" name="lot1/a.png" width="90" height="70">
    <polygon label="pit" source="manual" occluded="0" points="10.00,10.00;20.00,10.00;20.00,20.00;10.00,20.00"
      z_order="1"></polygon>
    <box label="crack" source="manual" occluded="0" xtl="15.00" ytl="15.00" xbr="30.00" ybr="18.00"
      z_order="0"></box>
    <mask label="crack" source="semi-auto" occluded="0" rle="1, 2, 3, 0" left="50" top="40" width="3" height="2"
      z_order="0"></mask>
  </image>
  <image id="1" name="lot2/a.png" width="90" height="70">
  </image>
</annotations>
"""


def test_cvat_for_images(tmp_path: Path) -> None:
    for lot in ("lot1", "lot2"):
        picture(tmp_path / "s/images" / lot / "a.png")
    (tmp_path / "s/annotations.xml").write_text(CVAT)
    code, text = taken("cvat", tmp_path, "d", "--overlap", "later")
    assert code == 0, text
    assert loaded(tmp_path / "d/classes.json") == {"0": "background", "1": "pit", "2": "crack"}
    mask = mask_of(tmp_path / "d", "lot1_a")
    assert (mask[10:20, 10:20] == 1).all() and (mask[15:18, 20:30] == 2).all()
    assert mask[40:42, 50:53].tolist() == [[0, 2, 2], [0, 0, 0]]
    assert not mask_of(tmp_path / "d", "lot2_a").any()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1, 2, 3, 0", "1, 2", "add up to 3"),
        ('left="50"', 'left="88"', "reaches out"),
        ("</annotations>", "", "not XML"),
        ("<annotations>", "<!DOCTYPE x [<!ENTITY a 'b'>]><annotations>", "not an export of CVAT"),
    ],
)
def test_cvat_faults(tmp_path: Path, old: str, new: str, said: str) -> None:
    for lot in ("lot1", "lot2"):
        picture(tmp_path / "s/images" / lot / "a.png")
    (tmp_path / "s/annotations.xml").write_text(CVAT.replace(old, new))
    code, text = taken("cvat", tmp_path, "d", "--overlap", "later")
    assert code == 1 and said in text


# ---- whole or not at all


def test_every_unreadable_picture_is_named(tmp_path: Path) -> None:
    coco(tmp_path / "s", [SQUARE])
    cv2.imwrite(str(tmp_path / "s/images/a.png"), np.zeros((HEIGHT, WIDTH), np.uint16))
    cv2.imwrite(str(tmp_path / "s/images/b.png"), np.zeros((HEIGHT, WIDTH, 4), np.uint8))
    code, text = taken("coco", tmp_path, "d")
    assert code == 1 and "a.png: has 16 bits" in text and "b.png: has 4 channels" in text
    assert not (tmp_path / "d").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    coco(tmp_path / "s", [SQUARE])
    (tmp_path / "d").mkdir()
    assert taken("coco", tmp_path, "d")[0] == 0
    code, text = taken("coco", tmp_path, "d")
    assert code == 1 and "exists and is not empty" in text


def test_nothing_half_written_stays_after_an_interrupt_or_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "d") as folder:
        (folder / "classes.json").write_text("{}")
        raise KeyboardInterrupt
    with (
        pytest.raises(UserError, match=r"d: can't be written \(No space left on device\)"),
        whole_folder(tmp_path / "d"),
    ):
        Path("/dev/full").write_text("x")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "words", [["coco", "nothing"], *([f, "."] for f in ("labelme", "cvat", "mvtec", "masks"))]
)
def test_a_source_that_is_none_is_one_sentence(tmp_path: Path, words: list[str]) -> None:
    code, text = run("import", words[0], tmp_path / words[1], "--out", tmp_path / "d")
    assert code == 1 and str(tmp_path) in text and "Traceback" not in text


def test_an_option_of_another_format_is_refused(tmp_path: Path) -> None:
    code, text = run("import", "labelme", tmp_path, "--out", tmp_path / "d", "--colours", "a=#ff0000")
    assert code == 1 and "--colours is for masks, not for labelme; leave it out" in text


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 200),
    st.floats(),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just([[1]]),
)


def damaged(content: Any, data: st.DataObject) -> Any:
    """The same JSON with one value, anywhere, replaced by another."""
    if isinstance(content, dict) and content and data.draw(st.integers(0, 9)):
        key = data.draw(st.sampled_from(sorted(content)))
        return content | {key: damaged(content[key], data)}
    if isinstance(content, list) and content and data.draw(st.integers(0, 9)):
        at = data.draw(st.integers(0, len(content) - 1))
        return [*content[:at], damaged(content[at], data), *content[at + 1 :]]
    return data.draw(LEAVES)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_damaged_labels_are_sentences(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`run` fails on any traceback."""
    folder = tmp_path_factory.mktemp("s")
    runs_ = {"size": [HEIGHT, WIDTH], "counts": run_lengths(runs_mask())}
    content = damaged(coco(folder / "c", [SQUARE], runs_, categories=(9, 7)), data)
    (folder / "c/annotations/instances.json").write_text(json.dumps(content))
    run("import", "coco", folder / "c", "--out", folder / "d")
    labelme(
        folder / "l/labels/a.json",
        {"label": "pit", "shape_type": "polygon", "points": [[10, 10], [20, 10], [20, 20], [10, 20]]},
        {"label": "pit", "shape_type": "circle", "points": [[60, 40], [60, 45]]},
        {"label": "pit", "shape_type": "mask", "points": [[80, 60], [81, 61]], "mask": "AAAA"},
    )
    file = folder / "l/labels/a.json"
    file.write_text(json.dumps(damaged(loaded(file), data)))
    run("import", "labelme", folder / "l", "--out", folder / "e")
    for lot in ("lot1", "lot2"):
        picture(folder / "v/images" / lot / "a.png")
    at = data.draw(st.integers(0, len(CVAT)))
    (folder / "v/annotations.xml").write_text(
        CVAT[:at] + data.draw(st.sampled_from(["", "9", "x", '"'])) + CVAT[at + 1 :]
    )
    run("import", "cvat", folder / "v", "--out", folder / "f", "--overlap", "later")


PARTS = st.sampled_from(["a", "b", "A", "a_b", "c"])


@given(
    st.lists(
        st.tuples(PARTS, PARTS, PARTS, st.sampled_from([".png", ".jpg"])).map(lambda p: "/".join(p[:3]) + p[3]),
        unique=True,
        max_size=12,
    )
)
def test_no_two_names_share_their_mask(paths: list[str]) -> None:
    try:
        names = unique_names(paths)
    except UserError as error:
        assert "another picture has this name too" in str(error)
        return
    assert len({Path(name).stem.casefold() for name in names}) == len(paths)
    assert all(Path(n).suffix == Path(p).suffix and "/" not in n for n, p in zip(names, paths, strict=True))

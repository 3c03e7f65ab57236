import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspectd.runtime.channels import with_channels
from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import digest, load, open_data_set, stored_channels
from tests.tools.synthetic import write_data_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "data", height=120, width=200)


def test_reads_pictures_and_masks(folder: Path) -> None:
    data = open_data_set(folder)
    samples = load(data, "train", channels=3)
    assert data.classes == ("pitting",)
    assert [s.image.shape for s in samples] == [(120, 200, 3)] * 4
    assert all(s.mask.shape == (120, 200) and s.mask.max() == 1 for s in samples)


def test_digest_changes_with_any_pixel(folder: Path) -> None:
    before = digest(open_data_set(folder))
    mask = cv2.imread(str(folder / "masks" / "dev_0.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    mask[0, 0] = 255
    cv2.imwrite(str(folder / "masks" / "dev_0.png"), mask)
    assert digest(open_data_set(folder)) != before


def test_missing_split_file_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"other\.json: no such file"):
        open_data_set(folder, "other.json")


def test_classes_without_background_are_refused(folder: Path) -> None:
    (folder / "classes.json").write_text('{"1": "pitting"}')
    with pytest.raises(UserError, match=r"classes\.json: want class names by index"):
        open_data_set(folder)


def test_empty_split_is_refused(folder: Path) -> None:
    (folder / "split.json").write_text(json.dumps({"train": ["a.png"], "dev": [], "test": ["b.png"]}))
    with pytest.raises(UserError, match='"dev" must be a list of file names'):
        open_data_set(folder)


def test_names_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / "split.json").write_text(json.dumps({"train": ["a.png"], "dev": [7], "test": ["b.png"]}))
    with pytest.raises(UserError, match='"dev" must be a list of file names'):
        open_data_set(folder)


def test_two_classes_of_one_name_are_refused(folder: Path) -> None:
    (folder / "classes.json").write_text('{"0": "background", "1": "pit", "2": "pit"}')
    with pytest.raises(UserError, match=r"classes\.json: a name stands for two classes"):
        open_data_set(folder)


def test_broken_json_is_named(folder: Path) -> None:
    (folder / "split.json").write_text("{")
    with pytest.raises(UserError, match=r"split\.json: not JSON"):
        open_data_set(folder)


def test_missing_mask_is_named(folder: Path) -> None:
    (folder / "masks" / "train_1.png").unlink()
    with pytest.raises(UserError, match=r"train_1\.png: no such file"):
        load(open_data_set(folder), "train", 3)


def test_mask_with_an_unknown_class_is_refused(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks" / "dev_1.png"), np.full((120, 200), 7, np.uint8))
    with pytest.raises(UserError, match=r"dev_1\.png: class 7 is not in classes\.json"):
        load(open_data_set(folder), "dev", 3)


def test_mask_of_another_size_is_refused(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks" / "dev_1.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(UserError, match="want one channel of"):
        load(open_data_set(folder), "dev", 3)


def test_unreadable_picture_is_named(folder: Path) -> None:
    (folder / "images" / "test_0.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"images/test_0\.png: is cut off.*save it as"):
        load(open_data_set(folder), "test", 3)


def test_grey_and_colour_are_what_the_network_wants(folder: Path) -> None:
    data = open_data_set(folder)
    assert stored_channels(data) == 3
    assert load(data, "dev", channels=1)[0].image.shape == (120, 200, 1)
    for name in data.splits["train"]:
        cv2.imwrite(str(folder / "images" / name), np.full((120, 200), 9, np.uint8))
    assert stored_channels(data) == 1
    assert load(data, "train", channels=3)[0].image.tolist() == np.full((120, 200, 3), 9).tolist()


def test_colour_stays_in_order() -> None:
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    assert with_channels(red, 3) is red
    assert with_channels(red, 1)[0, 0] == round(0.299 * 200)


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.zeros((120, 200), np.uint16), "16 bits per channel"),
        (np.zeros((120, 200, 4), np.uint8), "4 channels"),
        (np.zeros((63, 200), np.uint8), "want one channel of"),
    ],
)
def test_odd_pictures_are_refused(folder: Path, pixels: np.ndarray, why: str) -> None:
    cv2.imwrite(str(folder / "images" / "dev_0.png"), pixels)
    with pytest.raises(UserError, match=why):
        load(open_data_set(folder), "dev", 3)


def test_tiny_picture_is_refused(folder: Path) -> None:
    for kind in ("images", "masks"):
        cv2.imwrite(str(folder / kind / "dev_0.png"), np.zeros((63, 200), np.uint8))
    with pytest.raises(UserError, match=r"dev_0\.png: 200 x 63 px, 64 x 64 is the least"):
        load(open_data_set(folder), "dev", 1)

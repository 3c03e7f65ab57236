import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspectd.errors import UserError
from tests.tools.synthetic import write_data_set
from tools.dataset import (
    cell_fractions,
    defect_centres,
    digest,
    load,
    open_data_set,
    random_crop,
    small_defect_weights,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "data", height=120, width=200)


def test_reads_pictures_and_masks(folder: Path) -> None:
    data = open_data_set(folder)
    samples = load(data, "train")
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


def test_broken_json_is_named(folder: Path) -> None:
    (folder / "split.json").write_text("{")
    with pytest.raises(UserError, match=r"split\.json: not JSON"):
        open_data_set(folder)


def test_missing_mask_is_named(folder: Path) -> None:
    (folder / "masks" / "train_1.png").unlink()
    with pytest.raises(UserError, match=r"train_1\.png: no such file"):
        load(open_data_set(folder), "train")


def test_mask_with_an_unknown_class_is_refused(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks" / "dev_1.png"), np.full((120, 200), 7, np.uint8))
    with pytest.raises(UserError, match=r"dev_1\.png: class 7 is not in classes\.json"):
        load(open_data_set(folder), "dev")


def test_mask_of_another_size_is_refused(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks" / "dev_1.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(UserError, match="want one channel of"):
        load(open_data_set(folder), "dev")


def test_unreadable_picture_is_named(folder: Path) -> None:
    (folder / "images" / "test_0.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"test_0\.png: not an 8-bit picture"):
        load(open_data_set(folder), "test")


def test_cell_fractions_are_areas_and_leave_out_what_nobody_cares_for() -> None:
    mask = np.zeros((5, 8), np.uint8)
    mask[0:2, 0:4] = 1
    mask[0:4, 4:6] = 255
    share, weight = cell_fractions(mask, 1)
    assert share.tolist() == [[[0.5, 0.0], [0.0, 0.0]]]
    assert weight.tolist() == [[1.0, 0.5], [0.25, 0.25]]


def test_small_defects_weigh_more() -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[0:8, 0:8] = 1
    mask[40:100, 40:100] = 1
    weights = small_defect_weights(mask)
    assert weights[0, 0] == 4.0
    assert weights[15, 15] == 1.0
    assert weights[30, 2] == 1.0


def test_crop_around_a_defect_keeps_picture_and_mask_together(folder: Path) -> None:
    samples, rng = load(open_data_set(folder), "train"), np.random.default_rng(0)
    centres = defect_centres(samples, 1)[0]
    for index, x, y in centres[:6]:
        image, mask = random_crop(samples[index], (x, y), 96, rng)
        assert image.shape == (96, 96, 3)
        assert image[mask == 1].mean() < image[mask == 0].mean() - 20

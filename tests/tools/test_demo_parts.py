import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspectd.errors import UserError
from tests.tools.synthetic import write_data_set
from tools.dataset import open_data_set
from tools.demo_parts import HEIGHT_PX, MARGIN_PX, WIDTH_PX, find_parts, write_demo_parts


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pits=st.integers(0, 6))
def test_no_defect_is_cut_and_clean_parts_keep_their_distance(seed: int, pits: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((500, 1200), np.uint8)
    for _ in range(pits):
        centre = (int(rng.integers(1200)), int(rng.integers(500)))
        cv2.circle(mask, centre, int(rng.integers(2, 40)), (1,), -1)
    for part in find_parts(mask, 0, 2, 2, rng):
        x, y, w, h = part.box
        assert (w, h) == (WIDTH_PX, HEIGHT_PX)
        assert 0 <= x <= 1200 - w
        assert 0 <= y <= 500 - h
        if part.defects:
            inside = np.zeros_like(mask)
            inside[y : y + h, x : x + w] = 1
            count, labels = cv2.connectedComponents(mask)
            touched = [k for k in range(1, count) if inside[labels == k].any()]
            assert len(touched) == len(part.defects) >= 1
            assert all(inside[labels == k].all() for k in touched)
        else:
            margin = MARGIN_PX
            assert not mask[max(y - margin, 0) : y + h + margin, max(x - margin, 0) : x + w + margin].any()


def test_pictures_smaller_than_a_part_give_none() -> None:
    assert find_parts(np.zeros((383, 600), np.uint8), 0, 1, 1, np.random.default_rng(0)) == []


def test_written_parts_and_their_truth(tmp_path: Path) -> None:
    data = open_data_set(write_data_set(tmp_path / "data", height=480, width=1300))
    count = write_demo_parts(data, tmp_path / "parts")
    truth = json.loads((tmp_path / "parts" / "parts.json").read_text())
    assert len(truth) == count > 0
    assert {entry["label"] for entry in truth.values()} <= {"clean", "pitting"}
    for name, entry in truth.items():
        picture = cv2.imread(str(tmp_path / "parts" / name))
        assert picture is not None
        assert picture.shape == (HEIGHT_PX, WIDTH_PX, 3)
        assert entry["source"] in data.splits["test"]
        assert bool(entry["boxes"]) == (entry["label"] == "pitting")
    again = tmp_path / "again"
    write_demo_parts(data, again)
    assert json.loads((again / "parts.json").read_text()) == truth
    with pytest.raises(UserError, match="already holds files"):
        write_demo_parts(data, again)

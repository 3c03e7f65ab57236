import json
from pathlib import Path

import cv2
import pytest

from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import open_data_set
from inspectd_train.data.demo_parts import HEIGHT_PX, WIDTH_PX, write_demo_parts
from tests.tools.synthetic import write_data_set


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

"""The commands of docs/datasets.md, as they stand there, one after the other."""

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from inspectd_train.cli.main import app
from tests.tools.test_imports import CVAT, labelme, mvtec, picture

PAGE = Path(__file__).parents[2] / "docs/datasets.md"


def write_sources() -> None:
    """Twenty pictures as COCO, one or few in each other format; small, but of the layout that the page names."""
    images, annotations = [], []
    for n in range(20):
        name = f"lot{n // 2}_{n}.png"
        picture(Path("export") / name)
        images.append({"id": n, "file_name": name, "height": 70, "width": 90})
        outline = [[10, 10, 30, 10, 30, 30, 10, 30]]
        annotations.append({"id": n, "image_id": n, "category_id": 1, "segmentation": outline})
    content = {"images": images, "annotations": annotations[:12], "categories": [{"id": 1, "name": "pit"}]}
    Path("export/instances.json").write_text(json.dumps(content))
    labelme(Path("pictures/labels/a.json"), {"label": "pit", "points": [[10, 10], [20, 10], [20, 20]]})
    picture(Path("painted/images/a.png"))
    bgr = np.zeros((70, 90, 3), np.uint8)
    bgr[5:9, 5:9], bgr[20:30, 20:30] = (0, 0, 255), (0, 255, 0)
    Path("painted/masks").mkdir()
    cv2.imwrite("painted/masks/a.png", bgr)
    mvtec(Path("bottle"))
    for lot in ("lot1", "lot2"):
        picture(Path("cvat/images") / lot / "a.png")
    for file in ("yolo/images/a.png", "yolo/images/b.png"):
        picture(Path(file))
        Path(file.replace("images", "labels")).with_suffix(".txt").parent.mkdir(parents=True, exist_ok=True)
        Path(file.replace("images", "labels")).with_suffix(".txt").write_text("0 0.1 0.1 0.3 0.1 0.3 0.3\n")
    Path("yolo/data.yaml").write_text("names: [pit]\n")
    Path("cvat/annotations.xml").write_text(re.sub(r"<box.*?</box>", "", CVAT, flags=re.DOTALL))


def test_every_command_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sources()
    commands = [
        c for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) for c in block.splitlines()
    ]
    assert len(commands) == 10
    for command in commands:
        program, *words = shlex.split(command.replace("--pictures 200", "--pictures 12"))
        said = CliRunner().invoke(app, words)
        assert program == "inspectd-train" and said.exit_code == 0, (command, said.output)
    assert CliRunner().invoke(app, ["check", "data"]).exit_code == 0
    assert Path("sheet.png").is_file()
    lots = json.loads(Path("data/split_lots.json").read_text())
    home = {name: split for split, names in lots.items() for name in names}
    assert all(home[f"lot{k}_{2 * k}.png"] == home[f"lot{k}_{2 * k + 1}.png"] for k in range(10))

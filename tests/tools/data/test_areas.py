"""Areas of imported outlines against matplotlib's point-in-path test at 8 x 8 points a pixel."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from tests.tools.data.imported import areas, imported, write_picture

POINTS = 8
DATUMARO = """\
2 0.100000 0.100000 0.400000 0.100000 0.400000 0.500000
4 0.200000 0.150000 0.400000 0.150000 0.400000 0.750000 0.300000 0.750000 0.250000 0.300000
"""
"""tests/assets/yolo_dataset/yolov8_segmentation/labels/train/1.txt of Datumaro; MIT, (C) Intel Corporation."""


def area_px(points: np.ndarray, height: int, width: int) -> float:
    """The area of an outline, px, by counting fine points."""
    y, x = (np.mgrid[: height * POINTS, : width * POINTS] + 0.5) / POINTS
    inside = Outline(np.vstack([points, points[:1]])).contains_points(np.column_stack([x.ravel(), y.ravel()]))
    return float(inside.sum()) / POINTS**2


def test_labels_of_another_program(tmp_path: Path) -> None:
    """Each alone, as the second lies partly on the first."""
    (tmp_path / "s").mkdir()
    names = "".join(f"  {k}: label_{k}\n" for k in range(10))
    (tmp_path / "s/data.yaml").write_text(f"path: ./\ntrain: train.txt\n\nnames:\n{names}")
    expected = {}
    for number, line in enumerate(DATUMARO.splitlines()):
        write_picture(tmp_path / f"s/images/train/{number}.png", 240, 320, number)
        (tmp_path / "s/labels/train").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"s/labels/train/{number}.txt").write_text(line)
        points = np.array(line.split()[1:], float).reshape(-1, 2) * (320, 240)
        expected[str(number)] = area_px(points, 240, 320)
    assert imported("yolo", tmp_path / "s", tmp_path / "d")[0] == 0
    found = {stem: sum(of.values()) for stem, of in areas(tmp_path / "d").items()}
    assert found == pytest.approx(expected, rel=0.01)


def test_outlines_of_every_kind(tmp_path: Path) -> None:
    """Stars, which are convex nowhere, with tips between the pixels."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s/classes.txt").write_text("star")
    rng = np.random.default_rng(0)
    expected = {}
    for number in range(6):
        write_picture(tmp_path / f"s/images/{number}.png", 160, 200, number)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 24))
        radius = np.where(np.arange(24) % 2, rng.uniform(20, 35), rng.uniform(50, 75))
        points = np.column_stack([100 + radius * np.cos(angles), 80 + radius * np.sin(angles)])
        (tmp_path / "s/labels").mkdir(exist_ok=True)
        numbers = " ".join(f"{x / 200:.6f} {y / 160:.6f}" for x, y in points)
        (tmp_path / f"s/labels/{number}.txt").write_text(f"0 {numbers}")
        expected[str(number)] = area_px(points, 160, 200)
    assert imported("yolo", tmp_path / "s", tmp_path / "d")[0] == 0
    assert {stem: of[1] for stem, of in areas(tmp_path / "d").items()} == pytest.approx(expected, rel=0.01)

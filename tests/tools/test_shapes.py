import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from inspectd_train.cli.main import app
from inspectd_train.data.check import check
from inspectd_train.data.dataset import load, open_data_set
from inspectd_train.data.shapes import CLASSES, DrawnShape, coverage, covers, make_picture

SHAPES = st.builds(
    DrawnShape,
    kind=st.sampled_from(CLASSES),
    x=st.floats(20, 60),
    y=st.floats(20, 60),
    radius_px=st.floats(4, 18),
    turn=st.floats(0, 6.3),
    aspect=st.floats(0.4, 1),
    contrast=st.just(50.0),
)


def exact_area(shape: DrawnShape) -> float:
    r = shape.radius_px
    half = r / np.hypot(1, shape.aspect)
    return {"circle": np.pi * r * r, "rectangle": 4 * half * half * shape.aspect, "triangle": 3**1.5 / 4 * r * r}[
        shape.kind
    ]


@given(SHAPES)
def test_areas_are_those_of_the_formulas(shape: DrawnShape) -> None:
    share = coverage(shape, 80, 80)
    perimeter = 2 * np.pi * shape.radius_px
    assert abs(share.sum() - exact_area(shape)) < 0.1 * perimeter
    x, y = np.arange(80)[None] + 0.5, np.arange(80)[:, None] + 0.5
    truth = covers(shape, x, y)
    assert abs(np.count_nonzero(truth) - exact_area(shape)) < 0.5 * perimeter
    assert truth[share == 1].all() and not truth[share == 0].any()


@given(SHAPES)
def test_no_shape_reaches_beyond_its_radius(shape: DrawnShape) -> None:
    x, y = np.arange(80)[None] + 0.5, np.arange(80)[:, None] + 0.5
    assert (np.hypot(x - shape.x, y - shape.y)[covers(shape, x, y)] <= shape.radius_px + 1e-9).all()


def test_a_whole_set_is_written_and_sound(tmp_path: Path) -> None:
    said = CliRunner().invoke(
        app,
        [
            "shapes",
            "--out",
            str(tmp_path / "d"),
            "--pictures",
            "30",
            "--seed",
            "7",
            "--size",
            "120x90",
            "--colour",
        ],
    )
    assert said.exit_code == 0, said.output
    assert [f for f in check(tmp_path / "d", "split.json")[1] if f.level == "error"] == []
    data = open_data_set(tmp_path / "d")
    assert data.classes == CLASSES
    samples = [s for split in ("train", "dev", "test") for s in load(data, split, 3)]
    assert len(samples) == 30 and samples[0].image.shape == (90, 120, 3)
    assert sum(not s.mask.any() for s in samples) == 6
    labels = json.loads((tmp_path / "d/labels.json").read_text())
    assert all(set(labels[s.name]) == {CLASSES[k - 1] for k in np.unique(s.mask) if k} for s in samples)


def test_the_seed_decides_everything() -> None:
    a, b = make_picture(1, 2, (96, 80), False), make_picture(1, 2, (96, 80), False)
    assert all((p == q).all() for p, q in zip(a, b, strict=True))
    assert (make_picture(2, 2, (96, 80), False)[0] != a[0]).any()
    assert a[0].shape == (80, 96, 1) and a[1].shape == (80, 96)


def test_shapes_can_be_seen() -> None:
    """Most shapes differ from their surroundings; else there would be nothing to learn."""
    visible = []
    for n in range(20):
        image, mask = make_picture(0, n, (128, 128), False)
        inside = (mask > 0).astype(np.uint8)
        around = cv2.dilate(inside, np.ones((9, 9), np.uint8)) - inside
        if inside.any():
            visible.append(abs(float(image[..., 0][inside > 0].mean()) - float(image[..., 0][around > 0].mean())))
    assert np.median(visible) > 15


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pictures", "5"], "at least 12 pictures"),
        (["--size", "30x30"], "of at least 64 x 64 px"),
        (["--size", "30"], "want width x height"),
    ],
)
def test_what_cannot_be_made(tmp_path: Path, words: list[str], said: str) -> None:
    shown = CliRunner().invoke(app, ["shapes", "--out", str(tmp_path / "d"), *words])
    assert shown.exit_code == 1 and said in shown.output
    assert not (tmp_path / "d").exists()

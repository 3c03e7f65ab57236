import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import DataSet, open_data_set
from inspectd_train.measure.evaluate import evaluate
from tests.bundles import write_bundle
from tests.tools.greys import Spot, write_greys

TEST: dict[str, list[Spot]] = {
    "clean_0.png": [],
    "clean_120.png": [(8, 8, 16, 120, 0)],  # above `suspect` (102), below `reject` (153)
    "clean_200.png": [(8, 8, 16, 200, 0)],
    "bad_255.png": [(40, 20, 16, 255, 1)],
    "bad_50.png": [(40, 20, 16, 50, 1)],
    "bad_120.png": [(40, 20, 16, 120, 1)],
}


def data_of(folder: Path, test: dict[str, list[Spot]], size: tuple[int, int] = (64, 96)) -> DataSet:
    other = {"other.png": [(8, 8, 16, 255, 1)]}
    return open_data_set(write_greys(folder, {"train": other, "dev": other, "test": test}, size=size))


def test_every_figure_is_the_one_worked_out_by_hand(tmp_path: Path) -> None:
    found = evaluate(write_bundle(tmp_path / "b", 1), data_of(tmp_path / "d", TEST), "test", None, 1)
    rates = found["escape_rate"], found["overkill_rate"], found["undecided_rate"]
    assert rates == pytest.approx((1 / 3, 2 / 3, 2 / 6))
    assert found["part_auroc"] == pytest.approx(5.5 / 9)
    assert found["escape_at_overkill"] == pytest.approx({"0.01": 2 / 3, "0.05": 2 / 3})
    assert (found["defect_recall"], found["false_regions_per_picture"]) == pytest.approx((2 / 3, 2 / 6))
    # at 128 a square of 16 px loses its 4 corners; of 200 it grows by one pixel at the sides, not at the ends
    matrix = found["confusion"]["pixels"]
    assert matrix[1] == [4 + 256 + 256, 252]
    called = matrix[0][1]
    assert found["miou"] == pytest.approx(252 / (768 + called))
    background = 6 * 64 * 96 - 768
    assert found["miou_bg"] == pytest.approx((found["miou"] + (background - called) / (background + 516)) / 2)
    assert found["per_class"]["spot"]["f1"] == pytest.approx(2 * 252 / (2 * 252 + 516 + called))
    # on the grid nothing is blurred: 16 cells each, true 48, found right 16, false 16
    assert found["coarse"]["miou"] == pytest.approx(16 / 64)
    assert found["per_class"]["spot"]["coarse_iou"] == pytest.approx(16 / 64)
    hits: dict[int, float] = {255: 16 / 16, 120: 32 / 64, 50: 48 / 80}
    ap = (hits[255] + hits[120] + hits[50]) / 3
    assert found["per_class"]["spot"]["coarse_ap"] == pytest.approx(ap)
    behind = {cell: [row["name"] for row in rows] for cell, rows in found["confusion"]["pictures"].items()}
    assert behind == {
        "background > spot": ["clean_200.png"],
        "spot > background": ["bad_50.png", "bad_120.png", "bad_255.png"],
    }
    verdicts = {v["name"]: v["verdict"] for v in found["verdicts"]}
    assert verdicts == {
        "clean_0.png": "PASS",
        "clean_120.png": "UNKNOWN",
        "clean_200.png": "FAIL",
        "bad_255.png": "FAIL",
        "bad_50.png": "PASS",
        "bad_120.png": "UNKNOWN",
    }
    assert (found["golden_difference"], found["split"], found["pictures"]) == (0, "test", 6)
    keys = {
        "miou",
        "miou_bg",
        "pixel_ap",
        "part_auroc",
        "escape_rate",
        "overkill_rate",
        "undecided_rate",
        "per_class",
    }
    assert keys <= found.keys()
    json.dumps(found, allow_nan=False)


def test_evaluating_writes_nothing(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", 1)
    before = {file: file.stat().st_mtime_ns for file in bundle.rglob("*")}
    evaluate(bundle, data_of(tmp_path / "d", TEST), "dev", None, 1)
    assert {file: file.stat().st_mtime_ns for file in bundle.rglob("*")} == before


def test_regions_beyond_the_most_are_said(tmp_path: Path) -> None:
    crowded = {"a.png": [(16 * n, 8, 8, 255, 0) for n in range(6)]}
    bundle = write_bundle(tmp_path / "b", 1)
    few = tmp_path / "recipe.toml"
    few.write_text((bundle / "recipe.toml").read_text().replace("[limits", "max_regions = 3\n[limits", 1))
    figures = evaluate(bundle, data_of(tmp_path / "d", crowded), "test", None, 1, few)
    assert "1 pictures had more than 3 regions: false ones beyond don't count" in figures["notes"]


def test_without_clean_parts_overkill_is_null_and_said(tmp_path: Path) -> None:
    bad = {name: spots for name, spots in TEST.items() if name.startswith("bad")}
    found = evaluate(write_bundle(tmp_path / "b", 1), data_of(tmp_path / "d", bad), "test", None, 1)
    assert found["overkill_rate"] is None
    assert found["part_auroc"] is None
    assert found["escape_at_overkill"] == {"0.01": None, "0.05": None}
    assert any("--part" in note for note in found["notes"])


def test_without_any_defect_figures_are_null_and_said(tmp_path: Path) -> None:
    clean = {name: spots for name, spots in TEST.items() if name.startswith("clean")}
    found = evaluate(write_bundle(tmp_path / "b", 1), data_of(tmp_path / "d", clean), "test", None, 1)
    for key in ("escape_rate", "part_auroc", "part_ap", "pixel_ap", "miou", "defect_recall"):
        assert found[key] is None, key
    assert any("no picture of the split shows spot" in note for note in found["notes"])


def test_crops_are_parts_and_pictures_stay_pictures(tmp_path: Path) -> None:
    wide = {"wide.png": [(100, 80, 16, 255, 1)]}
    data = data_of(tmp_path / "d", wide, size=(200, 400))
    found = evaluate(write_bundle(tmp_path / "b", 1), data, "test", (96, 80), 1)
    assert found["parts"]["clean"] > 0
    assert found["parts"]["defective"] > 0
    assert (found["escape_rate"], found["overkill_rate"], found["part_auroc"]) == (0.0, 0.0, 1.0)
    assert (found["pictures"], found["defects"]["defects"], found["defects"]["found"]) == (1, 1, 1)
    assert all("wide.png@" in v["name"] for v in found["verdicts"])


def test_mask_levels_of_the_manifest_are_used(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", 1)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"mask_levels": [25]}))
    found = evaluate(bundle, data_of(tmp_path / "d", {"a.png": TEST["bad_50.png"]}), "test", None, 1)
    assert found["mask_levels"] == {"spot": 25}
    assert found["miou"] == pytest.approx(252 / 256)


@pytest.mark.parametrize(
    ("split", "recipe", "sentence"),
    [("exam", None, "no split 'exam'"), ("test", Path("none.toml"), "none.toml: no such file")],
)
def test_mistakes_are_one_sentence(tmp_path: Path, split: str, recipe: Path | None, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        evaluate(write_bundle(tmp_path / "b", 1), data_of(tmp_path / "d", TEST), split, None, 1, recipe)


def test_a_recipe_of_another_product_is_one_sentence(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", 1)
    recipe = bundle / "other.toml"
    recipe.write_text((bundle / "recipe.toml").read_text().replace("limits.spot", "limits.crack"))
    with pytest.raises(UserError, match="names the class 'crack', which the model does not know"):
        evaluate(bundle, data_of(tmp_path / "d", TEST), "test", None, 1, recipe)


def test_demo_parts_of_the_bundle_are_judged_too(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", 1)
    data = data_of(tmp_path / "d", TEST)
    (data.folder / "images").rename(bundle / "parts")
    truth = {name: {"label": "clean" if name.startswith("clean") else "spot"} for name in TEST}
    (bundle / "parts/parts.json").write_text(json.dumps(truth))
    found = evaluate(bundle, data_of(tmp_path / "again", TEST), "test", None, 1)["demo"]
    assert (found["escapes"], found["overkill"], found["clean"], found["defective"]) == (1, 2, 3, 3)
    assert found["misjudged"] == {
        "clean_120.png": "overkill, UNKNOWN",
        "clean_200.png": "overkill, FAIL",
        "bad_50.png": "escape",
    }


def test_demo_parts_may_be_in_colour_but_not_damaged(tmp_path: Path) -> None:
    bundle, data = write_bundle(tmp_path / "b", 1), data_of(tmp_path / "d", {"clean_0.png": []})
    (bundle / "parts").mkdir()
    (bundle / "parts/parts.json").write_text('{"a.png": {"label": "clean"}}')
    cv2.imwrite(str(bundle / "parts/a.png"), np.full((64, 96, 3), 255, np.uint8))
    assert evaluate(bundle, data, "test", None, 1)["demo"]["overkill"] == 0
    (bundle / "parts/a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"parts/a\.png: is cut off.*cut the demo parts anew"):
        evaluate(bundle, data, "test", None, 1)
    (bundle / "parts/parts.json").write_text("[1]")
    with pytest.raises(UserError, match=r"parts\.json: not the truth of demo parts"):
        evaluate(bundle, data, "test", None, 1)


@pytest.mark.proof
@pytest.mark.skipif("INSPECTD_DATA" not in os.environ, reason="INSPECTD_DATA does not name the real data sets")
def test_shipped_report_is_what_evaluate_finds() -> None:
    bundle = Path(__file__).parents[2] / "models/ballscrew"
    reported = json.loads((bundle / "report.json").read_text())
    data = open_data_set(Path(os.environ["INSPECTD_DATA"]) / "bsdata", reported["split_file"])
    found = evaluate(bundle, data, "test", reported["part_px"] and tuple(reported["part_px"]), 1)
    for key in ("escapes", "overkill", "clean", "defective"):
        assert abs(found["parts"][key] - reported["parts"][key]) <= 1, key  # another CPU rounds otherwise
    assert found["pixel_ap"] == pytest.approx(reported["pixel_ap"], abs=0.002)

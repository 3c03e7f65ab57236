import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from inspectd.engine.bundle import load_bundle
from inspectd.engine.openvino import open_segmenter
from inspectd.runtime.errors import UserError
from inspectd_train.bundle.export import write_bundle
from inspectd_train.bundle.parity import gate, measure_parity
from inspectd_train.data.dataset import Sample
from tests.makers import disk_for
from tests.shared import once
from tests.tools.nets import sample, trained_looking

EQUAL = {
    "verdicts_equal": 1.0,
    "part_auroc": 0.99,
    "miou": 0.8,
    "golden_difference": 9,
    "golden_verdicts_equal": True,
}


def parts(count: int = 6) -> list[Sample]:
    """Half of them with a spot, in two sizes."""
    sizes = [(64, 80), (72, 64)]
    return [sample(f"{n}.png", sizes[n // 2 % 2], 1, [(20, 20, 1)] if n % 2 else [], seed=n) for n in range(count)]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(
        tmp_path_factory,
        "parity",
        lambda folder: write_bundle(trained_looking(1), ("spot",), parts(), parts(), folder / "b", {}),
    )


def made(exported: Path, folder: Path, recipe: str = "suspect = 0.4\nreject = 0.6\n") -> Path:
    shutil.copytree(exported / "b", folder)
    (folder / "recipe.toml").write_text(f'model = "."\ndeadline_ms = 250\n[limits.spot]\n{recipe}')
    return folder


def test_parity_of_every_graph_is_measured_and_recorded(exported: Path, tmp_path: Path) -> None:
    folder = made(exported, tmp_path / "b")
    result = measure_parity(folder, trained_looking(1), parts())
    names = set(result["graphs"])
    assert {
        "ONNX Runtime fp32",
        "ONNX Runtime fp16",
        "ONNX Runtime int8",
        "OpenVINO f32",
        "OpenVINO int8",
    } <= names
    exact = result["graphs"]["ONNX Runtime fp16"]
    assert exact["score_difference_max"] <= 2
    assert exact["cells_equal"] > 0.97
    for figures in result["graphs"].values():
        assert figures["score_difference_p999"] <= figures["score_difference_max"]
        assert len(figures["changed"]) == round((1 - figures["verdicts_equal"]) * 6)
        assert 0 <= figures["pass_changed"] <= len(figures["changed"])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["int8"] == result["int8"]
    assert manifest["parity"]["graphs"] == result["graphs"]
    assert load_bundle(folder).int8_usable == result["int8"]["usable"]


def test_verdicts_that_no_rounding_can_move_let_int8_be_used(exported: Path, tmp_path: Path) -> None:
    """Every part fails by far: the gate passes if the golden scores agree, and the daemon's engine takes INT8."""
    folder = made(exported, tmp_path / "b", "suspect = 0.004\nreject = 0.004\n")
    result = measure_parity(folder, trained_looking(1), parts())
    assert {figures["verdicts_equal"] for figures in result["graphs"].values()} == {1.0}
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["int8"] |= {"usable": True, "max_score_difference": 16}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    segmenter = open_segmenter(load_bundle(folder), 1)
    golden = result["graphs"]["OpenVINO int8"]["golden_difference"]
    assert segmenter.precision == ("int8" if golden <= 16 else "")


def test_figures_without_clean_parts_are_undefined_and_do_not_close_the_gate(
    exported: Path, tmp_path: Path
) -> None:
    folder = made(exported, tmp_path / "b", "suspect = 0.004\nreject = 0.004\n")
    bad = [part for part in parts() if part.mask.any()]
    result = measure_parity(folder, trained_looking(1), bad)
    assert result["reference"]["part_auroc"] is None
    assert "AUROC" not in result["int8"]["reason"]


def test_a_class_that_no_part_shows_is_in_no_mean(exported: Path, tmp_path: Path) -> None:
    folder = made(exported, tmp_path / "b")
    result = measure_parity(folder, trained_looking(1), [part for part in parts() if not part.mask.any()])
    assert {figures["miou"] for figures in (result["reference"], *result["graphs"].values())} == {None}


def test_the_gate_opens_only_if_all_is_equal_enough() -> None:
    assert gate(EQUAL, [EQUAL, EQUAL]) == {
        "usable": True,
        "max_score_difference": 11,
        "verdicts_equal": 1.0,
        "verdicts_bound": 0.995,
        "reason": "",
    }
    assert gate(EQUAL | {"part_auroc": None, "miou": None}, [EQUAL | {"part_auroc": None, "miou": None}])["usable"]
    assert gate(EQUAL, [EQUAL | {"golden_difference": 15}])["max_score_difference"] == 16


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verdicts_equal": 0.99}, "only 99.00% of the dev verdicts are equal, 99.5% wanted"),
        ({"part_auroc": 0.98}, "part AUROC falls by 0.0100, 0.005 allowed"),
        ({"miou": 0.79}, "mIoU falls by 0.0100, 0.005 allowed"),
        ({"golden_difference": 17}, "golden scores differ by 17/255, 16/255 allowed"),
        ({"golden_verdicts_equal": False}, "a golden image's verdict differs"),
    ],
)
def test_one_runtime_that_differs_closes_the_gate(change: dict[str, Any], reason: str) -> None:
    found = gate(EQUAL, [EQUAL, EQUAL | change])
    assert not found["usable"]
    assert found["reason"] == reason
    assert found["max_score_difference"] <= 16


def test_an_old_bundle_has_no_int8() -> None:
    assert gate(EQUAL, [])["reason"] == "the bundle has no int8 graph"


def test_mistakes_are_one_sentence(exported: Path, tmp_path: Path) -> None:
    folder = made(exported, tmp_path / "b")
    with pytest.raises(UserError, match="parity is measured on parts of the dev split; there is none"):
        measure_parity(folder, trained_looking(1), [])
    before = (folder / "manifest.json").read_bytes()
    with disk_for(100), pytest.raises(UserError, match="can't be written"):
        measure_parity(folder, trained_looking(1), parts(2))
    assert (folder / "manifest.json").read_bytes() == before
    (folder / "recipe.toml").unlink()
    with pytest.raises(UserError, match=r"recipe\.toml"):
        measure_parity(folder, trained_looking(1), parts())

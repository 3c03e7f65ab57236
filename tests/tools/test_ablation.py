"""The ablation as docs/accuracy.md shows it, with fewer minutes; and its figures by width on made-up scores."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from inspectd_train.data.dataset import Sample
from inspectd_train.peers import ablation
from inspectd_train.peers.ablation import VARIANTS, by_width, table
from inspectd_train.train.run import RunSettings
from tests.tools.synthetic import write_data_set


def test_every_variant_changes_a_setting() -> None:
    usual = vars(RunSettings())
    for name, changes in VARIANTS.items():
        assert set(changes) <= set(usual), name
        assert all(usual[key] != value for key, value in changes.items()), name


def run(*words: object) -> str:
    app = typer.Typer()
    app.command()(ablation.main)
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_variants_are_trained_once_and_tabled(tmp_path: Path) -> None:
    data, out = write_data_set(tmp_path / "data", height=128, width=192), tmp_path / "out"
    words = [data, "--out", out]
    only = ["--only", "recipe", "--only", "stride 8 (net xs)"]
    first = run(*words, "--minutes", 0.03, *only)
    figures = json.loads((out / "figures.0.json").read_text())
    assert list(figures) == ["recipe", "stride 8 (net xs)"]
    assert first.strip().endswith(table(out))
    assert table(out).count("\n") == 3
    again = run(*words, "--minutes", 0.03, *only)
    assert again.strip() == table(out), "what is there is not trained again"
    run(*words, "--epochs", 1, "--only", "stride 8 (net xs)")
    figures = json.loads((out / "figures.0.json").read_text())
    assert figures["stride 8 (net xs)"]["steps"] == 50, "as long as asked for now"


def test_it_is_run_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As the page says; in this process, as PyTorch takes seconds to load."""
    monkeypatch.delitem(sys.modules, ablation.__name__)
    monkeypatch.setattr(sys, "argv", ["ablation", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(ablation.__name__, run_name="__main__")
    assert not ended.value.code
    assert "Train every variant once" in capsys.readouterr().out


def test_recall_and_area_error_by_width() -> None:
    mask = np.zeros((100, 200), np.uint8)
    mask[20:24, 20:80] = 1
    mask[60:70, 20:80] = 1
    scores = np.zeros((1, 100, 200), np.uint8)
    scores[0, 20:24, 20:80] = 255
    scores[0, 60:70, 20:80] = 100
    part = Sample("a", np.zeros((100, 200, 1), np.uint8), mask)
    found = by_width([part], [scores], [128])
    assert found["<= 6 px"] == {"defects": 1, "recall": 1.0, "area_error": pytest.approx(0.0)}
    assert (found["<= 12 px"]["recall"], found["<= 12 px"]["defects"]) == (0.0, 1)


def test_a_line_of_three_pixels_is_three_wide() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[20:23, 4:60] = 1
    found = by_width([Sample("a", np.zeros((64, 64, 1), np.uint8), mask)], [255 * mask[None]], [128])
    assert list(found) == ["<= 3 px"]

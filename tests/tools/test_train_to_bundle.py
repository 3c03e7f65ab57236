"""The whole way on made-up pictures, through the command line: parts, train, export, evaluate, load."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inspectd.config import load_recipe
from inspectd.engine.bundle import load_bundle
from tests.tools.synthetic import write_data_set
from tools.cli import app


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def test_data_set_becomes_a_bundle(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", height=480, width=1100)
    bundle = tmp_path / "pits"
    run("parts", data, bundle / "parts")
    run("train", data, "--out", tmp_path / "run", "--minutes", "0.1", "--threads", "1")
    run("export", tmp_path / "run", data, bundle)
    run("evaluate", bundle, data)
    assert load_bundle(bundle).manifest.classes == ["pitting"]
    limits = load_recipe(bundle / "recipe.toml").recipe.limits["pitting"]
    assert limits.suspect <= limits.reject
    figures = json.loads((bundle / "report.json").read_text())
    assert figures["demo"]["clean"] + figures["demo"]["defective"] == len(list((bundle / "parts").glob("*.jpg")))
    assert "## Caveats" in (bundle / "report.md").read_text()


@pytest.mark.parametrize(
    "words", [("train", "{}", "--out", "{}/run", "--minutes", "1"), ("parts", "{}", "{}/out")]
)
def test_mistake_ends_in_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [word.format(tmp_path) for word in words])
    assert result.exit_code != 0
    assert "classes.json: no such file" in result.output.replace("\n", "")
    assert "Traceback" not in result.output

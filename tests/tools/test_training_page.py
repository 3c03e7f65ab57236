"""The commands of docs/training.md, as they stand there, one after the other; only the minutes are fewer."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inspectd_train.cli.main import app
from tests.tools.synthetic import write_data_set

PAGE = Path(__file__).parents[2] / "docs/training.md"
SMALL = "--net xs --batch 4 --crop 96 --threads 1"


def test_every_command_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_data_set(Path("data"), height=390, width=560)
    Path("data/split.json").unlink()  # the page makes one
    write_data_set(Path("new"), height=130, width=160, seed=5)
    shutil.rmtree("new/masks")
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 13
    for command in commands:
        short = re.sub(r"--minutes \d+", f"--epochs 3 {SMALL}", command).replace("--pictures 200", "--pictures 12")
        program, *words = shlex.split(short)
        if words[0] == "compare":
            shutil.copytree("models/mine", "models/old")
        said = CliRunner().invoke(app, words)
        assert program == "inspectd-train"
        assert said.exit_code == 0, (command, said.output)
        if words[0] == "evaluate":
            assert (Path(words[1]) / "report.html").stat().st_size > 0
    for file in (
        "sheet.png",
        "models/mine/recipe.toml",
        "changes.html",
        "models/shapes/model.onnx",
    ):
        assert Path(file).stat().st_size > 0

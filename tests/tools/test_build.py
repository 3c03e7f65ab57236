"""`inspectd-train build`: real plans by TensorRT-RTX, without a GPU."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inspectd.engine.bundle import load_bundle
from inspectd.engine.tensorrt.plans import PlanKey, read_plan
from inspectd.runtime.slots import Shape
from inspectd_train.cli.main import app
from tests.bundles import add_int8, write_bundle

rtx = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX, which `make venv` installs on x86-64")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return add_int8(write_bundle(tmp_path / "toy"))


def build(bundle: Path, *options: str) -> tuple[int, str]:
    said = CliRunner().invoke(app, ["build", str(bundle), *options])
    return said.exit_code, said.output


def test_a_plan_for_every_target_size_and_precision(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "plans"
    said = ""
    for target, sizes in (("sm86, sm120", ["96x64"]), ("sm86", ["96x64", "70x66"])):
        options = ["--target", target, "--out", str(out), "--json"]
        code, told = build(bundle, *options, *(word for size in sizes for word in ("--size", size)))
        assert code == 0, told
        said += told
    rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    wanted = {("sm86", "96x64"), ("sm120", "96x64"), ("sm86", "70x66")}
    assert {(r["target"], r["size"], r["precision"]) for r in rows} == {
        (*one, precision) for one in wanted for precision in ("fp32", "int8")
    }
    loaded = load_bundle(bundle)
    for row in rows:
        width, height = map(int, row["size"].split("x"))
        shape = Shape(height, width, 3)
        key = PlanKey.of("TensorRT-RTX", rtx.__version__, loaded, row["precision"], shape, row["target"])
        assert read_plan(out / row["file"], key).scores.shape == (1, -(-height // 4), -(-width // 4))
        assert row["difference"] is None  # no such GPU is here to prove it


def test_without_a_size_plans_fit_the_golden_images(bundle: Path, tmp_path: Path) -> None:
    code, said = build(bundle, "--target", "sm89", "--out", str(tmp_path / "plans"))
    assert code == 0 and "96x64" in said and "not proven" in said


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--target", "sm86,sm90"], 1, r"--target sm90: TensorRT-RTX \S+ builds for sm75, .*sm121, this"),
        (["--target", ""], 1, r"--target \(nothing\): TensorRT-RTX"),
        (["--target", "sm86", "--size", "96"], 1, "--size 96: want WIDTHxHEIGHT in px, as 512x384"),
        (["--target", "sm86", "--size", "96x8"], 1, "64 x 64 px is the least"),
        (["--target", "sm86", "--timeout-s", "1e-3"], 2, "timeout"),
        (["--target", "sm86", "--out", "/sys/kernel"], 69, "/sys/kernel: "),
    ],
)
def test_what_can_not_be_built_is_one_sentence(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found, said = build(bundle, *options)
    assert found == code and re.search(reason, said.replace("\n", " ")), said
    assert "Traceback" not in said


def test_the_command_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    page = (ROOT / "docs/gpu.md").read_text("utf-8")
    (command,) = re.findall(r"^inspectd-train (.*)$", page, re.MULTILINE)
    said = CliRunner().invoke(app, shlex.split(command))
    assert said.exit_code == 0, said.output
    assert len(list(Path("plans").glob("*.plan"))) == 2

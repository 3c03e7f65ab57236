"""The networks of others: shapes, training in the common harness, figures side by side, speed."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
import typer
from typer.testing import CliRunner

from inspectd.runtime.errors import UserError
from inspectd_train.bundle.quantise import int8_graph
from inspectd_train.data.dataset import open_data_set
from inspectd_train.net.csnet import normalise
from inspectd_train.peers import accuracy, fit, speed
from inspectd_train.peers.graphs import graphs, random_picture, settled
from inspectd_train.peers.lraspp import version
from inspectd_train.peers.nets import NAMES, Name, build, name_of, trained
from inspectd_train.train import clock
from inspectd_train.train.run import RunSettings
from inspectd_train.train.state import BEST, RECORD
from tests.shared import once
from tests.tools.synthetic import write_data_set

needs_torchvision = pytest.mark.skipif(
    version() is None, reason="torchvision isn't installed (pip install 'inspectd[peers]')"
)
ALL = [pytest.param(name, marks=needs_torchvision if name == "lraspp" else ()) for name in NAMES]
TIMED: tuple[Name, ...] = ("csnet-s", "unet16", *(("lraspp",) if version() else ()))


def run(command: Callable[..., None], *words: object, code: int = 0) -> str:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (130, 71)])
@pytest.mark.parametrize("name", ALL)
def test_any_size_gives_cells_of_its_own_stride(name: Name, size: tuple[int, int]) -> None:
    net = build(name, 1, 2).eval()
    with torch.no_grad():
        logits = net(torch.zeros(1, 1, *size))
    assert logits.shape == (1, 3, -(-size[0] // net.stride), -(-size[1] // net.stride))


def test_unet_is_the_one_of_the_study() -> None:
    assert sum(p.numel() for p in build("unet16", 1, 1).parameters()) == 1_942_306


def test_unet_sees_what_lies_beside_a_pixel_and_below() -> None:
    net = settled(build("unet16", 1, 1))
    image = normalise(torch.from_numpy(random_picture(256, 1, 0)).permute(2, 0, 1)[None].float())
    changed = image.clone()
    changed[:, :, 64, 32] += 3
    with torch.no_grad():
        moved = (net(changed) - net(image)).abs().amax((0, 1)) > 0
    assert moved[64, 32] and moved[64, 72] and not moved[64, 200]


@needs_torchvision
def test_lraspp_takes_colour_too() -> None:
    net = build("lraspp", 3, 1).eval()
    assert net(torch.zeros(1, 3, 64, 80)).shape == (1, 2, 8, 10)


def test_without_torchvision_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models.segmentation", None)
    with pytest.raises(UserError, match=r"inspectd\[peers\]"):
        build("lraspp", 1, 1)


def test_int8_graph_has_the_nodes_of_the_deployed_one() -> None:
    made = graphs(settled(build("csnet-xs", 1, 1)))
    deployed = int8_graph(made["fp32"], [random_picture(96, 1, 0)])
    kinds = [sorted(n.op_type for n in onnx.load_from_string(g).graph.node) for g in (made["int8"], deployed)]
    assert kinds[0] == kinds[1]
    assert "QuantizeLinear" in kinds[0]


def test_speed_in_one_table() -> None:
    words = [word for name in TIMED for word in ("--nets", name)]
    made = json.loads(run(speed.main, *words, "--sizes", 128, "--threads", 1, "--rounds", 1, "--json"))
    rows = made["rows"]
    assert {row["net"] for row in rows} == set(TIMED)
    assert {"f32", "int8"} <= {row["precision"] for row in rows}
    assert all(row["ms_per_mpixel"] > 0 and row["times"] == speed.REPEATS for row in rows)
    assert all(row["ratio_to_s"] == 1 for row in rows if row["net"] == "csnet-s")
    text = speed.table(rows, made["machine"])
    assert text.count("\n| ") == len(TIMED) + 1
    assert "openvino 20" in text and "threads 1" in text


def test_unknown_net_ends_in_one_sentence() -> None:
    assert "no such network; known are csnet-xs" in run(speed.main, "--nets", "unet99", code=1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a data set, and a U-Net and a CSNet that learned from it for three seconds of 0.1 s a step."""

    def train(place: Path) -> None:
        data = open_data_set(write_data_set(place / "data", height=150, width=220))
        for name in ("unet16", "csnet-s"):
            settings, looks = RunSettings(minutes=0.05, batch=2, crop_px=64), itertools.count()
            with pytest.MonkeyPatch.context() as patched:  # on a busy machine the first step took all the time
                patched.setattr(clock, "time", SimpleNamespace(monotonic=lambda looks=looks: next(looks) / 10))
                fit.fit(data, name, place / name, settings, threads=1, resume=False)

    return once(tmp_path_factory, "peers", train)


def test_training_leaves_weights_and_says_of_what(folder: Path) -> None:
    assert name_of(folder / "unet16") == ("unet16", 1)
    assert trained(folder / "unet16", 1).stride == 1
    record = json.loads((folder / "unet16" / RECORD).read_text())
    assert record["checks"][-1]["step"] > 1


def test_same_figures_for_all(folder: Path) -> None:
    words = [folder / name for name in ("unet16", "csnet-s")]
    rows = json.loads(run(accuracy.main, *words, "--data", folder / "data", "--threads", 1, "--json"))
    assert [row["net"] for row in rows] == ["unet16", "csnet-s"]
    assert all(0 < row["pixel_ap"] <= 1 and row["defective_parts"] == 3 for row in rows)
    assert all(row["part_auroc"] is None for row in rows)  # no clean picture in the test split
    text = accuracy.table(rows)
    assert "| U-Net(16) | 0 | 1 | 0.05 |" in text and "escape at 1% overkill" in text


def test_a_folder_with_a_run_is_not_trained_over(folder: Path) -> None:
    data, settings = open_data_set(folder / "data"), RunSettings(minutes=0.05, batch=2, crop_px=64)
    with pytest.raises(UserError, match="holds a run already"):
        fit.fit(data, "unet16", folder / "unet16", settings, threads=1, resume=False)
    with pytest.raises(UserError, match="another --net"):
        fit.fit(data, "csnet-s", folder / "unet16", settings, threads=1, resume=True)
    with pytest.raises(UserError, match="nothing to resume"):
        fit.fit(data, "unet16", folder / "new", settings, threads=1, resume=True)
    fit.fit(data, "unet16", folder / "unet16", settings, threads=1, resume=True)  # done already: stays as it is


def test_figures_refuse_another_split(folder: Path, tmp_path: Path) -> None:
    other = write_data_set(tmp_path / "other", height=150, width=220, seed=1)
    with pytest.raises(UserError, match="other data"):
        accuracy.figures_of(folder / "unet16", open_data_set(other), "test")
    with pytest.raises(UserError, match=BEST):
        accuracy.figures_of(folder / "data", open_data_set(other), "test")

"""Training itself, through the command line where a user would use it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import Sample, open_data_set
from inspectd_train.net.csnet import CSNet
from inspectd_train.train import train as training
from inspectd_train.train.fabric import open_fabric
from inspectd_train.train.run import RunSettings, open_run, usual_crop_px
from inspectd_train.train.state import BEST, RECORD, STATE, RunProgress, load_state, save_state
from inspectd_train.train.train import _set_rate, train
from tests.tools import train_once
from tests.tools.synthetic import write_data_set

SMALL = {"batch": 2, "crop_px": 64, "channels": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("train") / "data", height=128, width=192)


def trained(folder: Path, out: Path, resume: bool = False, stop_after: int = 0, **settings: object) -> None:
    out.mkdir(exist_ok=True)
    own = RunSettings(**SMALL | settings)  # type: ignore[arg-type]
    run = open_run(open_data_set(folder), out, own, open_fabric(1))
    torch.manual_seed(own.seed)

    def tell(progress: RunProgress, share: float) -> None:
        if stop_after and progress.step == stop_after:
            raise KeyboardInterrupt

    train(run, CSNet(1, 1), 4, resume, tell)


def test_a_run_leaves_weights_record_and_state(folder: Path, tmp_path: Path) -> None:
    trained(folder, tmp_path, epochs=1)
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["checks"][-1]["step"] == 50
    assert len(record["checks"]) == 8
    assert record["classes"] == ["pitting"]
    assert {"score", "cell_miou", "cell_ap", "part_ap", "loss"} <= set(record["checks"][0])
    assert (tmp_path / BEST).is_file()
    assert (tmp_path / STATE).is_file()
    assert not list(tmp_path.glob("*.part"))


def test_minutes_end_a_run(folder: Path, tmp_path: Path) -> None:
    start_s = time.monotonic()
    trained(folder, tmp_path, minutes=0.03)
    assert time.monotonic() - start_s < 30
    last = json.loads((tmp_path / RECORD).read_text())["checks"][-1]
    assert last["minutes"] >= 0.03 * 7 / 8  # a check may last beyond the end


def test_same_seed_same_weights_and_another_seed_others(folder: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        trained(folder, tmp_path / name, epochs=1, seed=seed, deterministic=True)
    a, b, c = (load_file(tmp_path / name / STATE) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_state_of_other_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    trained(folder, tmp_path, epochs=1)
    with pytest.raises(UserError, match="is of a run with other data or settings"):
        trained(folder, tmp_path, resume=True, epochs=1, seed=5)


def test_damaged_state_is_refused(folder: Path, tmp_path: Path) -> None:
    trained(folder, tmp_path, epochs=1)
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:1000])
    with pytest.raises(UserError, match=r"state\.safetensors: can't be read"):
        trained(folder, tmp_path, resume=True, epochs=1)


def check_killed_and_resumed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: tuple[int, ...]
) -> None:
    """The process is killed by SIGKILL at these steps, wherever it is; state is saved at each check only."""
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.3)
    train_once.main(str(folder), str(tmp_path / "whole"), "new")
    words = [sys.executable, "-m", "tests.tools.train_once", str(folder)]
    start = "new"
    for steps in kills:
        with subprocess.Popen(
            [*words, str(tmp_path / "killed"), start], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= steps:
                    os.kill(process.pid, signal.SIGKILL)
                    break
        start = "resume"
    train_once.main(str(folder), str(tmp_path / "killed"), "resume")
    for file in (BEST, STATE):
        whole, killed = (load_file(tmp_path / name / file) for name in ("whole", "killed"))
        assert whole.keys() == killed.keys()
        assert all(torch.equal(whole[key], killed[key]) for key in whole), file


def test_killed_and_resumed_gives_bit_equal_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_killed_and_resumed(folder, tmp_path, monkeypatch, (33,))


@pytest.mark.proof
@pytest.mark.timeout(300)
def test_killed_twice_and_resumed_gives_bit_equal_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_killed_and_resumed(folder, tmp_path, monkeypatch, (14, 33))


def test_loss_that_is_no_number_stops_and_keeps_the_best(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"the loss is nan.*there are none yet"):
        trained(folder, tmp_path, epochs=1, learning_rate=1e30)
    with pytest.raises(KeyboardInterrupt):
        trained(folder, tmp_path / "later", epochs=1, stop_after=20)
    best = (tmp_path / "later" / BEST).read_bytes()
    with (
        monkeypatch.context() as patched,
        pytest.raises(UserError, match=r"nan.*best weights so far are kept"),
    ):
        patched.setattr("inspectd_train.train.train.loss_of", lambda logits, *_: logits.sum() * float("nan"))
        trained(folder, tmp_path / "later", resume=True, epochs=1)
    assert (tmp_path / "later" / BEST).read_bytes() == best


def test_out_of_memory_says_which_batch_to_try(folder: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.tools.train_once", str(folder), str(tmp_path), "poor"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert "out of memory with a batch of 48 crops of 640 px; try --batch 24" in done.stderr


def test_patience_ends_a_run_that_gets_no_better(folder: Path, tmp_path: Path) -> None:
    trained(folder, tmp_path, epochs=2, learning_rate=0.0, ema=0.0, patience=2)
    record = json.loads((tmp_path / RECORD).read_text())
    assert len(record["checks"]) < 8


def test_the_rate_warms_up_and_falls_to_its_last() -> None:
    own, optimiser = RunSettings(epochs=1), torch.optim.SGD([torch.zeros(1)], 1.0)
    rates = []
    for share in (0.0, own.warm_up / 2, own.warm_up, 0.5, 1.0):
        _set_rate(optimiser, own, share)
        rates.append(optimiser.param_groups[0]["lr"] / own.learning_rate)
    assert rates == pytest.approx([0, 0.5, 1, (1 + own.last_rate) / 2, own.last_rate], abs=0.01)


def test_dev_without_a_defect_is_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "data")
    for name in json.loads((other / "split.json").read_text())["dev"]:
        mask = other / "masks" / f"{Path(name).stem}.png"
        cv2.imwrite(str(mask), np.zeros_like(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)))
    with pytest.raises(UserError, match=r"split.json: no dev part shows a defect"):
        trained(other, tmp_path / "out", epochs=1)


def test_class_without_a_training_picture_is_named(folder: Path, tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", height=128, width=192)
    (data / "classes.json").write_text('{"0": "background", "1": "pitting", "2": "stain"}')
    with pytest.raises(UserError, match=r"split\.json: no training picture shows the class stain"):
        trained(data, tmp_path / "out", epochs=1)


@pytest.mark.parametrize(
    ("sides_px", "crop_px"),
    [
        ([200] * 6, 192),
        ([110] + [200] * 5, 192),
        ([110] * 2 + [200] * 5, 96),
        ([3000], 256),
        ([64], 64),
    ],
)
def test_crops_fit_into_five_of_six_pictures(sides_px: list[int], crop_px: int) -> None:
    masks = [np.zeros((side, 400), np.uint8) for side in sides_px]
    assert usual_crop_px([Sample("a", mask[:, :, None], mask) for mask in masks]) == crop_px


def test_full_disk_keeps_the_old_state(tmp_path: Path) -> None:
    net, average = CSNet(1, 1), CSNet(1, 1)
    optimiser = torch.optim.AdamW(net.parameters())
    save_state(tmp_path, net, average, optimiser, RunProgress(step=4), "id")
    with pytest.raises(UserError, match="can't be written"):
        # a folder in the place of the file beside: the write fails as on a full disk
        (tmp_path / f"{STATE}.part").mkdir()
        save_state(tmp_path, net, average, optimiser, RunProgress(step=5), "id")
    assert load_state(tmp_path, net, average, optimiser, "id").step == 4


def test_net_learns_to_find_the_pits(folder: Path, tmp_path: Path) -> None:
    trained(folder, tmp_path, epochs=3, crop_px=96, batch=4)
    record = json.loads((tmp_path / RECORD).read_text())
    assert np.mean([check["cell_ap"] for check in record["checks"][-2:]]) > 0.8


def test_only_torchrun_makes_a_run_one_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "line"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert open_fabric(1).world_size == 1

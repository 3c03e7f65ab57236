"""The way of an engineer: fit, evaluate, calibrate, compare, predict, export, through the command line."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from inspectd.engine.bundle import load_bundle
from inspectd.settings.recipe import load_recipe
from inspectd_train.bundle.search import Wish
from inspectd_train.cli.fit import how_to_go_on
from inspectd_train.cli.main import app
from inspectd_train.data.dataset import grey_in_colour, open_data_set
from inspectd_train.train.state import RECORD, STATE
from tests.shared import once
from tests.tools.synthetic import write_data_set

PART = ("--part", "200x160")
SMALL = ("--threads", "1", "--batch", "4", "--crop", "96", *PART)
FIT = ("--net", "xs", *SMALL)
KEYS = {"miou", "miou_bg", "pixel_ap", "part_auroc", "escape_rate", "overkill_rate", "undecided_rate", "per_class"}


def say(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def run(*words: object) -> str:
    result = say(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*words: object) -> str:
    """The one sentence of a mistake."""
    result = say(*words)
    assert result.exit_code not in (0, None)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "fit_data", lambda folder: write_data_set(folder, height=400, width=620))


@pytest.fixture(scope="session")
def bundle(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def fit(folder: Path) -> None:
        run("parts", data, folder / "pits/parts")
        run("fit", data, "--out", folder / "pits", "--epochs", 3, "--seed", 1, *FIT)

    return once(tmp_path_factory, "fit", fit) / "pits"


def test_fit_makes_a_bundle_that_the_daemon_loads(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.manifest.classes == ["pitting"]
    assert (loaded.manifest.stride, loaded.manifest.channels) == (8, 3)
    assert set(loaded.graphs) == {"fp32", "fp16", "int8"}
    assert loaded.manifest.int8 is not None
    limits = load_recipe(bundle / "recipe.toml").recipe.limits["pitting"]
    assert limits.suspect <= limits.reject
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["trained"]["settings"]["seed"] == 1
    assert {"weights", "parity", "mask_levels"} <= set(manifest)
    curves = cv2.imread(str(bundle / "training/curves.png"))
    assert curves is not None
    assert curves.std() > 5
    assert list((bundle / "training/tensorboard").glob("events.*"))


def test_evaluate_prints_the_keys_that_scripts_rely_on(bundle: Path, data: Path) -> None:
    figures = json.loads(run("evaluate", bundle, data, "--split", "test", "--json", "--threads", 1))
    assert set(figures) >= KEYS
    assert set(figures["per_class"]) == {"pitting"}
    assert figures["part_px"] == [200, 160], "the parts it was trained for"
    assert figures["pixel_ap"] > 0.5, "square pits are easy"
    assert "<html" in (bundle / "report.html").read_text()
    said = run("evaluate", bundle, data, "--threads", 1)
    assert re.search(r"^ *defective parts that pass +\d+ of \d+ +[\d.]+ % +[\d.]+ to [\d.]+ %", said, re.MULTILINE)
    assert "mean IoU 0." in said and f"report: {bundle}/report.html" in said and "_rate" not in said


def test_a_bundle_is_measured_on_the_split_it_was_trained_with(bundle: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["trained"]["split"] = "split_lots.json"
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert "split_lots.json: no such file" in refused("evaluate", other, data)
    moved = shutil.copytree(data, tmp_path / "data")
    figures = json.loads(run("evaluate", bundle, moved, "--no-report", "--json", "--threads", 1))
    assert (figures["split_file"], figures["notes"]) == ("split.json", [])
    splits = json.loads((moved / "split.json").read_text())
    splits["test"], splits["train"] = splits["train"], splits["test"]
    (moved / "split.json").write_text(json.dumps(splits))
    for words in (("evaluate", bundle), ("compare", bundle, bundle)):
        said = run(*words, moved, "--threads", 1, *(["--no-report"] * (words[0] == "evaluate")))
        assert "not as it was when the bundle learned from it" in said
    assert "is not what" in refused("export", bundle, moved)
    (moved / "images" / splits["train"][0]).unlink()
    splits["test"] = splits["dev"]
    (moved / "split.json").write_text(json.dumps(splits))
    said = run("evaluate", bundle, moved, "--no-report", "--threads", 1)
    assert "not as it was" in said, "pictures that are not asked for may be missing"


def test_what_a_recipe_says_of_cameras_is_said_to_be_left_out(bundle: Path, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    text = (bundle / "recipe.toml").read_text().replace('model = "."', f'model = "{bundle}"')
    recipe.write_text(text.replace("[image]", "[image]\nmin_mean = 9.0") + "[camera.top]\nroi = [0, 0, 64, 64]\n")
    for words in (
        ("evaluate", bundle, data, "--no-report", "--recipe"),
        ("compare", bundle, bundle, data, "--recipe-b"),
    ):
        said = run(*words, recipe, "--threads", 1)
        assert "its settings per camera (roi, ignore, zones) and its limits of the picture are not applied" in said


def test_calibrate_for_another_wish(bundle: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "other")
    figures = json.loads(run("calibrate", other, data, "--escape", 0, "--json", "--threads", 1))
    assert figures["escapes"] == 0
    assert figures["int8"] == json.loads((other / "manifest.json").read_text())["int8"], (
        "proven under the new recipe"
    )
    assert "give one wish" in refused("calibrate", other, data)
    said = run("calibrate", other, data, "--overkill", 0.1, "--threads", 1)
    assert re.search(r"^pitting +suspect 0\.\d+, reject [01].*, min_area_px", said, re.MULTILINE)
    assert re.search(r"^int8 +(usable|not used: )", said, re.MULTILINE)


def test_a_recipe_without_proof_takes_int8_back(bundle: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "other")
    (other / "weights.safetensors").unlink()
    figures = json.loads(run("calibrate", other, data, "--overkill", 0.1, "--json", "--threads", 1))
    assert figures["int8"] is None
    int8 = load_bundle(other).manifest.int8
    assert int8 is not None
    assert (int8.usable, int8.reason) == (False, "the recipe was chosen anew, and INT8 not proven under it")


def test_compare_is_a_gate(bundle: Path, data: Path, tmp_path: Path) -> None:
    blind = tmp_path / "blind.toml"
    text = (bundle / "recipe.toml").read_text().replace('model = "."', f'model = "{bundle}"')
    lines = [
        f"{line.split('=')[0]}= 1.0" if line.startswith(("suspect", "reject")) else line
        for line in text.splitlines()
    ]
    lines = [f"{line.split('=')[0]}= 100000.0" if line.startswith("min_area") else line for line in lines]
    blind.write_text("\n".join(lines) + "\n")
    same = json.loads(run("compare", bundle, bundle, data, "--json", "--threads", 1))
    assert (same["changed"], same["accepted"]) == (0, True)
    page = tmp_path / "changes.html"
    worse = say("compare", bundle, bundle, data, "--recipe-b", blind, "--page", page, "--json", "--threads", "1")
    assert worse.exit_code == 1
    result = json.loads(worse.stdout)
    assert result["new escape"]
    assert result["b"]["escapes"] == result["defective"]
    assert result["new escape"][0] in page.read_text()
    assert "data:image/jpeg;base64," in page.read_text()
    back = say(
        "compare", bundle, bundle, data, "--recipe-a", blind, "--overkill-allowed", 99, "--json", "--threads", 1
    )
    assert back.exit_code == 0, "what it mends does not close the gate"
    wary = tmp_path / "wary.toml"
    wary.write_text(re.sub(r"(suspect|min_area_px) = [\d.]+", r"\1 = 0.01", text))
    more = say("compare", bundle, bundle, data, "--recipe-b", wary, "--json", "--threads", "1")
    assert (more.exit_code, json.loads(more.stdout)["new escape"]) == (1, [])
    assert json.loads(more.stdout)["new overkill"]


def test_predict_writes_masks_to_correct(bundle: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "images", tmp_path / "new/images")
    (tmp_path / "new/images/broken.png").write_bytes(b"no picture")
    said = run("predict", bundle, tmp_path / "new/images", "--out", tmp_path / "new", "--threads", 1)
    assert "unreadable 1" in said
    names = sorted(path.name for path in (data / "masks").iterdir())
    assert sorted(path.name for path in (tmp_path / "new/masks").iterdir()) == names
    found = cv2.imread(str(tmp_path / "new/masks/test_0.png"), cv2.IMREAD_UNCHANGED)
    true = cv2.imread(str(data / "masks/test_0.png"), cv2.IMREAD_UNCHANGED)
    assert found is not None
    assert true is not None
    assert np.logical_and(found == 1, true == 1).sum() > 0.5 * (true == 1).sum()
    again = refused("predict", bundle, tmp_path / "new/images", "--out", tmp_path / "new")
    assert "labels shall not be overwritten" in again


def test_training_ended_early_still_gives_a_bundle(bundle: Path, data: Path, tmp_path: Path) -> None:
    early = tmp_path / "early"
    shutil.copytree(bundle / "training", early / "training")
    (early / ".export-killed").mkdir()
    (early / "report.html").write_text("of the network before")
    (early / "recipe.toml").write_text((bundle / "recipe.toml").read_text().replace("= 250", "= 80"))
    run("export", early, data, "--threads", 1)
    assert load_bundle(early).manifest.classes == ["pitting"]
    assert load_bundle(early).manifest.name == "early"
    assert load_recipe(early / "recipe.toml").recipe.deadline_ms == 80
    assert (early / "training/calibration.json").is_file()
    assert not (early / "report.html").exists()
    assert not list(early.glob(".export*"))


def test_interrupted_training_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "inspectd_train.cli.main",
        "fit",
        str(data),
        "--out",
        str(tmp_path / "b"),
        "--epochs",
        "40",
        *FIT,
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while "dev: cell mIoU" not in said:
        said += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "the same command with --resume goes on" in said
    assert "Traceback" not in said
    run("export", tmp_path / "b", data, "--threads", 1)
    assert load_bundle(tmp_path / "b").manifest.stride == 8


def test_advice_after_an_interruption_is_of_what_there_is(data: Path, tmp_path: Path) -> None:
    opened, folder = open_data_set(data), tmp_path / "training"
    folder.mkdir()
    assert how_to_go_on(tmp_path, opened, Wish()).startswith("nothing was kept yet")
    (folder / STATE).touch()
    assert "--resume goes on (the first check" in how_to_go_on(tmp_path, opened, Wish())
    (folder / RECORD).touch()
    assert f"export {tmp_path} {data} --overkill 0.01 makes" in how_to_go_on(tmp_path, opened, Wish(0.01))


def test_grey_pictures_in_colour_are_told_from_coloured_ones(data: Path, tmp_path: Path) -> None:
    assert not grey_in_colour(open_data_set(data))
    grey = shutil.copytree(data, tmp_path / "grey")
    for file in (grey / "images").iterdir():
        cv2.imwrite(str(file), cv2.cvtColor(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), cv2.COLOR_GRAY2BGR))
    assert grey_in_colour(open_data_set(grey))


def test_pictures_in_two_splits_are_refused(data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    splits = json.loads((other / "split.json").read_text())
    splits["dev"].append(splits["train"][0])
    (other / "split.json").write_text(json.dumps(splits))
    said = refused("fit", other, "--out", tmp_path / "b", "--minutes", 1, *FIT)
    assert "train_0.png is in train and again in dev or test" in said


def test_two_processes_train_one_network(data: Path, tmp_path: Path) -> None:
    words = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "inspectd_train.cli.main",
        "fit",
        str(data),
    ]
    words += ["--out", str(tmp_path / "both"), "--epochs", "1", *FIT]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert load_bundle(tmp_path / "both").manifest.stride == 8
    record = json.loads((tmp_path / "both/training/run.json").read_text())
    assert record["checks"][-1]["step"] == 50


def test_fine_tuning_and_transfer_begin_with_a_bundle(bundle: Path, data: Path, tmp_path: Path) -> None:
    run("fit", data, "--out", tmp_path / "tuned", "--epochs", 1, "--from", bundle, *SMALL)
    record = json.loads((tmp_path / "tuned/training/run.json").read_text())
    assert record["checks"][0]["cell_ap"] > 0.5, "it knows what it knew"
    assert record["settings"]["net"] == "xs", "as the bundle it began with"
    assert record["settings"]["learning_rate"] == pytest.approx(2.5e-4)
    assert record["settings"]["origin"].startswith("fine-tune of pits, graph ")
    other = shutil.copytree(data, tmp_path / "other")
    (other / "classes.json").write_text('{"0": "background", "1": "hole"}')
    words = ("fit", other, "--epochs", 1, "--from", bundle, *FIT)
    assert "use --mode transfer" in refused(*words, "--out", tmp_path / "a")
    run(*words, "--mode", "transfer", "--out", tmp_path / "b")
    assert load_bundle(tmp_path / "b").manifest.classes == ["hole"]
    wrong = ("fit", data, "--epochs", 1, "--from", bundle, "--net", "s", "--out", tmp_path / "c", *PART)
    assert "is of another network than --net s" in refused(*wrong)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("fit", "{data}", "--out", "{out}"), "give --minutes M for a time, or --epochs N"),
        (
            ("fit", "{data}", "--out", "{out}", "--minutes", "1", "--net", "xxl"),
            "Invalid value for '--net'",
        ),
        (
            ("fit", "{data}", "--out", "{out}", "--minutes", "1", "--deterministic"),
            "--deterministic needs --epochs",
        ),
        (("fit", "{data}", "--out", "{data}", "--minutes", "1"), "is not empty; choose a new folder for --out"),
        (("fit", "{data}", "--out", "{out}", "--minutes", "1", "--resume"), "nothing to resume"),
        (("fit", "{data}", "--out", "{out}", "--minutes", "1", "--part", "40"), "--part 40: want WIDTHxHEIGHT"),
        (("fit", "{out}", "--out", "{out}/b", "--minutes", "1"), "classes.json: no such file"),
        (
            ("fit", "{data}", "--out", "{out}/b", "--minutes", "1", "--part", "900x900"),
            "no part of (900, 900) px fits into a dev picture",
        ),
        (("fit", "{data}", "--out", "{out}", "--minutes", "1", "--seed", "-1"), "Invalid value for '--seed'"),
        (("evaluate", "{out}", "{data}"), "there is no such model bundle"),
        (("evaluate", "{bundle}", "{data}", "--split", "tset"), "no split 'tset'; it has train, dev, test"),
        (("export", "{out}", "{data}"), "run.json: not there"),
        (("predict", "{bundle}", "{out}", "--out", "{out}/p"), "is not a folder with PNG"),
        (("parts", "{out}", "{out}/p"), "classes.json: no such file"),
        (("fit", "{data}", "--out", "{bundle}", "--minutes", "1"), "holds a run already; go on with --resume"),
    ],
)
def test_mistake_ends_in_one_sentence(
    bundle: Path, data: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    places = {"data": data, "out": tmp_path / "nowhere", "bundle": bundle}
    assert sentence in refused(*(word.format(**places) for word in words))

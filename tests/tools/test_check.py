import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from inspectd_train.cli.main import app
from inspectd_train.data.alike import alike_pairs
from inspectd_train.data.look import read_pictures
from inspectd_train.data.shapes import write_shapes
from inspectd_train.data.sheet import thumbnail, write_sheets
from tests.tools.real_data import DATA, needs


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "d"
    write_shapes(folder, 20, 3, (96, 80), colour=False)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "d"))


def run(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    said = CliRunner().invoke(app, ["check", str(folder), "--json", *words])
    return said.exit_code, json.loads(said.stdout)


def faults(folder: Path, level: str = "errors") -> list[str]:
    code, found = run(folder)
    assert code == (1 if found["errors"] else 0)
    return [f"{f['file']}: {f['reason']}" for f in found[level]]


def split_of(folder: Path) -> dict[str, list[str]]:
    return dict(json.loads((folder / "split.json").read_text()))


def write_split(folder: Path, **lists: list[str]) -> None:
    (folder / "split.json").write_text(json.dumps(split_of(folder) | lists))


NAME = "shapes_00003"


def write(folder: Path, part: str, pixels: np.ndarray[Any, Any]) -> None:
    assert cv2.imwrite(str(folder / part / f"{NAME}.png"), pixels)


def read(folder: Path, part: str) -> np.ndarray[Any, Any]:
    pixels = cv2.imread(str(folder / part / f"{NAME}.png"), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


def test_a_sound_set_has_no_fault(sound: Path) -> None:
    assert run(sound) == (0, {"pictures": 20, "errors": [], "warnings": []})


def cut_off(folder: Path) -> None:
    file = folder / f"images/{NAME}.png"
    file.write_bytes(file.read_bytes()[:-20])


BREAKS: list[tuple[Callable[[Path], object], str]] = [
    (cut_off, f"images/{NAME}.png: is cut off"),
    (lambda f: write(f, "images", np.zeros((80, 96), np.uint16)), f"images/{NAME}.png: has 16 bits"),
    (lambda f: write(f, "images", np.zeros((80, 96, 4), np.uint8)), f"images/{NAME}.png: has 4 channels"),
    (lambda f: write(f, "masks", np.zeros((80, 96), np.uint16)), f"masks/{NAME}.png: has 16 bits"),
    (lambda f: write(f, "masks", np.zeros((80, 96, 3), np.uint8)), f"masks/{NAME}.png: is coloured"),
    (
        lambda f: write(f, "masks", np.zeros((96, 80), np.uint8)),
        f"masks/{NAME}.png: is 80 x 96 px, its picture 96 x 80",
    ),
    (lambda f: write(f, "masks", np.full((80, 96), 9, np.uint8)), f"masks/{NAME}.png: has the class index 9"),
    (lambda f: write(f, "masks", np.zeros((80, 96), np.uint8)), f"masks/{NAME}.png: shows no pixel of"),
    (lambda f: (f / f"masks/{NAME}.png").unlink(), f"images/{NAME}.png: has no mask masks/{NAME}.png"),
    (lambda f: (f / f"images/{NAME}.png").unlink(), f"masks/{NAME}.png: a mask without a picture"),
    (lambda f: shutil.copy(f / f"images/{NAME}.png", f / f"images/{NAME}.PNG"), "shares its mask with another"),
    (lambda f: (f / "classes.json").write_text("{"), "classes.json: "),
    (lambda f: (f / "classes.json").write_text('{"1": "pit"}'), "classes.json: want names by index"),
    (lambda f: (f / "labels.json").write_text('["a"]'), "labels.json: want names and classes"),
    (lambda f: write_split(f, dev=[]), "split.json: dev is empty"),
    (lambda f: write_split(f, dev=["x.png"]), "split.json: x.png in dev: there is no such picture"),
    (lambda f: write_split(f, dev=split_of(f)["train"]), "is in train and in dev"),
    (lambda f: write_split(f, dev=split_of(f)["dev"] * 2), "stands twice in dev"),
    (lambda f: (f / "split.json").write_text('{"train": 3}'), 'split.json: want {"train": [names]'),
    (lambda f: shutil.rmtree(f / "masks"), "masks: no such folder"),
]


@pytest.mark.parametrize(("damage", "said"), BREAKS)
def test_every_fault_is_named(folder: Path, damage: Callable[[Path], object], said: str) -> None:
    damage(folder)
    assert any(said in fault for fault in faults(folder)), faults(folder)


def test_all_faults_at_once(folder: Path) -> None:
    for n in range(5):
        (folder / f"images/shapes_0000{n}.png").write_bytes(b"no picture")
    assert sum("is cut off" in fault for fault in faults(folder)) == 5


def test_a_class_that_no_mask_shows(folder: Path) -> None:
    names = json.loads((folder / "classes.json").read_text())
    (folder / "classes.json").write_text(json.dumps(names | {"4": "star"}))
    assert "classes.json: no pixel of any mask is 'star'; label some or remove it" in faults(folder)


def test_a_claim_that_a_part_is_good(folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps({f"{NAME}.png": []}))
    assert all("which labels.json does not name for it" in fault for fault in faults(folder)) and faults(folder)


def test_one_picture_only(folder: Path) -> None:
    for file in [*(folder / "images").iterdir(), *(folder / "masks").iterdir()]:
        if file.stem != NAME:
            file.unlink()
    assert any("one picture only" in fault for fault in faults(folder))


def test_warnings_alone_end_with_0(folder: Path) -> None:
    split = split_of(folder)
    write_split(folder, train=split["train"][1:])
    (folder / "images/notes.txt").write_text("x")
    found = faults(folder, "warnings")
    assert f"images/{split['train'][0]}: in no split of split.json" in found
    assert "images/notes.txt: no picture by its name; it is not used" in found
    (folder / "split.json").unlink()
    assert any(fault.startswith("split.json: no such file yet") for fault in faults(folder, "warnings"))


def test_no_good_part_and_black_and_white_masks_are_warned_of(folder: Path) -> None:
    for file in (folder / "masks").iterdir():
        mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        mask[:9, :9] = 1
        cv2.imwrite(str(file), mask)
    (folder / "labels.json").unlink()
    assert any("no picture without a defect" in fault for fault in faults(folder, "warnings"))
    write(folder, "masks", np.where(read(folder, "masks") > 0, 255, 0).astype(np.uint8))
    assert any("has only 0 and 255, like 1 of 20 masks" in fault for fault in faults(folder, "warnings"))


def test_copies_across_splits(folder: Path) -> None:
    split = split_of(folder)
    a, b = split["train"][0], split["test"][0]
    for part in ("images", "masks"):
        shutil.copy(folder / part / a, folder / part / b)
    (folder / "labels.json").unlink()
    pair = sorted([a, b])
    assert any(f"images/{pair[0]}: the same pixels as {pair[1]}" in fault for fault in faults(folder))
    pixels = cv2.imread(str(folder / "images" / a))
    assert pixels is not None
    cv2.imwrite(str(folder / "images" / b), cv2.convertScaleAbs(pixels[:, ::-1], alpha=0.8))
    cv2.imwrite(str(folder / "masks" / b), np.asarray(cv2.imread(str(folder / "masks" / a), -1))[:, ::-1])
    assert any(f"images/{pair[0]}: nearly the same picture as {pair[1]}" in f for f in faults(folder, "warnings"))


def test_contact_sheets_have_every_picture(folder: Path) -> None:
    (folder / f"images/{NAME}.png").write_bytes(b"no picture")
    said = CliRunner().invoke(app, ["check", str(folder), "--sheet", str(folder / "sheet.png")])
    assert said.exit_code == 1 and f"contact sheet {folder / 'sheet.png'}" in said.output
    sheet = cv2.imread(str(folder / "sheet.png"))
    assert sheet is not None and sheet.shape == (16 + 2 * 156, 1800, 3)
    file, mask = folder / "images/shapes_00000.png", folder / "masks/shapes_00000.png"
    pages = write_sheets(folder / "many.png", [(file, mask)] * 201, ("a",))
    assert [p.name for p in pages] == ["many.png", "many-2.png"] and all(p.is_file() for p in pages)


def test_a_small_region_is_framed_in_the_colour_of_its_class() -> None:
    mask = np.zeros((1000, 1000), np.uint8)
    mask[500, 500] = 2
    shown = thumbnail(np.zeros((1000, 1000, 1), np.uint8), mask)
    assert shown.shape == (140, 140, 3)
    assert {tuple(p) for p in shown.reshape(-1, 3).tolist()} == {(0, 0, 0), (60, 180, 75)}


def test_a_sheet_that_is_no_png_and_a_folder_that_is_no_set(folder: Path) -> None:
    said = CliRunner().invoke(app, ["check", str(folder), "--sheet", str(folder / "sheet.xyz")])
    assert said.exit_code == 1 and "name it .png" in said.output
    assert CliRunner().invoke(app, ["check", str(folder / "images")]).exit_code == 1


@needs("bsdata")
def test_the_official_split_of_bsdata_shares_places() -> None:
    """Places stand in the file name; the finder knows only the pictures, and finds dozens of shared ones."""
    _, pictures, faults = read_pictures(DATA / "bsdata")
    assert faults == []
    pairs = alike_pairs([p.signature for p in pictures], [p.shape for p in pictures])
    for split_file, expected in (("split.json", range(30, 71)), ("split_grouped.json", range(1))):
        splits = json.loads((DATA / "bsdata" / split_file).read_text())
        home = {name: split for split in ("train", "dev", "test") for name in splits[split]}
        names = [(pictures[p.first].name, pictures[p.second].name) for p in pairs]
        places = [(a.split("_"), b.split("_")) for a, b in names if home[a] != home[b]]
        assert sum(len(a) == 6 and a[2:4] == b[2:4] for a, b in places) in expected


@needs("hsst_fabric")
def test_fabric_has_no_fault() -> None:
    assert run(DATA / "hsst_fabric") == (0, {"pictures": 26, "errors": [], "warnings": []})


@needs("magtile")
def test_few_false_alarms_on_magnetic_tiles() -> None:
    code, found = run(DATA / "magtile")
    assert code == 0 and found["pictures"] == 1340 and len(found["warnings"]) <= 8

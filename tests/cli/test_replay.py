"""`inspectd replay` says of pictures what the daemon says, draws it, and counts what it leaves out."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from inspectd.publish.journal.records import read_entries
from inspectd.runtime.image_files import read_image
from inspectd.wire.results import decode_result
from tests.bundles import spotted, write_bundle
from tests.lines import HEIGHT, WIDTH, Line, inspectd

VIEW = """max_count = 1
max_length_mm = 3.0
[image]
min_mean = 60
refuse_identical = true
[camera.top]
roi = [16, 8, 136, 112]
ignore = [[[100, 0], [160, 0], [160, 60], [100, 60]]]
[camera.top.zones.seal]
polygon = [[20, 70], [90, 70], [90, 120], [20, 120]]
limits.spot = { suspect = 0.2, reject = 0.3, max_area_mm2 = 0.5, max_count = 5 }
"""
SPOTS = {
    "clean": [],
    "one allowed": [(40, 48, 24, 16)],
    "two": [(40, 48, 24, 16), (20, 20, 12, 8)],
    "too long": [(30, 40, 70, 8)],
    "outside the roi": [(0, 0, 12, 128)],
    "ignored": [(104, 8, 40, 40)],
    "reaches out of what is ignored": [(80, 20, 60, 20), (20, 100, 8, 4)],
    "in the zone": [(30, 80, 24, 24)],
    "small in the zone": [(30, 80, 8, 8), (50, 80, 8, 8), (70, 80, 8, 8)],
    "dark": [(0, 0, 160, 128)],
}


def write(path: Path, picture: np.ndarray) -> None:
    assert cv2.imwrite(str(path), picture[:, :, ::-1] if picture.shape[2] == 3 else picture)


def viewed(line: Line, channels: int = 3) -> None:
    """A line whose camera has a roi, zones and a scale; pictures for each rule, in colour and grey."""
    shutil.rmtree(line.images)
    line.images.mkdir()
    for i, (name, spots) in enumerate(SPOTS.items()):
        write(line.images / f"{i:02} {name}.png", spotted(HEIGHT, WIDTH, 3 - 2 * (i % 2), spots))
    write(line.images / "20 identical.png", spotted(HEIGHT, WIDTH, 3, []))
    write(line.images / "21 identical.png", spotted(HEIGHT, WIDTH, 1, []))
    tinted = spotted(HEIGHT, WIDTH, 3, [(60, 20, 16, 16)])
    tinted[20:36, 60:76] = 200, 90, 60  # the luminance tells it, or the mean of the channels
    write(line.images / "22 tinted.png", tinted)
    write(line.images / "23 of another size.png", spotted(HEIGHT, 320, 3, []))
    (line.images / "24 cut off.png").write_bytes((line.images / "22 tinted.png").read_bytes()[:-20])
    pages = [spotted(HEIGHT, WIDTH, 3, spots) for spots in ([], [(40, 48, 24, 16)])]
    assert cv2.imwritemulti(str(line.images / "25 pages.tif"), pages)
    write(line.images / "26 the last.png", spotted(HEIGHT, WIDTH, 3, [(40, 48, 24, 16)]))
    if channels == 1:
        write_bundle(line.folder / "grey", channels=1)
        shutil.copytree(line.folder / "grey", line.folder / "dark", dirs_exist_ok=True)
    recipe = line.folder / "dark/recipe.toml"
    recipe.write_text(recipe.read_text() + VIEW)
    line.write("acquisition_frame_rate_hz = 20.0\nloop = false\nspare_slots = 60\nmm_per_px = [0.05, 0.06]")


def replayed(*arguments: str | Path) -> list[dict]:
    shown = inspectd("replay", *arguments, "--json")
    assert shown.returncode == 0, shown.stderr
    return [json.loads(text) for text in shown.stdout.splitlines()]


@pytest.mark.parametrize("channels", [3, 1])
def test_run_and_replay_say_the_same(line: Line, channels: int) -> None:
    viewed(line, channels)
    offline = replayed(line.images, "-c", line.config)
    assert inspectd("run", "-c", line.config).returncode == 0
    online = [decode_result(entry.body) for entry in read_entries(line.state_dir / "journal")]
    online.sort(key=lambda result: result.frame_id)
    assert [r.frame_id for r in online] == list(range(1, len(offline) + 1))
    for one, other in zip(online, offline, strict=True):
        regions = json.loads(msgspec.json.encode(one.regions))
        said = {"verdict": one.verdict, "reason": one.reason, "detail": one.detail, "regions": regions}
        assert {**other, **said} == other, other["image"]
    told = {r["image"][3:].removesuffix(".png"): (r["verdict"], r["reason"]) for r in offline}
    assert told["clean"] == told["one allowed"] == told["ignored"] == told["outside the roi"] == ("PASS", "none")
    assert told["two"] == told["too long"] == told["in the zone"] == ("FAIL", "defect")
    assert told["small in the zone"] == ("PASS", "none")
    assert told["dark"] == told["identical"] == ("UNKNOWN", "image")
    assert told["of another size"] == told["cut off"] == told["pages.tif"] == ("UNKNOWN", "incomplete")
    assert any(region["zone"] == "seal" for r in offline for region in r["regions"] if "zone" in region)


def test_lines_of_json_have_what_scripts_rely_on(line: Line) -> None:
    (first, *_) = replayed(line.images, "-c", line.config)
    assert (first["image"], first["verdict"], first["reason"]) == ("part_001.png", "PASS", "none")
    assert first["file"] == "part_001.png" and first["regions"] == [] and first["detail"] == ""


def test_a_grey_model_judges_what_users_have(line: Line) -> None:
    """Grey pictures stored as RGB, by a bundle of one channel: folder, simulated camera, replay and check."""
    write_bundle(line.folder / "grey", channels=1)
    line.write(recipe="grey/recipe.toml")
    assert [r["verdict"] for r in replayed(line.images, "-c", line.config)] == ["PASS", "FAIL"] * 2
    note = "note: part_001.png is RGB, and made grey, as the model wants (the luminance)"
    checked = inspectd("check", "-c", line.config)
    assert (checked.returncode, checked.stderr) == (0, "") and f"camera top: {note}" in checked.stdout
    line.write_sim("acquisition_frame_rate_hz = 20.0")
    line.config.write_text(line.config.read_text().replace("dark/recipe.toml", "grey/recipe.toml"))
    checked = inspectd("check", "-c", line.config)
    assert (checked.returncode, checked.stderr) == (0, "") and f"camera cam0: {note}" in checked.stdout
    assert inspectd("run", "-c", line.config, "--count", "4").returncode == 0
    results = [decode_result(entry.body) for entry in read_entries(line.state_dir / "journal")]
    assert {r.verdict for r in results} == {"PASS", "FAIL"}


SIDE = '[[camera]]\nname = "side"\nkind = "folder"\nfolder = "parts"\nwidth = {}\nheight = 128\n'


def test_a_camera_is_asked_for_where_it_makes_a_difference(line: Line) -> None:
    recipe = line.folder / "dark/recipe.toml"
    config = line.config.read_text()
    line.config.write_text(config + SIDE.format(160))
    assert len(replayed(line.images, "-c", line.config)) == 4  # both are judged alike
    recipe.write_text(recipe.read_text() + "[camera.side]\nroi = [80, 0, 80, 128]\n")
    shown = inspectd("replay", line.images, "-c", line.config)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == (
        "inspectd: the cameras top, side are judged differently: say with --camera which one's pictures these "
        "are\n"
    )
    whole = replayed(line.images, "-c", line.config, "--camera", "top")
    half = replayed(line.images, "-c", line.config, "--camera", "side")
    assert [r["verdict"] for r in whole] == ["PASS", "FAIL"] * 2
    assert [r["verdict"] for r in half] == ["PASS"] * 4  # the spot lies in the other half
    shown = inspectd("replay", line.images, "-c", line.config, "--camera", "left")
    assert shown.returncode == 1
    assert shown.stderr == f"inspectd: {line.config} has no camera 'left'; it has top, side\n"
    line.config.write_text(config + SIDE.format(320))
    assert "--camera" in inspectd("replay", line.images, "-c", line.config).stderr


def test_a_recipe_is_asked_for_where_it_makes_a_difference(line: Line) -> None:
    line.write(recipe='dark/recipe.toml", "two.toml')
    text = (line.folder / "dark/recipe.toml").read_text().replace('"."', '"dark"')
    (line.folder / "two.toml").write_text(text.replace("min_area_px = 16", "min_area_px = 5000"))
    shown = inspectd("replay", line.images, "-c", line.config)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == (
        f"inspectd: {line.config} has the recipes dark, two: say with --recipe which one judges the pictures\n"
    )
    verdicts = {
        name: [r["verdict"] for r in replayed(line.images, "-c", line.config, "--recipe", name)]
        for name in ("dark", "two")
    }
    assert verdicts == {"dark": ["PASS", "FAIL"] * 2, "two": ["PASS"] * 4}
    shown = inspectd("replay", line.images, "-c", line.config, "--recipe", "tow")
    assert (shown.returncode, shown.stderr) == (
        1, f"inspectd: {line.config} has no recipe 'tow'; it has dark, two\n"
    )  # fmt: skip


def test_another_model_may_judge_by_the_same_recipe(line: Line) -> None:
    write_bundle(line.folder / "grey", channels=1)
    write_bundle(line.folder / "other", classes=("dent",))
    found = replayed(line.images, "-c", line.config, "--model", line.folder / "grey")
    assert [r["verdict"] for r in found] == ["PASS", "FAIL"] * 2
    shown = inspectd("replay", line.images, "-c", line.config, "--model", line.folder / "other")
    assert shown.returncode == 78 and "recipe.toml:3:9: limits.spot: names the class 'spot'" in shown.stderr
    shown = inspectd("replay", line.images, "-c", line.config, "--model", "gone")
    assert shown.returncode == 78 and shown.stderr.startswith("gone: there is no such model bundle")


def test_a_drawing_of_every_picture(line: Line) -> None:
    """Of any name, and of what is no picture."""
    viewed(line)
    two = line.images / "02 two.png"
    odd = [b"\xe9\xff.png", "ünï 写真.png".encode(), b"%s%n.png", b"twin.png", b"twin.jpg", b"x" * 200 + b".png"]
    for name in odd:
        shutil.copy(two, os.fsencode(line.images) + b"/" + name)
    cv2.imwrite(str(line.images / "twin.jpg"), spotted(HEIGHT, WIDTH, 3, []))
    out = line.folder / "drawn/here"
    count = len(list(line.images.iterdir()))
    shown = inspectd("replay", line.images, "-c", line.config, "--overlay", out)
    assert shown.returncode == 0, shown.stderr
    drawn = sorted(out.iterdir())
    assert len(drawn) == count == len(shown.stdout.splitlines())
    assert {b"twin.png.png", b"twin.jpg.png", b"\xe9\xff.png"} <= {os.fsencode(path.name) for path in drawn}
    for path in drawn:
        height, width, channels = read_image(path).shape
        assert channels == 3 and width >= WIDTH and height > HEIGHT
    at = {path.name: read_image(path) for path in drawn}
    colours = {tuple(at[f"{name}.png"][0, 0]) for name in ("00 clean", "02 two", "09 dark")}
    assert len(colours) == 3  # of the three verdicts


def test_where_drawings_and_rows_can_not_go(line: Line) -> None:
    shown = inspectd("replay", line.images, "-c", line.config, "--overlay", line.images)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "the drawings would lie among the pictures; name another folder" in shown.stderr
    (line.folder / "file").write_text("")
    for option in ("--overlay", "--csv"):
        shown = inspectd("replay", line.images, "-c", line.config, option, line.folder / "file/x")
        assert (shown.returncode, shown.stdout) == (1, "")
        assert shown.stderr == f"inspectd: {line.folder}/file/x: can't be written: Not a directory\n"


def test_a_row_for_every_picture(line: Line) -> None:
    table = line.folder / "parts.csv"
    assert inspectd("replay", line.images, "-c", line.config, "--csv", table).returncode == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["verdict"], row["reason"], row["class"]) for row in rows] == [
        ("part_001.png", "PASS", "none", ""),
        ("part_002.png", "FAIL", "defect", "spot"),
        ("part_003.png", "PASS", "none", ""),
        ("part_004.png", "FAIL", "defect", "spot"),
    ]
    assert (rows[1]["regions"], rows[1]["detail"]) == ("1", "spot: 1 found, 0 allowed")
    assert float(rows[1]["area_px"]) > 300 and 0.9 < float(rows[1]["score"]) <= 1


def test_the_sum_counts_verdicts_classes_reasons_and_what_is_left_out(line: Line) -> None:
    (line.images / "a.psd").write_bytes(b"x")
    (line.images / "b.gif").write_bytes(b"x")
    (line.images / "._part_001.png").write_bytes(b"x")
    (line.images / "notes.txt").write_text("x")
    (line.images / "lot 2").mkdir()
    write(line.images / "small.png", spotted(64, 64, 3, []))
    shown = inspectd("replay", line.images, "-c", line.config)
    assert shown.returncode == 0 and len(shown.stdout.splitlines()) == 5
    assert shown.stderr.splitlines() == [
        "PASS 2, FAIL 2, UNKNOWN 1",
        "UNKNOWN: incomplete 1",
        "spot: a defect in 2, in doubt in 0",
        "left out: 2 pictures of formats that are not read (a.psd, b.gif), 1 hidden picture, 1 folder, "
        "1 other file",
    ]
    note = "left out of the folder parts: 2 pictures of formats that are not read (a.psd, b.gif), 1 hidden picture"
    checked = inspectd("check", "-c", line.config)
    assert checked.returncode == 0 and f"camera top: note: {note}\n" in checked.stdout
    line.write("acquisition_frame_rate_hz = 50.0\nloop = false")
    ran = inspectd("run", "-c", line.config)
    assert ran.returncode == 0 and ran.stderr.count(note) == 1
    line.write_sim("acquisition_frame_rate_hz = 50.0")
    checked = inspectd("check", "-c", line.config)
    assert checked.returncode == 0 and f"camera cam0: note: {note}\n" in checked.stdout


def test_a_reader_that_leaves_is_no_traceback(line: Line) -> None:
    command = f"{sys.executable} -m inspectd replay {line.images} -c {line.config} | head -1"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in shown.stderr and shown.stdout.startswith("part_001.png")

"""What `check` finds only by looking across a data set, and in files that others made."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspectd_train.data.edges import blurred
from inspectd_train.data.shapes import write_shapes
from tests.tools.data.imported import CASES, command, content, imported

Mask = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "d"
    write_shapes(folder, 20, 3, (96, 80), colour=False)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "d"))


def found(folder: Path, level: str) -> list[str]:
    code, said = command("check", folder, "--json")
    faults = json.loads(said)
    assert code == (1 if faults["errors"] else 0)
    return [f"{f['file']}: {f['reason']}" for f in faults[level]]


def masks(folder: Path) -> dict[Path, Mask]:
    return {f: np.asarray(cv2.imread(str(f), -1), np.uint8) for f in sorted((folder / "masks").iterdir())}


def write(file: Path, mask: Mask) -> None:
    file.write_bytes(cv2.imencode(".png", mask)[1].tobytes())


def test_spelling_variants_are_told(tmp_path: Path) -> None:
    imported("labelme", CASES / "labelme_label_spelling/pictures", tmp_path / "d")
    warnings = found(tmp_path / "d", "warnings")
    assert any("'Scratch', 'scratch', 'scratch ' and 'scratch\\u200b' are 4 classes" in w for w in warnings)


def test_masks_of_two_kinds_are_told_once(folder: Path) -> None:
    (folder / "labels.json").unlink()
    changed = [file for file, mask in masks(folder).items() if mask.any()][:3]
    for file in changed:
        write(file, np.where(masks(folder)[file] > 0, 255, 0).astype(np.uint8))
    told = [w for w in found(folder, "warnings") if "has only 0 and 255" in w]
    assert len(told) == 1 and "like 3 of 20 masks, beside 13 with class indices" in told[0]
    assert "--colours NAME=#ffffff" in told[0]


@pytest.mark.parametrize("how", ["scaled", "jpeg", "turned"])
def test_masks_that_were_smoothed_are_told(folder: Path, how: str) -> None:
    """Between 0 and 3 such a mask has pixels of 1 and 2, which are classes too."""
    (folder / "labels.json").unlink()
    for file, mask in masks(folder).items():
        if how == "scaled":
            odd = cv2.resize(
                cv2.resize(mask, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), mask.shape[::-1]
            )
        elif how == "jpeg":
            odd = cv2.imdecode(cv2.imencode(".jpg", mask)[1], cv2.IMREAD_GRAYSCALE)
        else:
            odd = cv2.warpAffine(mask, cv2.getRotationMatrix2D((48, 40), 7, 1), mask.shape[::-1])
        write(file, np.minimum(np.asarray(odd, np.uint8), 3))
    told = [w for w in found(folder, "warnings") if "at edges between others" in w]
    assert len(told) == 1 and "make the masks anew without smoothing" in told[0]


def test_sound_masks_are_no_edges(sound: Path) -> None:
    assert not any(blurred(mask) for mask in masks(sound).values())
    mask = np.zeros((64, 64), np.uint8)
    mask[10:40, 10:40] = 2
    mask[20:22, 45:60] = 1  # a thin scratch by itself
    mask[30:36, 38:44] = 1  # a region that touches another
    assert blurred(mask) == {}


def test_a_class_that_dev_or_test_lacks_is_told(folder: Path) -> None:
    split = content(folder / "split.json")
    labels = content(folder / "labels.json")
    moved = [name for name in split["dev"] if "circle" in labels[name]]
    split |= {"dev": [n for n in split["dev"] if n not in moved], "train": split["train"] + moved}
    (folder / "split.json").write_text(json.dumps(split))
    assert "split.json: dev has no picture with 'circle'" in found(folder, "warnings")


def test_one_bad_file_of_names_is_one_error(folder: Path) -> None:
    (folder / "classes.json").write_text('{"0": "background", "2": "circle"}')
    assert [e for e in found(folder, "errors") if "has the class index" in e] == []
    (folder / "classes.json").write_text('{"0": "background", "1": "a", "1": "b"}')
    assert "'1' stands twice in one object" in found(folder, "errors")[0]
    (folder / "classes.json").write_text('{"0": "background", "1": "\\ud83d"}')
    assert any("half a character" in e for e in found(folder, "errors"))
    assert command("check", folder, "--sheet", folder.parent / "sheet.png")[0] == 1


def test_a_mask_of_one_bit_is_an_error(folder: Path) -> None:
    shutil.copy(CASES / "masks_1bit/masks/p0.png", folder / "masks/p0.png")
    shutil.copy(CASES / "masks_1bit/images/p0.png", folder / "images/p0.png")
    assert "masks/p0.png: has 1 bits a pixel, 8 are needed; import it anew" in found(folder, "errors")


def test_exif_is_an_error(folder: Path) -> None:
    name = content(folder / "split.json")["train"][0]
    file = folder / "images" / name
    data = file.read_bytes()
    body = b"eXIfII*\0" + struct.pack("<IHHHII", 8, 1, 274, 3, 1, 3) + b"\0" * 4
    import zlib

    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    file.write_bytes(data[:33] + chunk + data[33:])
    assert any(
        f"images/{name}: EXIF says that it is to be turned (orientation 3)" in e for e in found(folder, "errors")
    )


def test_hidden_files_are_no_fault(folder: Path) -> None:
    for name in ("images/._shapes_00001.png", "images/.DS_Store", "masks/._shapes_00001.png", "images/Thumbs.db"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert found(folder, "errors") == found(folder, "warnings") == []


def test_a_folder_among_the_pictures_is_told(folder: Path) -> None:
    (folder / "images/more").mkdir()
    assert "images/more: a folder; pictures in it are not used" in found(folder, "warnings")


def test_names_that_are_no_utf8_are_an_error_and_can_be_drawn(folder: Path) -> None:
    """In a process of its own: drawing such a name once killed it."""
    odd = os.fsdecode(b"bad\xff.png")
    for part in ("images", "masks"):
        shutil.copy(folder / part / "shapes_00001.png", folder / part / odd)
    words = [sys.executable, "-m", "inspectd_train.cli.main", "check", "d", "--sheet", "sheet.png"]
    ended = subprocess.run(words, cwd=folder.parent, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "error: images/bad?.png: its name is not UTF-8; rename it and its mask" in ended.stdout
    assert (folder.parent / "sheet.png").is_file()


def test_files_with_a_byte_order_mark_are_read(folder: Path) -> None:
    for name in ("classes.json", "split.json", "labels.json"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert found(folder, "errors") == found(folder, "warnings") == []

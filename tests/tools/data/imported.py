"""Runs the import command and reads what it wrote."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from typer.testing import CliRunner

from inspectd_train.cli.main import app

CASES = Path(__file__).parent / "cases"


def command(*words: object) -> tuple[int, str]:
    """The exit code and all that the training tool prints, without line ends; no traceback."""
    said = CliRunner().invoke(app, [str(word) for word in words])
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    return said.exit_code, said.output.replace("\n", " ")


def imported(form: str, source: Path, out: Path, *more: str) -> tuple[int, str]:
    """Imports `source` as the data set `out`."""
    code, said = command("import", form, source, "--out", out, *more)
    assert out.exists() == (code == 0), said
    return code, said


def content(file: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(file.read_text())


def masks(out: Path) -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]]:
    """The masks of a data set, uint8 [H, W], by the stem of their names."""
    found = {f.stem: cv2.imread(str(f), cv2.IMREAD_UNCHANGED) for f in sorted((out / "masks").iterdir())}
    assert all(mask is not None and mask.dtype == np.uint8 and mask.ndim == 2 for mask in found.values())
    return {stem: np.asarray(mask, np.uint8) for stem, mask in found.items()}


def areas(out: Path) -> dict[str, dict[int, int]]:
    """The pixels of each class but the background in each mask."""
    return {
        stem: {int(k): int((mask == k).sum()) for k in np.unique(mask) if k} for stem, mask in masks(out).items()
    }


def write_picture(file: Path, height: int = 96, width: int = 120, seed: int = 0) -> Path:
    """Writes a grey picture of noise."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width), np.uint8)
    file.write_bytes(cv2.imencode(file.suffix if file.suffix != ".jfif" else ".jpg", pixels)[1].tobytes())
    return file

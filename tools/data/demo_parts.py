"""Cuts demo parts: crops of 512 x 384 px out of the test split, which no network has seen.

The rule is that of `inspectd_train.data.parts`.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import DataSet, Sample, load
from inspectd_train.data.parts import Crop, cut, find_crops, shown

WIDTH_PX, HEIGHT_PX = 512, 384
SEED = 20260


def write_demo_parts(data: DataSet, folder: Path, of_each: int = 30, most_bytes: int = 10 * 2**20) -> int:
    """Writes at most `of_each` clean and as many defective parts of the test split; returns their number.

    At most one of each kind per picture, pictures drawn evenly over the places they were taken at, names in
    random order, truth in parts.json. UserError when the folder has something in it or the parts are too big.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: already holds files; delete it to cut the parts again")
    samples, rng = load(data, "test", channels=3), np.random.default_rng(SEED)
    parts: list[tuple[Sample, Crop]] = []
    for index in _spread(samples, rng):
        left = {True: of_each, False: of_each}
        for _, crop in parts:
            left[bool(crop.defects)] -= 1
        wanted = min(1, left[False]), min(1, left[True])
        found = find_crops(samples[index].mask, (WIDTH_PX, HEIGHT_PX), *wanted, rng)
        parts += [(samples[index], crop) for crop in found]
    if not parts:
        raise UserError(
            f"{data.folder}: no {WIDTH_PX} x {HEIGHT_PX} px part fits; the test pictures are too small"
        )
    order = rng.permutation(len(parts))
    folder.mkdir(parents=True, exist_ok=True)
    truth = {
        f"part_{n:03}.jpg": _write(folder / f"part_{n:03}.jpg", parts[k][0], parts[k][1], data)
        for n, k in enumerate(order)
    }
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > most_bytes:
        raise UserError(
            f"{folder}: {size / 2**20:.1f} MiB of parts, at most {most_bytes / 2**20:.0f} allowed; ask for fewer"
        )
    (folder / "parts.json").write_text(json.dumps(truth, indent=1) + "\n", "utf-8")
    return len(parts)


def _spread(samples: list[Sample], rng: np.random.Generator) -> list[int]:
    """Orders the indices of all pictures: in turn over the places, each place's at random.

    The place is what the name says after the date (`01_200902093536_585000_090_crop_2` is place 585000_090);
    pictures with another kind of name count as one place.
    """
    places: dict[str, list[int]] = {}
    for index in rng.permutation(len(samples)).tolist():
        words = samples[index].name.split("_")
        places.setdefault("_".join(words[2:4]) if len(words) == 6 else "", []).append(index)
    turns = [[p[turn] for p in places.values() if turn < len(p)] for turn in range(len(samples))]
    return [index for turn in turns for index in turn]


def _write(file: Path, sample: Sample, crop: Crop, data: DataSet) -> dict[str, object]:
    """Writes one part, JPEG quality 95 with full colour resolution; returns its entry in parts.json."""
    part = cut(sample, crop)
    bgr = cv2.cvtColor(part.image, cv2.COLOR_RGB2BGR)
    how = [
        cv2.IMWRITE_JPEG_QUALITY,
        95,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    if not cv2.imwrite(str(file), bgr, how):
        raise UserError(f"{file}: can't be written; check the folder and the free space")
    label = data.classes[max(shown(part))] if crop.defects else "clean"
    boxes = [list(box) for box in crop.defects]
    return {"source": sample.name, "box": list(crop.box), "label": label, "boxes": boxes}

"""Cuts parts, clean or defective, out of large labelled pictures by one fixed rule, unseen by any network.

A part is a crop of 512 x 384 px. Clean: no labelled pixel in it nor within 24 px around it. Defective: it
holds at least one defect, and every defect that touches it lies wholly inside. Crops are drawn at random
places with a fixed seed; nobody picks. What no polygon covers may still be worn, stained or dirty.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.errors import UserError
from tools.dataset import DataSet, Sample, load

WIDTH_PX, HEIGHT_PX = 512, 384
MARGIN_PX = 24
SEED = 20260
TRIES = 400
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Part:
    """A crop: index of its picture, box (x, y, width, height) in it, and the defects' boxes in the crop."""

    sample: int
    box: Box
    defects: tuple[Box, ...]


def find_parts(
    mask: NDArray[np.uint8], sample: int, clean: int, defective: int, rng: np.random.Generator
) -> list[Part]:
    """At most `clean` and `defective` parts of one picture, no two sharing more than half their area."""
    height, width = mask.shape
    if height < HEIGHT_PX or width < WIDTH_PX:
        return []
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
    wanted = {True: clean, False: defective}
    found: list[Part] = []
    for _ in range(TRIES):
        if not any(wanted.values()):
            break
        x, y = int(rng.integers(width - WIDTH_PX + 1)), int(rng.integers(height - HEIGHT_PX + 1))
        part = _judge_box(
            np.asarray(labels, np.int32), np.asarray(stats, np.int32), sample, (x, y, WIDTH_PX, HEIGHT_PX)
        )
        if part is None or wanted[not part.defects] == 0:
            continue
        if all(_shared_area(part.box, other.box) <= WIDTH_PX * HEIGHT_PX // 2 for other in found):
            wanted[not part.defects] -= 1
            found.append(part)
    return found


def _judge_box(labels: NDArray[np.int32], stats: NDArray[np.int32], sample: int, box: Box) -> Part | None:
    """The part at `box`, or None where the rule forbids one."""
    x, y, w, h = box
    around = labels[max(y - MARGIN_PX, 0) : y + h + MARGIN_PX, max(x - MARGIN_PX, 0) : x + w + MARGIN_PX]
    if not around.any():
        return Part(sample, box, ())
    inside = np.flatnonzero(np.bincount(labels[y : y + h, x : x + w].ravel()))
    defects = []
    for left, top, wide, high, _ in stats[inside[inside > 0]].tolist():
        if left < x or top < y or left + wide > x + w or top + high > y + h:
            return None
        defects.append((left - x, top - y, wide, high))
    return Part(sample, box, tuple(defects)) if defects else None


def _shared_area(a: Box, b: Box) -> int:
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(wide, 0) * max(high, 0)


def crop(sample: Sample, part: Part) -> NDArray[np.uint8]:
    """The part's pixels, RGB uint8 [384, 512, 3]."""
    x, y, w, h = part.box
    return np.ascontiguousarray(sample.image[y : y + h, x : x + w])


def write_demo_parts(data: DataSet, folder: Path, of_each: int = 30, most_bytes: int = 10 * 2**20) -> int:
    """Writes at most `of_each` clean and as many defective parts of the test split; returns their number.

    At most one of each kind per picture, pictures drawn evenly over the places they were taken at, names in
    random order, truth in parts.json. UserError when the folder has something in it or the parts are too big.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: already holds files; delete it to cut the parts again")
    samples, rng = load(data, "test"), np.random.default_rng(SEED)
    parts: list[Part] = []
    for index in _spread(samples, rng):
        left = {True: of_each, False: of_each}
        for part in parts:
            left[bool(part.defects)] -= 1
        parts += find_parts(samples[index].mask, index, min(1, left[False]), min(1, left[True]), rng)
    if not parts:
        raise UserError(
            f"{data.folder}: no {WIDTH_PX} x {HEIGHT_PX} px part fits; the test pictures are too small"
        )
    order = rng.permutation(len(parts))
    folder.mkdir(parents=True, exist_ok=True)
    truth = {
        f"part_{n:03}.jpg": _write(folder / f"part_{n:03}.jpg", samples, parts[k], data)
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
    """Indices of all pictures, in turn over the places, each place's in random order.

    The place is what the name says after the date (`01_200902093536_585000_090_crop_2` is place 585000_090);
    pictures with another kind of name count as one place.
    """
    places: dict[str, list[int]] = {}
    for index in rng.permutation(len(samples)).tolist():
        words = samples[index].name.split("_")
        places.setdefault("_".join(words[2:4]) if len(words) == 6 else "", []).append(index)
    turns = [[p[turn] for p in places.values() if turn < len(p)] for turn in range(len(samples))]
    return [index for turn in turns for index in turn]


def _write(file: Path, samples: list[Sample], part: Part, data: DataSet) -> dict[str, object]:
    """Writes one part, JPEG quality 95 with full colour resolution; returns its entry in parts.json."""
    sample = samples[part.sample]
    bgr = cv2.cvtColor(crop(sample, part), cv2.COLOR_RGB2BGR)
    how = [
        cv2.IMWRITE_JPEG_QUALITY,
        95,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    if not cv2.imwrite(str(file), bgr, how):
        raise UserError(f"{file}: can't be written; check the folder and the free space")
    x, y, _, _ = part.box
    label = "clean"
    if part.defects:
        left, top, wide, high = part.defects[0]
        label = data.classes[int(sample.mask[y + top : y + top + high, x + left : x + left + wide].max()) - 1]
    boxes = [list(box) for box in part.defects]
    return {"source": sample.name, "box": list(part.box), "label": label, "boxes": boxes}

"""Shows the worst misses and false calls of an evaluation, as pictures with true and found outlines."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.runtime.frame import Region
from inspectd_train.data.dataset import DONT_CARE, DataSet, Sample, load_sample
from inspectd_train.data.parts import Box, Crop, cut
from inspectd_train.measure.model import Model
from inspectd_train.measure.verdicts import Figures

U8 = NDArray[np.uint8]
SHOWN = 8
"""The number of pictures of each kind."""
LEAST_VIEW_PX, MOST_VIEW_PX = 160, 480
"""The sides of what is shown around a defect or region; it is scaled to VIEW_PX for the page."""
VIEW_PX = 300
TRUTH, FOUND, IGNORED = (38, 190, 60), (235, 40, 40), (150, 150, 150)


@dataclass(frozen=True)
class Card:
    """One picture of the report: what it shows in words, and a JPEG, base64."""

    title: str
    text: str
    jpeg: str


def cards(figures: Figures, data: DataSet, channels: int, model: Model) -> Iterator[tuple[str, list[Card]]]:
    """Yields the kinds in order, each with its worst pictures; pictures are read and scored again."""
    part_px = figures["part_px"]
    bad = [v for v in figures["verdicts"] if v["shows"] and v["verdict"] == "PASS"]
    good = [v for v in figures["verdicts"] if not v["shows"] and v["verdict"] != "PASS"]
    missed = [p for p in figures["picture_defects"] if p["missed"]]
    false = [p for p in figures["picture_defects"] if p["false"]]

    def of_part(v: dict[str, Any], text: str) -> Card:
        part = _part(data, v["name"], part_px, channels)
        jpeg = _view(part, (0, 0, part.mask.shape[1], part.mask.shape[0]), model)
        return Card(f"{v['name']}: {v['verdict']}", f"{text}; highest score {v['score']}/255. {v['detail']}", jpeg)

    def of_picture(p: dict[str, Any], kind: str) -> Card:
        sample, marks = load_sample(data, p["name"], channels), p[kind]
        worst = max(marks, key=lambda m: m.get("area_px", 0) + 255 * m.get("score", 0))
        text = f"{len(marks)} {'missed' if kind == 'missed' else 'false'}; shown: {_in_words(worst)}"
        return Card(p["name"], text, _view(sample, _around(worst["box"], sample.mask), model))

    escapes = sorted(bad, key=lambda v: v["score"])[:SHOWN]
    yield "Escapes", [of_part(v, f"shows {', '.join(v['shows'])}") for v in escapes]
    overkill = sorted(good, key=lambda v: (v["verdict"] != "FAIL", -v["score"]))[:SHOWN]
    yield "Overkill", [of_part(v, "shows no defect") for v in overkill]
    by_area = sorted(missed, key=lambda p: -max(d["area_px"] for d in p["missed"]))[:SHOWN]
    yield "Missed defects", [of_picture(p, "missed") for p in by_area]
    by_score = sorted(false, key=lambda p: (-max(r["score"] for r in p["false"]), -len(p["false"])))[:SHOWN]
    yield "False regions", [of_picture(p, "false") for p in by_score]


def _in_words(mark: dict[str, Any]) -> str:
    size = f"{mark['area_px']} px" if "area_px" in mark else f"score {mark['score']:.2f}"
    return f"{mark['class']}, {size}, at {mark['box'][0]}, {mark['box'][1]}"


def _part(data: DataSet, name: str, part_px: list[int] | None, channels: int) -> Sample:
    """Loads a part as it was judged: a picture, or the crop `PICTURE@x,y` of one."""
    if part_px is None:
        return load_sample(data, name, channels)
    picture, _, place = name.rpartition("@")
    x, y = (int(word) for word in place.split(","))
    return cut(load_sample(data, picture, channels), Crop((x, y, part_px[0], part_px[1]), ()))


def _around(box: Box, mask: U8) -> Box:
    """A view of twice the box's size, inside the picture."""
    x, y, w, h = box
    wide, high = (min(max(2 * side, LEAST_VIEW_PX), of) for side, of in ((w, mask.shape[1]), (h, mask.shape[0])))
    left = min(max(x + w // 2 - wide // 2, 0), mask.shape[1] - wide)
    top = min(max(y + h // 2 - high // 2, 0), mask.shape[0] - high)
    return left, top, wide, high


def _view(sample: Sample, box: Box, model: Model) -> str:
    """Draws what `box` holds of a judged picture, side by side plain and with outlines: JPEG, base64."""
    x, y, w, h = box
    image = np.ascontiguousarray(np.broadcast_to(sample.image, (*sample.mask.shape, 3))[y : y + h, x : x + w])
    scale = min(max(VIEW_PX / max(w, h), VIEW_PX / MOST_VIEW_PX), 4.0)
    size = max(round(w * scale), 1), max(round(h * scale), 1)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    plain = np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
    marked = plain.copy()
    _draw_truth(marked, sample.mask[y : y + h, x : x + w], size)
    _draw_regions(marked, model.regions(sample.image), (x, y), scale)
    pair = np.hstack([plain, np.full((size[1], 4, 3), 255, np.uint8), marked])
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(pair, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return base64.b64encode(jpeg.tobytes()).decode("ascii")


def _draw_truth(image: U8, mask: U8, size: tuple[int, int]) -> None:
    for kind, colour in (((mask > 0) & (mask != DONT_CARE), TRUTH), (mask == DONT_CARE, IGNORED)):
        fine = cv2.resize(kind.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(image, contours, -1, colour, 1, cv2.LINE_AA)


def _draw_regions(image: U8, regions: tuple[Region, ...], origin: tuple[int, int], scale: float) -> None:
    for region in regions:
        outline = np.round((np.array(region.contour) - origin) * scale).astype(np.int32)
        cv2.polylines(image, [outline], True, FOUND, 1, cv2.LINE_AA)
        x, y = outline.min(0).tolist()
        cv2.putText(image, f"{region.score:.2f}", (x, max(y - 4, 9)), cv2.FONT_HERSHEY_SIMPLEX, 0.35, FOUND, 1)

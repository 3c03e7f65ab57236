"""Writes contact sheets: all pictures of a data set, small, regions outlined in the colour of their class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import read_image, write_png
from inspectd_train.data.dataset import DONT_CARE
from inspectd_train.data.sources import shown

Image = NDArray[np.uint8]
T = TypeVar("T")
WIDE, HIGH, BAR = 180, 140, 16
COLUMNS, ROWS = 10, 20
SMALL = 8
"""Regions of fewer thumbnail pixels than this on both sides are framed, or nobody would see them."""
PALETTE = (
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180),
    (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212), (170, 110, 40),
)  # fmt: skip
WHITE = (255, 255, 255)


def colour_of(index: int) -> tuple[int, int, int]:
    """The colour, RGB, of a class index from 1; don't-care is white. Colours repeat after ten classes."""
    return WHITE if index == DONT_CARE else PALETTE[(index - 1) % len(PALETTE)]


def write_sheets(out: Path, pictures: list[tuple[Path, Path]], classes: tuple[str, ...]) -> list[Path]:
    """Writes pages of 200 (picture, mask): OUT.png, OUT-2.png, ...; returns their files."""
    if out.suffix.lower() != ".png":
        raise UserError(f"{out}: a contact sheet is written as PNG; name it .png")
    written = []
    for number, page in enumerate(_batches(pictures, COLUMNS * ROWS), 1):
        file = out if number == 1 else out.with_stem(f"{out.stem}-{number}")
        columns = min(COLUMNS, max(len(page), 4))
        cells = [_cell(image, mask) for image, mask in page]
        cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
        rows = [np.hstack(row) for row in _batches(cells, columns)]
        write_png(file, np.vstack([_legend(classes, columns * WIDE), *rows]))
        written.append(file)
    return written


def thumbnail(image: Image, mask: Image) -> Image:
    """Shrinks a picture uint8 [H, W, C] to RGB of at most 180 x 140 px and outlines its mask's regions."""
    scale = min(WIDE / image.shape[1], HIGH / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    shown = np.array(np.broadcast_to(image, (*image.shape[:2], 3)))
    shown = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST))
    for k in np.unique(mask[mask > 0]).tolist():
        contours, _ = cv2.findContours((mask == k).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for contour in contours:
            points = np.asarray(contour * scale, np.int32)
            cv2.polylines(shown, [points], True, colour_of(k))
            x, y, w, h = cv2.boundingRect(points)
            if max(w, h) < SMALL:
                cv2.rectangle(shown, (x - 4, y - 4), (x + w + 3, y + h + 3), colour_of(k))
    return np.asarray(shown, np.uint8)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cuts a sequence into batches, as itertools.batched does, which Python 3.11 lacks."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _cell(image_file: Path, mask_file: Path) -> Image:
    """Draws one cell of a sheet: thumbnail and file name; a pair that can't be read gets words instead."""
    cell = np.full((HIGH + BAR, WIDE, 3), 24, np.uint8)
    name = shown(image_file.name)
    try:
        image = read_image(image_file)
        mask = read_image(mask_file)[:, :, 0]
        if mask.shape != image.shape[:2]:
            raise ValueError
        small = thumbnail(image, mask)
        cell[: small.shape[0], : small.shape[1]] = small
    except ValueError:
        _write(cell, "see the faults", (8, HIGH // 2), (255, 80, 80))
    _write(cell, name if len(name) <= 29 else f"{name[:13]}...{name[-13:]}", (2, HIGH + 12), WHITE)
    return cell


def _legend(classes: tuple[str, ...], width: int) -> Image:
    """Draws the names of the classes in their colours, in as many lines as they need."""
    lines: list[list[tuple[int, str, tuple[int, int, int]]]] = [[]]
    x = 4
    for k, name in [*enumerate(map(shown, classes), 1), (DONT_CARE, "don't care")]:
        wide = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)[0][0] + 16
        if x + wide > width and lines[-1]:
            lines.append([])
            x = 4
        lines[-1].append((x, name, colour_of(k)))
        x += wide
    legend = np.zeros((BAR * len(lines), width, 3), np.uint8)
    for number, line in enumerate(lines):
        for x, name, colour in line:
            _write(legend, name, (x, BAR * number + 12), colour)
    return legend


def _write(image: Image, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.35, colour, 1, cv2.LINE_AA)

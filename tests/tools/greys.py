"""Made-up pictures for the darkness model of `tests.bundles`: the score of a square is 255 minus its grey."""

import json
from pathlib import Path

import cv2
import numpy as np

Spot = tuple[int, int, int, int, int]
"""x, y, side (px, multiples of 4), score 0..255, class in the mask (0 = nobody labelled it)."""


def write_greys(
    folder: Path,
    splits: dict[str, dict[str, list[Spot]]],
    classes: tuple[str, ...] = ("spot",),
    size: tuple[int, int] = (64, 96),
) -> Path:
    """A data set of white grey-scale PNGs, `size` = (H, W), with the spots; returns `folder`."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for pictures in splits.values():
        for name, spots in pictures.items():
            image, mask = np.full(size, 255, np.uint8), np.zeros(size, np.uint8)
            for x, y, side, score, class_ in spots:
                image[y : y + side, x : x + side] = 255 - score
                mask[y : y + side, x : x + side] = class_
            cv2.imwrite(str(folder / "images" / name), image)
            cv2.imwrite(str(folder / "masks" / name), mask)
    (folder / "classes.json").write_text(json.dumps(dict(enumerate(("background", *classes)))))
    (folder / "split.json").write_text(json.dumps({split: list(names) for split, names in splits.items()}))
    return folder

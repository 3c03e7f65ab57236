"""A small made-up data set: grey metal with scratches (clean) and dark square pits (defects)."""

import json
from pathlib import Path

import cv2
import numpy as np

SPLIT = {"train": 4, "dev": 2, "test": 3}


def write_data_set(folder: Path, height: int = 400, width: int = 1100, pits: int = 3, seed: int = 0) -> Path:
    """Writes a data set of nine pictures, uint8 [height, width, 3], with `pits` pits each; returns `folder`."""
    rng = np.random.default_rng(seed)
    names: dict[str, list[str]] = {}
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for split, count in SPLIT.items():
        names[split] = [f"{split}_{n}.png" for n in range(count)]
        for name in names[split]:
            image = rng.normal(150, 6, (height, width, 3))
            mask = np.zeros((height, width), np.uint8)
            for _ in range(pits):
                side = int(rng.integers(10, 30))
                x, y = int(rng.integers(width - side)), int(rng.integers(height - side))
                image[y : y + side, x : x + side] -= 100
                mask[y : y + side, x : x + side] = 1
            cv2.imwrite(str(folder / "images" / name), image.clip(0, 255).astype(np.uint8))
            cv2.imwrite(str(folder / "masks" / name), mask)
    (folder / "classes.json").write_text(json.dumps({"0": "background", "1": "pitting"}))
    (folder / "split.json").write_text(json.dumps(names))
    return folder

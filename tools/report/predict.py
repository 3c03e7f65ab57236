"""Writes masks and overlays of unlabelled pictures, to be corrected rather than painted.

This is `inspectd-train predict`.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from inspectd.engine.bundle import load_bundle
from inspectd.runtime.channels import with_channels
from inspectd.runtime.errors import UserError
from inspectd.runtime.image_files import image_files, read_image, write_png
from inspectd_train.data.dataset import SMALLEST_PX
from inspectd_train.measure import metrics
from inspectd_train.measure.evaluate import open_model
from inspectd_train.report.draw import draw


def predict(bundle_dir: Path, images: Path, out: Path, recipe: Path | None, threads: int) -> Counter[str]:
    """Writes `out`/masks/NAME.png (class per pixel), overlays/NAME.jpg and classes.json; counts the verdicts.

    `out` may lie beside the pictures' own `images/`: together they are a data set to correct. A picture that
    can't be judged gets no mask and counts as `unreadable`. UserError: no pictures, two whose masks would have one
    name, a mask in the way.
    """
    files = image_files(images) if images.is_dir() else []
    if not files:
        raise UserError(f"{images}: is not a folder with PNG, JPEG, BMP, TIFF or WebP images")
    stems = Counter(file.stem for file in files)
    if twice := [file for file in files if stems[file.stem] > 1]:
        raise UserError(f"{twice[0]}: shares its mask's name with {twice[1].name}; rename one")
    for name in ("masks", "overlays"):
        if (out / name).exists() and any((out / name).iterdir()):
            raise UserError(f"{out / name}: already holds files; move them away, labels shall not be overwritten")
        (out / name).mkdir(parents=True, exist_ok=True)
    bundle = load_bundle(bundle_dir)
    _, model = open_model(bundle, recipe or bundle_dir / "recipe.toml", threads)
    names = {str(k): name for k, name in enumerate(("background", *model.classes))}
    (out / "classes.json").write_text(json.dumps(names, indent=1) + "\n", "utf-8")
    said: Counter[str] = Counter()
    for file in files:
        try:
            image = with_channels(read_image(file), bundle.manifest.channels)
        except ValueError:
            image = np.zeros((0, 0, 1), np.uint8)
        if min(image.shape[:2]) < SMALLEST_PX:
            said["unreadable"] += 1
            continue
        scores, peak = model.score(image)
        judgement = model.judged(scores, peak, image.shape)
        fine = metrics.full_resolution(scores, model.stride, (image.shape[0], image.shape[1]))
        write_png(out / "masks" / f"{file.stem}.png", metrics.class_map(fine, list(model.mask_levels)))
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(draw(image, judgement), cv2.COLOR_RGB2BGR))
        (out / "overlays" / f"{file.stem}.jpg").write_bytes(jpeg.tobytes())
        said[str(judgement.verdict)] += 1
    return said

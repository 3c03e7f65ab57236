"""Draws what the daemon would say of a picture, as in README.

`python -m inspectd_train.report.draw CONFIG IMAGE OUT.png`
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.cli.inspector import Inspector
from inspectd.runtime.frame import Judgement, Verdict
from inspectd.runtime.image_files import read_image, write_png
from inspectd.settings import config

COLOURS = {Verdict.PASS: (40, 160, 60), Verdict.FAIL: (220, 30, 30), Verdict.UNKNOWN: (230, 160, 20)}
BAR_PX = 28


def draw(image: NDArray[np.uint8], judgement: Judgement) -> NDArray[np.uint8]:
    """Draws outline, box and score of each region: picture uint8 [H, W, C] to RGB uint8 [H + 28, W, 3]."""
    colour = COLOURS[judgement.verdict]
    shown = np.array(np.broadcast_to(image, (*image.shape[:2], 3)))
    for region in judgement.regions:
        x, y, w, h = region.bbox
        cv2.polylines(shown, [np.array(region.contour, np.int32)], True, colour, 2, cv2.LINE_AA)
        cv2.rectangle(shown, (x - 4, y - 4), (x + w + 4, y + h + 4), (255, 255, 255), 1)
        _text(shown, f"{region.class_} {region.score:.2f}", (x - 4, y - 10), 0.45, (255, 255, 255))
    bar = np.full((BAR_PX, shown.shape[1], 3), colour, np.uint8)
    _text(bar, f"{judgement.verdict}  {judgement.detail}", (8, 20), 0.55, (255, 255, 255))
    return np.vstack([bar, shown])


def _text(
    image: NDArray[np.uint8], text: str, at: tuple[int, int], size: float, colour: tuple[int, int, int]
) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def main(config_file: str, picture: str, out: str) -> None:
    """Judges one picture by the config's recipe and writes it with what was found."""
    settings = config.load(Path(config_file))
    inspector = Inspector(settings.recipe, settings.config.camera[0], settings.config.engine)
    write_png(Path(out), draw(read_image(Path(picture)), inspector.inspect(Path(picture))))


if __name__ == "__main__":
    main(*sys.argv[1:])

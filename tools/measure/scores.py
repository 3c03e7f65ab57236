"""Opens the daemon's own engine of a bundle, to score the pictures of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inspectd.engine.bundle import Bundle
from inspectd.engine.openvino import open_segmenter, precision_of
from inspectd.runtime.errors import UserError
from inspectd.runtime.slots import Shape
from inspectd_train.data.dataset import DataSet

U8 = NDArray[np.uint8]
Score = Callable[[U8], tuple[U8, U8]]
"""A function from a picture uint8 [H, W, C] to scores uint8 [K, h, w] and peaks uint8 [K]."""


@dataclass(frozen=True)
class BundleEngine:
    """How pictures are scored: the function, what it is in words, and how far it is off the golden scores."""

    score: Score
    description: str
    golden_difference: int


def open_engine(bundle: Bundle, threads: int, wish: Literal["auto", "float"] = "auto") -> BundleEngine:
    """Opens the daemon's engine in the precision that it would choose; BundleError if the golden test fails.

    One engine per picture size, as in the daemon, though it must be compiled (m: 80 ms for CSNet-S). One engine
    of variable size for all would be quicker where each picture has its own size, but in bf16 it gives 0.1 % of
    the cells other scores, up to 9/255 off (m: magtile, bsdata).
    """
    segmenter = open_segmenter(bundle, threads, wish)
    precision = precision_of(segmenter.compile(Shape(*bundle.golden[0].image.shape)))
    plural = "s" if threads > 1 else ""
    words = f"OpenVINO, {precision}, {threads} thread{plural}"
    return BundleEngine(segmenter.segment, words, segmenter.golden_difference)


def check_classes(bundle: Bundle, data: DataSet) -> None:
    """Raises UserError unless bundle and data set name the same classes in the same order."""
    if tuple(bundle.manifest.classes) != data.classes:
        raise UserError(
            f"{bundle.path}: knows {bundle.manifest.classes}, {data.folder} has {list(data.classes)}; "
            "they must agree in names and order"
        )

"""Adds up figures of pixels and of cells over pictures of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspectd_train.data.dataset import DONT_CARE
from inspectd_train.measure import metrics
from inspectd_train.net.targets import cell_fractions

U8 = NDArray[np.uint8]
NAMED_PICTURES = 5
"""How many pictures are named behind each cell of the confusion matrix."""
CURVE_POINTS = 100


class Areas:
    """Histograms of scores and the confusion of classes, at full resolution and on the network's grid."""

    def __init__(self, classes: tuple[str, ...], stride: int, mask_levels: tuple[int, ...]) -> None:
        self.classes, self.stride, self.levels = classes, stride, list(mask_levels)
        size = 1 + len(classes)
        self.names: list[str] = []
        self.any_pixel = metrics.empty()
        """The histogram of the highest score over the classes, against any defect."""
        self.pixels = [metrics.empty() for _ in classes]
        self.cells = [metrics.empty() for _ in classes]
        self.confusions: list[NDArray[np.int64]] = []
        """The confusion of pixels, one matrix per picture, [true, found], background first."""
        self.cell_confusion = np.zeros((size, size), np.int64)

    def add(self, name: str, scores: U8, mask: U8) -> None:
        """Adds one picture: scores uint8 [K, h, w], mask uint8 [H, W]."""
        self.names.append(name)
        fine = metrics.full_resolution(scores, self.stride, (mask.shape[0], mask.shape[1]))
        care = mask != DONT_CARE
        self.any_pixel += metrics.histogram(fine.max(0), mask > 0, care)
        for k, of_class in enumerate(fine):
            self.pixels[k] += metrics.histogram(of_class, mask == k + 1, care)
        found = metrics.class_map(fine, self.levels)
        self.confusions.append(metrics.confusion(mask, found, care, len(self.classes)))
        self._add_cells(scores, mask)

    def _add_cells(self, scores: U8, mask: U8) -> None:
        """Adds one picture's cells, each of the class, or background, that covers most of what is known."""
        share, care = cell_fractions(mask, len(self.classes), self.stride)
        truth = np.concatenate([(care - share.sum(0))[None], share]).argmax(0).astype(np.uint8)
        for k, of_class in enumerate(scores):
            self.cells[k] += metrics.histogram(of_class, truth == k + 1, care > 0)
        found = metrics.class_map(scores, self.levels)
        self.cell_confusion += metrics.confusion(truth, found, care > 0, len(self.classes))

    def figures(self) -> dict[str, Any]:
        """Computes all figures; None where one is undefined."""
        size = 1 + len(self.classes)
        total = sum(self.confusions, np.zeros((size, size), np.int64))
        fine, coarse = self._per_class(total, self.pixels), self._per_class(self.cell_confusion, self.cells)
        background = metrics.iou_and_f1(total, 0)[0]
        coarse_background = metrics.iou_and_f1(self.cell_confusion, 0)[0]
        ious, coarse_ious = [f["iou"] for f in fine.values()], [f["iou"] for f in coarse.values()]
        return {
            "miou": metrics.mean(ious),
            "miou_bg": metrics.mean([background, *ious]),
            "pixel_ap": metrics.average_precision(self.any_pixel),
            "per_class": {n: fine[n] | {f"coarse_{key}": v for key, v in coarse[n].items()} for n in self.classes},
            "coarse": {
                "stride_px": self.stride,
                "miou": metrics.mean(coarse_ious),
                "miou_bg": metrics.mean([coarse_background, *coarse_ious]),
            },
            "confusion": {
                "classes": ["background", *self.classes],
                "pixels": total.tolist(),
                "pictures": self._behind(),
            },
            "precision_recall": {
                name: _thinned(metrics.precision_recall(c))
                for name, c in zip(self.classes, self.pixels, strict=True)
            },
        }

    def _per_class(self, matrix: NDArray[np.int64], counts: list[metrics.Histogram]) -> dict[str, dict[str, Any]]:
        """Computes IoU, F1 and AP of each class."""
        found = {}
        for k, name in enumerate(self.classes):
            # a class that no picture shows has no IoU: a single false pixel would make it 0
            iou, f1 = metrics.iou_and_f1(matrix, k + 1) if matrix[k + 1].any() else (None, None)
            found[name] = {"iou": iou, "f1": f1, "ap": metrics.average_precision(counts[k])}
        return found

    def _behind(self) -> dict[str, list[dict[str, Any]]]:
        """Finds for each cell `true > found` off the diagonal the pictures with most of its pixels."""
        names = ["background", *self.classes]
        stack = np.stack(self.confusions) if self.confusions else np.zeros((0, len(names), len(names)), np.int64)
        found = {}
        for i, true in enumerate(names):
            for j, called in enumerate(names):
                worst = np.argsort(-stack[:, i, j], kind="stable")[:NAMED_PICTURES]
                rows = [{"name": self.names[n], "pixels": int(stack[n, i, j])} for n in worst if stack[n, i, j]]
                if i != j and rows:
                    found[f"{true} > {called}"] = rows
        return found


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keeps at most CURVE_POINTS + 1 of the points, the last one always."""
    step = -(-len(points) // CURVE_POINTS) or 1
    return [*points[::step], *points[-1:]] if len(points) > CURVE_POINTS else points

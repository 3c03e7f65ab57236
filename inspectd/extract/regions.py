"""Score map -> regions: connected components of suspicious cells, measured."""

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from inspectd.extract.plan import NO_ZONE, U8, Plan
from inspectd.extract.polygons import F64, contains
from inspectd.runtime.frame import Region

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
MAX_CONTOUR_POINTS = 64


class Extraction(NamedTuple):
    """Regions of a score map. `truncated`: there were more than `plan.max_regions`; the largest are described."""

    regions: tuple[Region, ...] = ()
    truncated: bool = False


class _Measures(NamedTuple):
    """Measures of the regions of one class, index 0 = the first region; lengths in cells of the coarse grid."""

    labels: I32  # [h, w] of a window of the map, region + 1
    origin: tuple[int, int]  # x, y of the window
    first: I64  # [n, 2] x, y of the first cell of its box, in the window
    last: I64  # [n, 2] behind the last cell
    cells: I64  # [n]
    peaks: F64  # [n] highest score, 0..255
    sums: F64  # [n] sum of the scores, 0..255 each
    centres: F64  # [n, 2] x, y in px of the full sensor image, score weighted


def extract_regions(scores: U8, peak: U8, plan: Plan) -> Extraction:
    """Find the regions of a score map.

    scores: uint8 [K, h, w], 255 = certain; peak: uint8 [K], the highest score of each class.
    Cells at or above `suspect`, 8-connected, form regions; ranked by score x area, largest first.
    """
    suspicious = np.flatnonzero(peak >= plan.lowest)
    if not suspicious.size:
        return Extraction()
    measured = [(int(k), _measure(scores[k], int(k), plan)) for k in suspicious]
    ranked = sorted(
        ((float(m.peaks[i] * m.sums[i]), k, i) for k, m in measured for i in range(len(m.cells))),
        reverse=True,
    )
    by_class = dict(measured)
    kept = ranked[: plan.max_regions]
    return Extraction(tuple(_describe(by_class[k], i, k, plan) for _, k, i in kept), len(ranked) > len(kept))


def _measure(scores: U8, k: int, plan: Plan) -> _Measures:
    """Measure all regions of one class at once; only their surrounding rectangle is labelled."""
    mask = cv2.compare(scores, plan.floor[k], cv2.CMP_GT)
    x0, y0, width, height = cv2.boundingRect(mask)
    window = slice(y0, y0 + height), slice(x0, x0 + width)
    n, found = cv2.connectedComponents(mask[window], connectivity=8) if width else (1, np.zeros((0, 0)))
    labels = np.asarray(found, np.int32)
    y, x = np.nonzero(labels)
    label = labels[y, x].astype(np.int64) - 1
    score = scores[window][y, x].astype(np.float64)
    sums = np.bincount(label, score, n - 1).astype(np.float64)
    places = plan.columns[x + x0], plan.rows[y + y0]
    centres = [np.bincount(label, score * place, n - 1) / sums for place in places]
    return _Measures(
        labels,
        (x0, y0),
        np.stack([_extreme(np.minimum, label, axis, n - 1) for axis in (x, y)], axis=1),
        np.stack([_extreme(np.maximum, label, axis, n - 1) + 1 for axis in (x, y)], axis=1),
        np.bincount(label, minlength=n - 1),
        _extreme(np.maximum, label, score, n - 1),
        sums,
        np.stack(centres, axis=1),
    )


def _extreme(which: np.ufunc, label: I64, values: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """The smallest or largest value of each label, [n]."""
    result = np.full(n, np.iinfo(np.int32).max if which is np.minimum else 0, values.dtype)
    which.at(result, label, values)
    return result


def _describe(m: _Measures, i: int, k: int, plan: Plan) -> Region:
    left, top, width, height = plan.rect
    stride = plan.stride
    (fx, fy), (lx, ly) = m.first[i].tolist(), m.last[i].tolist()
    outline = _outline(m.labels[fy:ly, fx:lx] == i + 1)
    x0, y0 = (m.origin[0] + fx) * stride, (m.origin[1] + fy) * stride
    x1, y1 = min((m.origin[0] + lx) * stride, width), min((m.origin[1] + ly) * stride, height)
    centre = float(m.centres[i, 0]), float(m.centres[i, 1])
    area_px = stride * stride * float(m.sums[i]) / 255
    length_px = _length(outline) * stride
    area_mm2 = length_mm = None
    if plan.scale is not None:
        area_mm2, length_mm = area_px * plan.scale[0] * plan.scale[1], _length(outline, plan.scale) * stride
    contour = np.minimum(_thinned(outline) * stride + stride // 2 + (x0, y0), (width - 1, height - 1))
    return Region(
        class_=plan.classes[k],
        score=round(float(m.peaks[i]) / 255, 6),
        mean_score=round(float(m.sums[i] / m.cells[i]) / 255, 4),
        bbox=(left + x0, top + y0, x1 - x0, y1 - y0),
        centroid=(round(centre[0], 1), round(centre[1], 1)),
        area_px=round(area_px, 1),
        length_px=round(length_px, 1),
        contour=[(left + px, top + py) for px, py in contour.tolist()],
        zone=_zone_of(centre, plan),
        area_mm2=area_mm2,
        length_mm=length_mm,
    )


def _outline(mask: npt.NDArray[np.bool_]) -> I32:
    """Points on the outer border of the one component in `mask`: x, y of cells, [n, 2]."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return contours[0].reshape(-1, 2).astype(np.int32)


def _length(outline: I32, scale: tuple[float, float] = (1.0, 1.0)) -> float:
    """Maximum Feret diameter, from outer edge to outer edge along that direction.

    scale: width and height of a cell, in the unit of the result.
    """
    hull = cv2.convexHull(outline).reshape(-1, 2).astype(np.float64)
    corners = (hull[:, None] + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])).reshape(-1, 2)
    difference = (corners[:, None] - corners[None]) * scale
    return float(np.sqrt((difference**2).sum(axis=2).max()))


def _thinned(contour: I32) -> I32:
    """The points of a contour, thinned evenly to at most MAX_CONTOUR_POINTS."""
    step = -(-len(contour) // MAX_CONTOUR_POINTS)
    return contour[::step]


def _zone_of(centre: tuple[float, float], plan: Plan) -> str:
    for name, polygon in plan.zones:
        if contains(polygon, *centre):
            return name
    return NO_ZONE

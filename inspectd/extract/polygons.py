"""Tests of points and cells against polygons, exact: what is ignored must not reach a pixel too far."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Points = Sequence[tuple[float, float]]


def contains(polygon: Points, x: Any, y: Any) -> Bools:
    """Whether the points x, y (numbers, or arrays that broadcast) lie inside, by the even-odd rule."""
    inside = np.zeros(np.broadcast(x, y).shape, bool)
    for (ax, ay), (bx, by) in _edges(polygon):
        if ay != by:
            crosses = (ay > y) != (by > y)
            with np.errstate(over="ignore"):  # overflows far beyond a nearly level edge, which then does not cross
                at = ax + (np.asarray(y) - ay) * (bx - ax) / (by - ay)
            inside ^= crosses & (x < at)
    return inside


def cells_inside(polygon: Points, lefts: F64, rights: F64, tops: F64, bottoms: F64) -> Bools:
    """Which cells lie wholly in the polygon, bool [h, w]: their centres do, and no edge runs through them.

    lefts, rights: [w] borders of the columns; tops, bottoms: [h] of the rows.
    """
    inside = contains(polygon, ((lefts + rights) / 2)[None, :], ((tops + bottoms) / 2)[:, None])
    for (ax, ay), (bx, by) in _edges(polygon):
        enter_x, leave_x = _within(ax, bx - ax, lefts, rights)
        enter_y, leave_y = _within(ay, by - ay, tops, bottoms)
        enter = np.maximum(enter_x[None, :], enter_y[:, None])
        leave = np.minimum(leave_x[None, :], leave_y[:, None])
        inside &= ~(np.maximum(enter, 0) < np.minimum(leave, 1))
    return inside


def _edges(polygon: Points) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return list(zip(polygon, [*polygon[1:], polygon[0]], strict=True))


def _within(start: float, step: float, low: F64, high: F64) -> tuple[F64, F64]:
    """Interval of t in which start + t * step lies between low and high (Liang and Barsky, 1984)."""
    if step == 0:
        between = (low < start) & (start < high)
        return np.where(between, -np.inf, np.inf), np.where(between, np.inf, -np.inf)
    a, b = (low - start) / step, (high - start) / step
    return np.minimum(a, b), np.maximum(a, b)

"""A picture with what was found in it drawn: regions, zones, what is ignored, the limits and the verdict."""

from collections.abc import Iterable

import cv2
import numpy as np

from inspectd.extract.plan import U8, Plan
from inspectd.judge.verdict import counts
from inspectd.runtime.channels import with_channels
from inspectd.runtime.frame import Judgement, Region, Verdict
from inspectd.settings.recipe import Limits, View

Colour = tuple[int, int, int]
VERDICTS = {Verdict.PASS: (40, 160, 60), Verdict.FAIL: (220, 30, 30), Verdict.UNKNOWN: (230, 160, 20)}
DEFECT, DOUBT, SMALL, ZONE, WHITE, BACK = (
    (220, 30, 30), (230, 160, 20), (150, 150, 150), (20, 130, 170), (255, 255, 255), (40, 40, 40)
)  # fmt: skip
FONT, SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
LINE_PX = 17
MIN_WIDTH_PX = 320
"""Smaller pictures are widened: words need room."""
EMPTY_PX = 240, MIN_WIDTH_PX
"""Height and width of what is drawn where there is no picture."""


def overlay(picture: U8 | str, name: str, judgement: Judgement, plan: Plan, view: View) -> U8:
    """Draw a judgement: RGB uint8 [H + a few lines, at least W, 3].

    picture: uint8 [H, W, C], of the whole sensor, or why there is none; name: of the picture; plan and view: what
    it was judged by.
    """
    if isinstance(picture, str):
        shown = np.full((*EMPTY_PX, 3), BACK, np.uint8)
    else:
        shown = _looked_at(with_channels(picture, 3).copy(), plan, view)
        for region in judgement.regions:
            _draw_region(shown, region, plan)
    wide = np.full((shown.shape[0], max(shown.shape[1], MIN_WIDTH_PX), 3), BACK, np.uint8)
    wide[:, : shown.shape[1]] = shown
    said = judgement.detail or str(judgement.reason)
    head = _bar([f"{judgement.verdict}  {name}", said], wide.shape[1], VERDICTS[judgement.verdict])
    return np.vstack([head, wide, _bar(_limits(plan), wide.shape[1], BACK)])


def _looked_at(shown: U8, plan: Plan, view: View) -> U8:
    """Darken what is not judged, and draw the zones."""
    x, y, width, height = plan.rect
    dark = np.ones(shown.shape[:2], bool)
    dark[y : y + height, x : x + width] = False
    covered = np.zeros(shown.shape[:2], np.uint8)
    for polygon in view.ignore:
        cv2.fillPoly(covered, [_points(polygon)], 1)
    shown[dark | (covered > 0)] //= 2
    for polygon in view.ignore:
        cv2.polylines(shown, [_points(polygon)], True, SMALL, 1, cv2.LINE_AA)
    for zone, points in plan.zones:
        cv2.polylines(shown, [_points(points)], True, ZONE, 1, cv2.LINE_AA)
        left, top = _points(points).min(axis=0).clip(0)
        _label(shown, zone, (left, top + LINE_PX), ZONE)
    return shown


def _points(polygon: Iterable[tuple[float, float]]) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    return np.array([(round(x), round(y)) for x, y in polygon], np.int32).reshape(-1, 2)


def _draw_region(shown: U8, region: Region, plan: Plan) -> None:
    limits = plan.limits[region.zone, region.class_]
    colour = DEFECT if region.score >= limits.reject else DOUBT
    if not counts(region, plan):
        colour = SMALL
    x, y, width, height = region.bbox
    cv2.polylines(shown, [_points(region.contour)], True, colour, 2, cv2.LINE_AA)
    cv2.rectangle(shown, (x - 3, y - 3), (x + width + 3, y + height + 3), WHITE, 1)
    size = f"{region.area_px:.0f} px, long {region.length_px:.0f} px"
    if region.area_mm2 is not None and region.length_mm is not None:
        size = f"{region.area_mm2:.3g} mm2, long {region.length_mm:.3g} mm"
    is_high = y >= LINE_PX
    _label(
        shown, f"{region.class_} {region.score:.2f}", (x - 3, y - 4 if is_high else y + height + LINE_PX), colour
    )
    _label(shown, size, (x - 3, y + height + LINE_PX * (1 if is_high else 2) + 3), BACK)


def _limits(plan: Plan) -> list[str]:
    """The limits of each class and zone, a line each."""
    return [
        f"{name}{f' in zone {zone}' if zone else ''}: {_limit_words(limits)}"
        for (zone, name), limits in plan.limits.items()
    ]


def _limit_words(limits: Limits) -> str:
    words = [f"suspect {limits.suspect:g}, reject {limits.reject:g}, at most {limits.max_count}"]
    bounds = (
        ("from", limits.min_area_px or None, "px"), ("from", limits.min_area_mm2, "mm2"),
        ("up to", limits.max_area_px, "px"), ("up to", limits.max_area_mm2, "mm2"),
        ("up to", limits.max_length_px, "px long"), ("up to", limits.max_length_mm, "mm long"),
    )  # fmt: skip
    words += [f"{how} {bound:g} {unit}" for how, bound, unit in bounds if bound is not None]
    return ", ".join(words)


def _bar(texts: list[str], width: int, colour: Colour) -> U8:
    lines = [line for text in texts for line in _wrapped(text, width - 12)]
    bar = np.full((len(lines) * LINE_PX + 8, width, 3), colour, np.uint8)
    for i, line in enumerate(lines):
        _write(bar, line, (6, (i + 1) * LINE_PX))
    return bar


def _wrapped(text: str, width_px: int) -> list[str]:
    """A text in lines of at most so many pixels; a word that is longer is cut."""
    lines = [""]
    for word in _plain(text).split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and _width_of(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _width_of(text: str) -> int:
    (width, _), _ = cv2.getTextSize(_plain(text), FONT, SIZE, 1)
    return int(width)


def _plain(text: str) -> str:
    """The text in ASCII, which is all that OpenCV can draw: half a character crashes it."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _write(image: U8, text: str, at: tuple[int, int]) -> None:
    cv2.putText(image, _plain(text), at, FONT, SIZE, WHITE, 1, cv2.LINE_AA)


def _label(image: U8, text: str, at: tuple[int, int], colour: Colour) -> None:
    """Write a text on a ground of its own, whose lower left is at `at`, or where it just fits into the picture."""
    height, width = image.shape[:2]
    x = max(0, min(int(at[0]), width - _width_of(text) - 4))
    y = max(LINE_PX, min(int(at[1]), height - 1))
    cv2.rectangle(image, (x, y - LINE_PX + 2), (x + _width_of(text) + 4, y), colour, cv2.FILLED)
    _write(image, text, (x + 2, y - 4))

"""Thresholds as numbers of a recipe: levels of 8-bit scores become scores from 0 to 1."""

from __future__ import annotations

import math

from inspectd.settings.recipe import Limits

DEADLINE_MS = 250
"""The deadline that a recipe of this tool states; nothing that is measured here depends on it."""


def as_score(level: int) -> float:
    """Makes a score of three decimals that exactly the levels from `level` (1..255) on reach."""
    return math.floor(1000 * level / 255) / 1000


def limits_as_dict(limits: Limits) -> dict[str, float]:
    """Turns limits into a dict for JSON and the report."""
    return {"suspect": limits.suspect, "reject": limits.reject, "min_area_px": limits.min_area_px}

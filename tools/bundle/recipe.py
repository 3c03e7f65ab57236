"""Writes a recipe.toml in words that an engineer at the line can edit."""

from __future__ import annotations

import json
from typing import Any

import tomlkit

from inspectd.settings.recipe import Limits
from inspectd_train.measure.limits import DEADLINE_MS, limits_as_dict

HEAD = "# Recipe chosen on the dev pictures by `inspectd-train calibrate` for "


def recipe_text(limits: dict[str, Limits], wish: str, old: str = "") -> str:
    """The text of a recipe.toml for the bundle, with a comment on each key for the engineer at the line.

    An `old` one, which must be valid, keeps all but the three thresholds of each class.
    """
    return _with_thresholds(old, limits, wish) if old else _new(limits, wish)


def _with_thresholds(old: str, limits: dict[str, Limits], wish: str) -> str:
    recipe = tomlkit.parse(old)
    tables: Any = recipe["limits"]
    for name in set(tables) - set(limits):
        del tables[name]
    for name, chosen in limits.items():
        tables.setdefault(name, tomlkit.table()).update(limits_as_dict(chosen))
    lines = tomlkit.dumps(recipe).splitlines()
    return "".join(f"{HEAD}{wish}.\n" if line.startswith(HEAD) else f"{line}\n" for line in lines)


def _new(limits: dict[str, Limits], wish: str) -> str:
    lines = [
        f"{HEAD}{wish}.",
        "# Scores run from 0 to 1. A part without a region that counts passes; report.html says how often that",
        "# was right.",
        'model = "."              # the bundle\'s folder, relative to this file',
        f"deadline_ms = {DEADLINE_MS}        # the result is due this long after the trigger",
        "",
        "[image]",
        "refuse_identical = true  # a picture equal to the last one: a frozen camera, nobody saw the part",
    ]
    for name, chosen in limits.items():
        lines += [
            "",
            f"[limits.{_key(name)}]",
            f"suspect = {chosen.suspect:<10g}     # cells from here on form regions; lower finds and ejects more",
            f"reject = {chosen.reject:<10g}      # a region that reaches it is a defect, a lower one a doubt",
            f"min_area_px = {chosen.min_area_px:<10.1f} # smaller regions (area weighted by score) do not count",
        ]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    """A class name as a TOML key; names with blanks or points are quoted."""
    bare = name.isascii() and name.replace("-", "a").replace("_", "a").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)

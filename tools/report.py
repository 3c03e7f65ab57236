"""report.md of a bundle: the figures of report.json in words, with the commands that reproduce them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
CAVEATS = "## Caveats"


def render(figures: Figures, file: Path) -> None:
    """Writes the report; a `## Caveats` section that somebody wrote at its end stays as it is."""
    old = file.read_text("utf-8") if file.is_file() else ""
    caveats = old[old.index(CAVEATS) :] if CAVEATS in old else f"{CAVEATS}\n\nNone written yet.\n"
    lines = [f"# {figures['bundle']}: what it can do", ""]
    lines += [
        f"Measured with {figures['engine']} and the daemon's own region and judging code on the test split of "
        f"`{figures['split']}` ({figures['test']['pictures']} pictures), which was used for nothing else. "
        f"Thresholds come from the dev split. Golden images: scores within {figures['golden_difference']}/255 "
        "of ONNX Runtime fp32.",
        "",
    ]
    lines += _limits_table(figures["limits"]) + _parts_table(figures) + _choices_table(figures["dev"])
    lines += _area_table(figures["test"])
    found, missed = figures["test"]["defects"]["found"], figures["test"]["defects"]["missed"]
    lines += [
        f"Defects in whole test pictures: {found} of {found + missed} found at `suspect`, "
        f"{figures['test']['defects']['false_regions']} regions beside any label "
        f"({figures['test']['defects']['false_per_mpixel']:.2f} per megapixel).",
        "",
        "## Reproduce",
        "",
        "```",
        "inspectd-train parts DATASET BUNDLE/parts",
        "inspectd-train train DATASET --out RUN --minutes MINUTES",
        "inspectd-train export RUN DATASET BUNDLE",
        "inspectd-train evaluate BUNDLE DATASET",
        "```",
        "",
        f"Each with `--split {figures['split']}`; the settings of the training are in `manifest.json`.",
        "",
    ]
    file.write_text("\n".join(lines) + "\n" + caveats, "utf-8")


def wilson(hits: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, J. Am. Stat. Assoc. 22, 1927); (0, 1) of nothing."""
    if total == 0:
        return 0.0, 1.0
    z, p = 1.959964, hits / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _limits_table(limits: dict[str, dict[str, float]]) -> list[str]:
    lines = ["| class | suspect | reject | min_area_px |", "|-|-|-|-|"]
    for name, own in limits.items():
        lines.append(f"| {name} | {own['suspect']:g} | {own['reject']:g} | {own['min_area_px']:g} |")
    return [*lines, ""]


def _parts_table(figures: Figures) -> list[str]:
    lines = [
        "## Parts",
        "",
        "A part is a crop of 512 x 384 px. Escape: defective, passed. Overkill: clean, not passed (failed or "
        "undecided). In brackets: 95 % interval (Wilson) as if parts were independent.",
        "",
        "| parts | clean | defective | escapes | overkill | of them undecided | defective undecided |",
        "|-|-|-|-|-|-|-|",
    ]
    rows = [("dev (thresholds chosen here)", figures["dev"]["parts"]), ("test", figures["test"]["parts"])]
    rows += [("demo, of the test split", figures["demo"])] if figures["demo"] else []
    for name, p in rows:
        cells = [name, str(p["clean"]), str(p["defective"]), _share(p["escapes"], p["defective"])]
        cells += [_share(p["overkill"], p["clean"]), _share(p["undecided_clean"], p["clean"])]
        lines.append("| " + " | ".join([*cells, _share(p["undecided_defective"], p["defective"])]) + " |")
    wrong = figures["demo"]["misjudged"] if figures["demo"] else {}
    lines += [""] + [f"- `parts/{name}`: {kind.replace('_', ', ')}" for name, kind in sorted(wrong.items())]
    return [*lines, ""] if wrong else lines


def _choices_table(dev: Figures) -> list[str]:
    lines = [
        "What the dev parts offer instead: for each number of escapes, the thresholds that eject the fewest clean "
        "parts (failed or undecided).",
        "",
        "| class | escapes | clean ejected | suspect | min_area_px |",
        "|-|-|-|-|-|",
    ]
    for name, choices in dev["choices"].items():
        for c in choices:
            cells = f"{c['escapes']} | {c['clean_ejected']} | {c['suspect']:g} | {c['min_area_px']:g}"
            lines.append(f"| {name} | {cells} |")
    return [*lines, ""]


def _area_table(test: Figures) -> list[str]:
    lines = [
        "## Pixels and cells (test)",
        "",
        "IoU, precision, recall and F1 at the score (of 255) with the best F1 on dev's cells.",
        "",
        "| class | over | AP | IoU | precision | recall | F1 | at |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for over, title in (("pixels", "pixels, full resolution"), ("cells", "cells of 4 x 4 px")):
        for name, f in test[over].items():
            values = " | ".join(f"{f[key]:.3f}" for key in ("ap", "iou", "precision", "recall", "f1"))
            lines.append(f"| {name} | {title} | {values} | {f['level']} |")
    return [*lines, ""]


def _share(count: int, total: int) -> str:
    low, high = wilson(count, total)
    return f"{count} ({100 * low:.1f}–{100 * high:.1f} %)"

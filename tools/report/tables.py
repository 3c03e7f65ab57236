"""Composes the tables of the report: defects, pixels, confusion, exported graphs, training."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from inspectd_train.measure.verdicts import Figures
from inspectd_train.report.curves import line_chart


def defects(figures: Figures) -> str:
    """The table of defects found and missed, by class, size and width."""
    found = figures["defects"]
    head = ["", "defects", "found", "missed", "recall", "called by their class", "area found / labelled"]
    rows = [_defect_row("all", found)]
    rows += [_defect_row(name, own) for name, own in found["by_class"].items()]
    rows += [_defect_row(f"size {name}", own) for name, own in found["by_size"].items() if own["defects"]]
    rows += [_defect_row(f"width {name}", own) for name, own in found["by_width"].items() if own["defects"]]
    at = ", ".join(f"{percent(v)} at {k}" for k, v in figures["defect_recall_at_false"].items())
    return (
        "<h2>Labelled defects</h2>"
        + table(head, rows)
        + f"<p>{found['false']} regions lie beside any label, {number(figures['false_regions_per_picture'])} per "
        "picture. Size: square root of the area. Width: of the largest disc inside. Read off the curve above, "
        f"recall at so many false regions per picture: {at}.</p>"
    )


def _defect_row(name: str, own: dict[str, Any]) -> list[Any]:
    counts = [own["defects"], own["found"], own["missed"], percent(own["recall"]), own["named"]]
    return [name, *counts, "-" if own["area_ratio"] is None else f"{own['area_ratio']:.2f}"]


def pixels(figures: Figures) -> str:
    """The table of IoU, F1 and AP per class."""
    keys = ("iou", "f1", "ap", "coarse_iou", "coarse_f1", "coarse_ap")
    rows = [
        [name, figures["mask_levels"][name], *(number(own[key]) for key in keys)]
        for name, own in figures["per_class"].items()
    ]
    coarse = figures["coarse"]
    stride = f"{coarse['stride_px']}-px grid"
    head = ["class", "from score", "IoU", "F1", "AP", f"IoU, {stride}", f"F1, {stride}", f"AP, {stride}"]
    return (
        "<h2>Pixels</h2>"
        + table(head, rows)
        + f"<p>Mean IoU of the defect classes {number(figures['miou'])}, with background "
        f"{number(figures['miou_bg'])}; on the {stride} {number(coarse['miou'])} and {number(coarse['miou_bg'])}. "
        f"AP of all defects together {number(figures['pixel_ap'])}.</p>"
    )


def confusion(figures: Figures) -> str:
    """The matrix of classes, labelled and found, and the pictures behind its cells."""
    names, pixels = figures["confusion"]["classes"], figures["confusion"]["pixels"]
    rows = [[true, *(f"{n:,}" for n in row)] for true, row in zip(names, pixels, strict=True)]
    html = "<h2>Confusion, pixels</h2>" + table(["labelled, found as:", *names], rows)
    cells = figures["confusion"]["pictures"]
    ranked = sorted(cells.items(), key=lambda item: -sum(row["pixels"] for row in item[1]))
    items = [
        f"<li><b>{escape(cell)}</b>: "
        + ", ".join(f"{escape(r['name'])} ({r['pixels']:,})" for r in rows)
        + "</li>"
        for cell, rows in ranked
    ]
    return html + f'<p>Pictures behind the cells (labelled &gt; found):</p><ul class="small">{"".join(items)}</ul>'


def parity(manifest: dict[str, Any]) -> str:
    """The figures that the export found per graph, and whether INT8 is used; empty for an old bundle."""
    found = manifest.get("parity")
    if not isinstance(found, dict) or not isinstance(found.get("graphs"), dict):
        return ""
    graphs = {"trained network": found.get("reference", {})} | found["graphs"]
    keys = list(dict.fromkeys(key for own in graphs.values() for key, value in own.items() if _short(value)))
    rows = [[name, *(_any(own.get(key)) for key in keys)] for name, own in graphs.items()]
    html = f"<h2>Exported graphs on {found.get('parts', '?')} dev parts</h2>"
    html += table(["", *(key.replace("_", " ") for key in keys)], rows)
    int8 = manifest.get("int8") or {}
    reason = f": {int8['reason']}" if int8.get("reason") else ""
    return html + f"<p>INT8 is {'used' if int8.get('usable') else 'not used'}{escape(reason)}.</p>"


def _short(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def training(run: dict[str, Any]) -> str:
    """The chart of all figures that the checks on dev gave, over minutes; empty for less than two checks."""
    checks = [c for c in run.get("checks", []) if isinstance(c, dict) and "minutes" in c]
    if len(checks) < 2:
        return ""
    shown = [k for k in checks[0] if k not in ("minutes", "step", "loss") and 0 <= float(checks[0][k]) <= 1]
    series = {key: [(c["minutes"], float(c[key])) for c in checks if key in c] for key in shown}
    chart = line_chart(series, ("minutes", "figure on dev"), (0, checks[-1]["minutes"]), (0, 1))
    return f"<h2>Training</h2>{chart}<p class='small'>Checks on dev; the best score is what was kept.</p>"


def reproduce(figures: Figures, manifest: dict[str, Any]) -> str:
    """The command that measures the same again, and what it ran on."""
    part = "whole" if figures["part_px"] is None else "{}x{}".format(*figures["part_px"])
    recipe = "" if figures["recipe"] == "recipe.toml" else f" --recipe {figures['recipe']}"
    command = (
        f"inspectd-train evaluate BUNDLE DATASET --split {figures['split']} --part {part} "
        f"--split-file {figures['split_file']}{recipe}"
    )
    trained = json.dumps(manifest.get("trained", {}), indent=1)
    return (
        f"<h2>Reproduce</h2><pre>{escape(command)}</pre><p>Split file {escape(figures['split_file'])}. "
        f"Graph (fp32) SHA-256 <code>{escape(figures['graph_sha256'])}</code>. From the manifest:</p>"
        f"<details><summary>how it was trained</summary><pre>{escape(trained)}</pre></details>"
    )


def table(head: list[str], rows: list[list[Any]]) -> str:
    """An HTML table; its cells are escaped."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def number(value: float | None) -> str:
    """A figure with three decimals, or that it is not known."""
    return "not known" if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """A share in percent with one decimal, or that it is not known."""
    return "not known" if value is None else f"{100 * value:.1f} %"


def _any(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)

"""Writes the report.html of a bundle, one file that needs nothing else: words, curves, the worst as pictures.

Parts come first, for that is what a line loses or ships; pixels come last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from inspectd.engine.bundle import load_bundle
from inspectd_train.data.dataset import DataSet
from inspectd_train.files import write_text
from inspectd_train.measure.evaluate import open_model
from inspectd_train.measure.verdicts import Figures
from inspectd_train.report.curves import line_chart
from inspectd_train.report.tables import (
    confusion,
    defects,
    number,
    parity,
    percent,
    pixels,
    reproduce,
    table,
    training,
)
from inspectd_train.report.worst import Card, cards

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:24px auto;padding:0 16px;color:#1c1c1c}
h1{font-size:26px;margin-bottom:0} h2{font-size:19px;margin-top:36px;border-bottom:1px solid #ccc}
table{border-collapse:collapse;margin:10px 0} th,td{padding:3px 12px 3px 0;text-align:right}
th:first-child,td:first-child{text-align:left} th{border-bottom:1px solid #999;font-weight:600}
tr:nth-child(even) td{background:#f5f6f7} .small{color:#555;font-size:13px}
.note{background:#fff4d6;padding:6px 12px}
.heads,.charts,.cards{display:flex;gap:16px;flex-wrap:wrap} .charts div{width:460px}
.head{border:1px solid #ccc;border-radius:6px;padding:10px 16px;flex:1 1 240px}
.head b{font-size:30px;display:block;line-height:1.2}
.cards figure{margin:0;flex:0 1 500px} .cards img{max-width:100%;display:block}
figcaption{font-size:13px;overflow-wrap:anywhere}
svg text{font-size:12px;fill:#333} svg .grid{stroke:#e3e3e3;stroke-width:1}
code,pre{background:#f1f2f3;padding:1px 4px}
pre{padding:8px 12px;overflow-x:auto} @media print{h2{break-after:avoid} figure{break-inside:avoid}}
"""


def write_report(
    out: Path,
    bundle_dir: Path,
    data: DataSet,
    figures: Figures,
    threads: int,
    recipe: Path | None = None,
) -> None:
    """Writes report.json and report.html into the folder `out`: what `evaluate` found, and pictures of the worst.

    The pictures are read and scored again. UserError when a file can't be written.
    """
    bundle = load_bundle(bundle_dir)
    _, model = open_model(bundle, recipe or bundle_dir / "recipe.toml", threads)
    worst = list(cards(figures, data, bundle.manifest.channels, model))
    found = {name: _read(bundle_dir / file) for name, file in _BESIDE.items()}
    write_text(out / "report.json", json.dumps(figures, indent=1, allow_nan=False) + "\n")
    write_text(out / "report.html", page(figures, worst, found))


_BESIDE = {"manifest": "manifest.json", "run": "training/run.json", "calibration": "training/calibration.json"}


def _read(file: Path) -> dict[str, Any]:
    """Reads a JSON file of the bundle; empty if there is none."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def page(figures: Figures, worst: Iterable[tuple[str, list[Card]]], beside: dict[str, dict[str, Any]]) -> str:
    """Composes the HTML document."""
    name = escape(figures["bundle"])
    sections = [
        f"<h1>{name}: what it can do</h1>",
        _what(figures),
        *(f'<p class="note">{escape(note)}.</p>' for note in figures["notes"]),
        _headline(figures),
        _curves(figures),
        _limits(figures, beside["calibration"]),
        *(_cards(title, of_kind) for title, of_kind in worst),
        defects(figures),
        pixels(figures),
        confusion(figures),
        parity(beside["manifest"]),
        training(beside["run"]),
        reproduce(figures, beside["manifest"]),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
    body = "\n".join(section for section in sections if section)
    top = f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>'
    return f"{top}\n<body>\n{body}\n</body></html>\n"


def _what(figures: Figures) -> str:
    size = "whole pictures" if figures["part_px"] is None else "crops of {} x {} px".format(*figures["part_px"])
    return (
        f'<p class="small">Measured with {escape(figures["engine"])} and the daemon\'s own region and judging '
        f"code on {figures['pictures']} pictures of the split <b>{escape(figures['split'])}</b> of "
        f"{escape(figures['data'])} ({escape(figures['split_file'])}); parts are {size}. Thresholds were chosen "
        f"on dev. Golden pictures: scores within {figures['golden_difference']}/255 of the fp32 reference.</p>"
    )


def _headline(figures: Figures) -> str:
    parts = figures["parts"]
    heads = [
        _head(
            "Escapes", parts, "escape", parts["escapes"], parts["defective"], "defective parts would be shipped"
        ),
        _head("Overkill", parts, "overkill", parts["overkill"], parts["clean"], "good parts would be ejected"),
        _head("Undecided", parts, "undecided", parts["undecided"], parts["parts"], "parts ejected in doubt"),
    ]
    at = figures["escape_at_overkill"]
    offered = ", ".join(f"{percent(at[k])} at {100 * float(k):g} %" for k in at)
    return (
        f'<h2>Parts</h2><div class="heads">{"".join(heads)}</div>'
        "<p>A part that is not passed is ejected, so a doubt about a good part counts as overkill. In brackets: "
        "95 % interval (Wilson) as if parts were independent. Of parts by their highest score alone: AUROC "
        f"{number(figures['part_auroc'])}, AP {number(figures['part_ap'])}; escapes at an overkill: "
        f"{offered}.</p>{_demo(figures.get('demo'))}"
    )


def _demo(demo: Figures | None) -> str:
    """How the parts that lie in the bundle for trying it out are judged, with the misjudged ones by name."""
    if demo is None:
        return ""
    wrong = "".join(f"<li>parts/{escape(name)}: {escape(kind)}</li>" for name, kind in demo["misjudged"].items())
    return (
        f"<p>The bundle's demo parts: {demo['escapes']} of {demo['defective']} defective ones pass, "
        f"{demo['overkill']} of {demo['clean']} good ones are ejected.</p><ul class='small'>{wrong}</ul>"
    )


def _head(title: str, parts: Figures, key: str, count: int, total: int, meaning: str) -> str:
    rate, interval = parts[f"{key}_rate"], parts[f"{key}_interval"]
    if rate is None:
        return f'<div class="head">{title}<b>not known</b>no such part in the split</div>'
    between = f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f} %"
    return (
        f'<div class="head">{title}<b>{100 * rate:.1f} %</b>{count} of {total} {meaning} '
        f'<span class="small">({between})</span></div>'
    )


def _curves(figures: Figures) -> str:
    charts = []
    parts = figures["parts"]
    if figures["roc"]:
        chosen = parts["overkill_rate"], parts["escape_rate"]
        most = next(m for m in (0.1, 0.3, 0.5, 1.0) if m == 1.0 or max(chosen) <= 0.9 * m)
        labels = "overkill, share of good parts", "escapes, share of defective parts"
        chart = line_chart({"parts": figures["roc"]}, labels, (0, most), (0, most), chosen)
        charts.append(
            f"<div>{chart}<p class='small'>One threshold on the highest score of a part; the ring is the recipe, "
            "which weighs areas and classes too.</p></div>"
        )
    if curves := {name: points for name, points in figures["precision_recall"].items() if points}:
        chart = line_chart(curves, ("recall, pixels", "precision, pixels"), (0, 1), (0, 1))
        charts.append(f"<div>{chart}<p class='small'>Pixels at full resolution{_single(curves)}.</p></div>")
    if figures["defect_curve"]:
        points = [(p["false_regions_per_picture"], p["defect_recall"]) for p in figures["defect_curve"]]
        chosen = figures["false_regions_per_picture"], figures["defect_recall"]
        most = max(0.5, math.ceil(2 * max(chosen[0], *(x for x, _ in points))) / 2)
        labels = "false regions per picture", "share of defects found"
        chart = line_chart({"defects": points}, labels, (0, most), (0, 1), chosen)
        charts.append(f"<div>{chart}<p class='small'>The ring is the recipe.</p></div>")
    return f'<div class="charts">{"".join(charts)}</div>'


def _single(curves: dict[str, Any]) -> str:
    return f", {escape(next(iter(curves)))}" if len(curves) == 1 else ""


def _limits(figures: Figures, calibration: dict[str, Any]) -> str:
    rows = [
        [n, f"{v['suspect']:g}", f"{v['reject']:g}", f"{v['min_area_px']:g}"] for n, v in figures["limits"].items()
    ]
    html = f"<h2>Recipe ({escape(figures['recipe'])})</h2>" + table(
        ["class", "suspect", "reject", "min_area_px"], rows
    )
    html += "".join(f'<p class="note">On dev: {escape(note)}.</p>' for note in calibration.get("notes", []))
    if not (offers := calibration.get("alternatives")):
        return html
    if calibration["limits"] != figures["limits"]:
        html += '<p class="note">These are not the thresholds that the calibration below chose.</p>'
    html += (
        f"<p>Chosen on {calibration['parts']} dev parts, {calibration['clean']} of them clean: "
        f"{calibration['escapes']} escapes, {calibration['overkill']} overkill; "
        f"{percent(calibration['stable_share'])} of the verdicts stay when all scores move by 4/255. What dev "
        "offers instead:</p>"
    )
    rows = [
        [
            percent(o["overkill_rate"]),
            o["overkill"],
            percent(o["escape_rate"]),
            o["escapes"],
            _thresholds(o["limits"]),
        ]
        for o in offers
    ]
    return html + table(["overkill", "parts", "escapes", "parts", "suspect and min_area_px"], rows)


def _thresholds(limits: dict[str, Any]) -> str:
    return "; ".join(f"{name} {own['suspect']:g}, {own['min_area_px']:g} px" for name, own in limits.items())


def _cards(title: str, of_kind: list[Card]) -> str:
    if not of_kind:
        return f"<h2>{title}</h2><p>None.</p>"
    figures = [
        f'<figure><img alt="{escape(card.title)}" src="data:image/jpeg;base64,{card.jpeg}">'
        f"<figcaption><b>{escape(card.title)}</b><br>{escape(card.text)}</figcaption></figure>"
        for card in of_kind
    ]
    legend = "Left as the camera saw it; right the label in green, what was found in red, don't care in grey"
    return f'<h2>{title}, the worst</h2><p class="small">{legend}.</p><div class="cards">{"".join(figures)}</div>'

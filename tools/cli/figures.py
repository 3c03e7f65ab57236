"""How the commands show figures to people: sentences and tables, with counts beside shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from inspectd_train.cli.console import UNPROVEN, say

Figures = dict[str, Any]
NOT_KNOWN = "not known"
FATES = {
    "escape": ("escapes", "defective", "defective parts that pass"),
    "overkill": ("overkill", "clean", "clean parts that are ejected"),
    "undecided": ("undecided", "parts", "parts that are ejected in doubt"),
}
"""By the name of a share: the key of its count, of the count that it is a share of, and what it means."""


def dev_in_words(figures: Figures) -> str:
    """What the dev parts say of a bundle; by regions where no part is clean."""
    regions, clean = figures["regions"], figures["clean"]
    if not clean and regions is not None:
        return (
            f"{regions['found']} of {regions['defects']} defects are found, with "
            f"{regions['false_per_picture']:.2f} false regions per picture"
        )
    return (
        f"{figures['escapes']} of {figures['defective']} defective parts pass, {figures['overkill']} of {clean} "
        f"clean ones are ejected ({figures['undecided_clean']} of them in doubt)"
    )


def end_if_unproven(bundle: Path, figures: Figures) -> None:
    """Says that the bundle is unproven, if it is, and ends the command with UNPROVEN."""
    if not figures["unproven"]:
        return
    say.print(
        f"{bundle} is unproven: {figures['unproven']}. `inspectd check` and `inspectd run` refuse it unless the "
        "config says allow_unproven = true.",
        markup=False,
        highlight=False,
    )
    raise typer.Exit(UNPROVEN)


def show_evaluation(figures: Figures, report: Path | None) -> None:
    """Prints the figures of a bundle on one split; `report` is the page with all of them, if one was written."""
    console = Console()
    part = "parts of {}x{} px".format(*figures["part_px"]) if figures["part_px"] else "whole pictures"

    console.print(
        f"{figures['bundle']} on {figures['split']} of {figures['data']}: {figures['pictures']} pictures, "
        f"{part}, {figures['engine']}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(_parts(figures["parts"]))
    console.print(_classes(figures))
    defects = figures["defects"]
    lines = [
        f"{defects['found']} of {defects['defects']} labelled defects found ({_share(figures['defect_recall'])}), "
        f"{defects['false']} false regions ({_number(figures['false_regions_per_picture'], 2)} per picture)",
        f"mean IoU {_number(figures['miou'])} ({_number(figures['miou_bg'])} with background), "
        f"AP of pixels {_number(figures['pixel_ap'])}, "
        f"of parts {_number(figures['part_ap'])}, AUROC of parts {_number(figures['part_auroc'])}",
        *(f"note: {note}" for note in figures["notes"]),
        *([f"report: {report}"] if report is not None else []),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _parts(parts: Figures) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, side in (("", "left"), ("parts", "right"), ("share", "right"), ("95 % interval", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for share, (count, whole, meaning) in FATES.items():
        interval = parts[f"{share}_interval"]
        of = f"{parts[count]} of {parts[whole]}" if interval else NOT_KNOWN
        between = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %" if interval else ""
        table.add_row(meaning, of, _share(parts[f"{share}_rate"]) if interval else "", between)
    return table


def _classes(figures: Figures) -> Table:
    """Limits and figures of pixels, by class."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = ("class", "suspect", "reject", "min_area_px", "IoU", "F1", "AP", "defects found")
    for name in columns:
        table.add_column(name, justify="left" if name == "class" else "right", overflow="fold")
    for name, own in figures["per_class"].items():
        limits, defects = figures["limits"][name], figures["defects"]["by_class"].get(name)
        found = f"{defects['found']} of {defects['defects']}" if defects else "none there"
        table.add_row(
            escape(name), f"{limits['suspect']:g}", f"{limits['reject']:g}", f"{limits['min_area_px']:g}",
            _number(own["iou"]), _number(own["f1"]), _number(own["ap"]), found,
        )  # fmt: skip
    return table


def show_comparison(result: dict[str, Any], accepted: bool) -> None:
    """Prints what two bundles do to the same parts."""
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "defective parts that pass", "clean parts that are ejected", "in doubt"):
        table.add_column(name, justify="right" if name else "left", overflow="fold")
    for side in ("a", "b"):
        own = result[side]
        counts = (str(own[key]) for key in ("escapes", "overkill", "undecided"))
        table.add_row(side, *counts)
        console.print(f"{side}: {own['name']}", markup=False, highlight=False, soft_wrap=True)
    clean, defective = result["clean"], result["defective"]
    console.print(f"{result['parts']} parts: {clean} clean, {defective} defective", highlight=False)
    console.print(table)
    kinds = [kind for kind, names in result.items() if isinstance(names, list) and kind != "notes"]
    lines = [f"{result['changed']} parts have another verdict"]
    lines += [f"{kind}, {len(result[kind])}: {', '.join(result[kind])}" for kind in kinds if result[kind]]
    lines += [f"note: {note}" for note in result["notes"]]
    lines.append(f"b may {'' if accepted else 'not '}replace a")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_recipe(figures: Figures) -> None:
    """Prints what `calibrate` chose, and what became of INT8."""
    for name, own in figures["limits"].items():
        print(f"{name:22} " + ", ".join(f"{key} {value:g}" for key, value in own.items()))
    if (proof := figures["int8"]) is not None:
        print(f"{'int8':22} {'usable' if proof['usable'] else 'not used: ' + proof['reason']}")
    print(f"dev: {dev_in_words(figures)}")
    for note in figures["notes"]:
        print(f"note: {note}")


def _share(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, digits: int = 3) -> str:
    return NOT_KNOWN if value is None else f"{value:.{digits}f}"

"""Measures trained networks side by side: `python -m inspectd_train.peers.accuracy DIR... --data DATASET`.

DIR is what `inspectd_train.peers.fit` or `inspectd-train fit` wrote. Every network scores the same parts in torch,
in the arithmetic of its checks; levels of the class map are chosen on dev, figures are of the split asked for. A
part's score is its highest; escape at an overkill is read off the ROC of that score.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import cv2
import torch
import typer
from rich.console import Console

from inspectd.runtime.errors import UserError
from inspectd_train.bundle.calibrate import choose_mask_levels
from inspectd_train.data.dataset import DataSet, digest, open_data_set, pictures
from inspectd_train.data.parts import SizePx, parts_of, shown
from inspectd_train.measure import metrics
from inspectd_train.measure.areas import Areas
from inspectd_train.measure.evaluate import OVERKILLS
from inspectd_train.peers.nets import ALL_THREADS, TITLES, Net, name_of, run_folder, trained
from inspectd_train.train.checks import segmenter
from inspectd_train.train.run import recorded_settings
from inspectd_train.train.state import RECORD

Figures = dict[str, Any]
COLUMNS = ("miou", "miou_bg", "pixel_ap", "part_auroc", *(f"escape_at_{most:.0%}" for most in OVERKILLS))
HEAD = ("mIoU", "mIoU + bg", "pixel AP", "part AUROC", *(f"escape at {most:.0%} overkill" for most in OVERKILLS))


def figures_of(folder: Path, data: DataSet, split: str) -> Figures:
    """Measures one row of the table; UserError when the folder holds no run, or one on other data."""
    run = run_folder(folder)
    _, settings = recorded_settings(run)
    record = json.loads((run / RECORD).read_text("utf-8"))
    if record["data_sha256"] != digest(data):
        raise UserError(
            f"{run / RECORD}: trained on other data or another split than {data.folder}, {data.split_file}"
        )
    name, threads = name_of(run)
    last, best = record["checks"][-1], record["checks"][record["best_check"]]
    head = {"net": name, "folder": folder.name, "seed": settings.seed, "threads": threads}
    head |= {"minutes": settings.minutes or last["minutes"], "steps": last["step"], "best_step": best["step"]}
    return head | measure(trained(run, len(data.classes)), data, split, settings.channels, settings.part_px)


def measure(net: Net, data: DataSet, split: str, channels: int, part_px: SizePx | None) -> Figures:
    """Measures one network, pictures in memory one at a time; None where a figure is not defined."""
    segment = segmenter(net, torch.device("cpu"))
    dev = ((segment(picture.image), picture.mask) for picture in pictures(data, "dev", channels))
    levels = choose_mask_levels(dev, len(data.classes), net.stride)
    areas, peaks = Areas(data.classes, net.stride, tuple(levels)), metrics.empty()
    for picture, parts in parts_of(pictures(data, split, channels), part_px):
        scores = segment(picture.image)
        areas.add(picture.name, scores, picture.mask)
        for part in parts:
            of_part = scores if part is picture else segment(part.image)
            peaks[int(bool(shown(part))), of_part.max()] += 1
    found = areas.figures()
    return {
        **{key: found[key] for key in ("miou", "miou_bg", "pixel_ap")},
        "part_auroc": metrics.auroc(peaks),
        **{f"escape_at_{most:.0%}": metrics.escape_at_overkill(peaks, most) for most in OVERKILLS},
        "clean_parts": int(peaks[0].sum()),
        "defective_parts": int(peaks[1].sum()),
        "mask_levels": levels,
        "iou": {name: own["iou"] for name, own in found["per_class"].items()},
    }


def table(rows: list[Figures]) -> str:
    """The table in Markdown, one row per network."""
    head = ["net", "seed", "threads", "minutes", "steps", *HEAD]
    lines = [head, ["-"] * len(head)]
    for row in rows:
        about = [TITLES[row["net"]], row["seed"], row["threads"] or "?", f"{row['minutes']:.3g}", row["steps"]]
        lines.append([*map(str, about), *(_in_words(key, row[key]) for key in COLUMNS)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _in_words(key: str, value: float | None) -> str:
    """A cell of the table: shares of parts in percent, other figures with three decimals."""
    if value is None:
        return "-"
    return f"{value:.1%}" if key.startswith("escape") else f"{value:.3f}"


def main(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...")],
    data: Annotated[Path, typer.Option(help="Data set.")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    split_file: str = "split.json",
    threads: Annotated[int, typer.Option(min=1)] = ALL_THREADS,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON, nothing else.")] = False,
) -> None:
    """Measure trained networks on the same parts."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    try:
        opened = open_data_set(data, split_file)
        rows = [figures_of(folder, opened, split) for folder in folders]
    except UserError as error:
        Console(stderr=True).print(str(error), soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(error.exit_code) from None
    print(json.dumps(rows, indent=1) if as_json else table(rows))


if __name__ == "__main__":
    typer.run(main)

"""Measures what each piece of the training recipe is worth.

`python -m inspectd_train.peers.ablation DATASET --out FOLDER --seed N`

Each variant changes the settings named in VARIANTS and trains for the same minutes, or the same steps. Figures
are of the dev split, where choices belong: mean IoU with background at full resolution, pixel AP, share of the
labelled defects found, and, of those found, the error of their area, all by the width of the defect.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from numpy.typing import NDArray

from inspectd_train.data.dataset import DONT_CARE, Sample, open_data_set, stored_channels
from inspectd_train.measure import metrics
from inspectd_train.measure.defects import width_px
from inspectd_train.net.csnet import CSNet
from inspectd_train.train.checks import segmenter
from inspectd_train.train.fabric import open_fabric
from inspectd_train.train.run import Run, RunSettings, open_run
from inspectd_train.train.train import train

WIDTHS_PX = (3.0, 6.0, 12.0, 24.0)
VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "presence targets": {"target": "presence"},
    "loss: cross-entropy": {"loss": "ce"},
    "loss: dice": {"loss": "dice"},
    "loss: focal + dice": {"loss": "focal+dice"},
    "no image-level term": {"peak_share": 0.0},
    "no balance": {"balanced": False},
    "no hard places": {"hard_share": 0.0},
    "no cut-and-paste": {"paste_share": 0.0},
    "RepVGG branches": {"branches": True},
    "no EMA": {"ema": 0.0},
    "stride 8 (net xs)": {"net": "xs"},
    "net m": {"net": "m"},
    "augmentation twice as strong": {"strength": 2.0},
    "learning rate twice as high": {"learning_rate": 2e-3},
    "learning rate to 0 at the end": {"last_rate": 0.0},
}


def main(
    data_set: Path,
    out: Annotated[Path, typer.Option(help="Each run's folder and figures go here; done ones are kept.")],
    minutes: float = 3.0,
    epochs: Annotated[int | None, typer.Option(help="Train for as many instead: the same steps for all.")] = None,
    seed: int = 0,
    threads: int = 1,
    split_file: str = "split.json",
    only: Annotated[list[str] | None, typer.Option(help="Variants; all by default.")] = None,
) -> None:
    """Train every variant once and write its figures to OUT/figures.<seed>.json."""
    fabric = open_fabric(threads)
    data = open_data_set(data_set, split_file)
    figures_file = out / f"figures.{seed}.json"
    figures = json.loads(figures_file.read_text("utf-8")) if figures_file.is_file() else {}
    for name in only or VARIANTS:
        base = RunSettings(seed=seed, channels=stored_channels(data))
        base = replace(base, epochs=epochs) if epochs else replace(base, minutes=minutes)
        settings = replace(base, **VARIANTS[name])
        if figures.get(name, {}).get("settings") == asdict(settings):
            continue
        folder = out / f"{name.replace(' ', '_').replace(':', '')}.{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        run = open_run(data, folder, settings, fabric)
        torch.manual_seed(seed)
        bare = CSNet(settings.channels, len(data.classes), settings.net, settings.branches)
        net = train(run, bare, bare.stride, resume=False, report=lambda _progress, _share: None)
        record = json.loads((folder / "run.json").read_text("utf-8"))
        figures[name] = {"steps": record["checks"][-1]["step"], **record["checks"][record["best_check"]]}
        figures[name] |= {"settings": asdict(settings)} | measure(net, run, bare.stride)
        figures_file.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        print(f"{name}: mIoU + bg {figures[name]['miou_bg']:.4f}")
    print(table(out))


def table(out: Path) -> str:
    """The table in Markdown: every variant with the mean over the seeds in `out`, and each seed's mIoU."""
    of_seed = [json.loads(file.read_text("utf-8")) for file in sorted(out.glob("figures.*.json"))]
    widths = [f"<= {WIDTHS_PX[0]:g} px", f"<= {WIDTHS_PX[1]:g} px", f"<= {WIDTHS_PX[2]:g} px"]
    head = ["variant", "steps", "mIoU + bg", "of each seed", "pixel AP"]
    head += [f"{what}, {name}" for what in ("recall", "area error") for name in widths]
    lines = [head, ["-"] * len(head)]
    for name in VARIANTS:
        rows = [figures[name] for figures in of_seed if name in figures]
        if not rows:
            continue
        mean = {key: float(np.mean([row[key] for row in rows])) for key in ("steps", "miou_bg", "pixel_ap")}
        cells = [name, f"{mean['steps']:.0f}", f"{mean['miou_bg']:.4f}"]
        cells += [", ".join(f"{row['miou_bg']:.4f}" for row in rows), f"{mean['pixel_ap']:.4f}"]
        for what in ("recall", "area_error"):
            for width in widths:
                of_width = [row["by_width"][width][what] for row in rows if width in row["by_width"]]
                of_width = [value for value in of_width if value is not None]
                cells.append(f"{np.mean(of_width):.2f}" if of_width else "-")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measure(net: torch.nn.Module, run: Run, stride: int) -> dict[str, Any]:
    """Measures `net` on the dev parts; levels per class are those with the best F1 there."""
    segment, classes = segmenter(net, run.fabric.device), len(run.data.classes)
    maps = [segment(part.image) for part in run.dev]
    fine = [metrics.full_resolution(m, stride, p.mask.shape) for m, p in zip(maps, run.dev, strict=True)]
    counts, whole = [metrics.empty() for _ in range(classes)], metrics.empty()
    for scores, part in zip(fine, run.dev, strict=True):
        care = part.mask != DONT_CARE
        whole += metrics.histogram(scores.max(0), part.mask > 0, care)
        for k in range(classes):
            counts[k] += metrics.histogram(scores[k], part.mask == k + 1, care)
    levels = [metrics.best_f1_level(c) for c in counts]
    total = np.zeros((1 + classes, 1 + classes), np.int64)
    for scores, part in zip(fine, run.dev, strict=True):
        total += metrics.confusion(part.mask, metrics.class_map(scores, levels), part.mask != DONT_CARE, classes)
    return {
        "miou_bg": metrics.mean([metrics.iou_and_f1(total, k)[0] for k in range(1 + classes)]),
        "miou": metrics.mean([metrics.iou_and_f1(total, k)[0] for k in range(1, 1 + classes)]),
        "pixel_ap": metrics.average_precision(whole),
        "levels": levels,
        "by_width": by_width(run.dev, fine, levels),
    }


def by_width(parts: list[Sample], fine: list[NDArray[np.uint8]], levels: list[int]) -> dict[str, dict[str, Any]]:
    """Measures the defects by width (px): how many, share found, median area error.

    A defect is found when a pixel of it reaches its class's level. The area is the sum of the scores / 255 over
    the defect and 8 px around it, as the daemon measures; its error is |measured - true| / true.
    """
    rows: dict[str, list[tuple[bool, float]]] = {}
    for part, scores in zip(parts, fine, strict=True):
        for k, level in enumerate(levels):
            count, labels = cv2.connectedComponents((part.mask == k + 1).astype(np.uint8))
            for label in range(1, count):
                own = (labels == label).astype(np.uint8)
                width = width_px(own > 0)
                upper = next((edge for edge in WIDTHS_PX if width <= edge), None)
                around = cv2.dilate(own, np.ones((17, 17), np.uint8)) > 0
                area = float(scores[k][around].sum()) / 255
                found = bool((scores[k][own > 0] >= level).any())
                error = abs(area - float(own.sum())) / float(own.sum())
                rows.setdefault(f"<= {upper:g} px" if upper else f"> {WIDTHS_PX[-1]:g} px", []).append(
                    (found, error)
                )
    return {
        name: {
            "defects": len(found),
            "recall": float(np.mean([f for f, _ in found])),
            "area_error": float(np.median([e for f, e in found if f])) if any(f for f, _ in found) else None,
        }
        for name, found in sorted(rows.items())
    }


if __name__ == "__main__":
    typer.run(main)

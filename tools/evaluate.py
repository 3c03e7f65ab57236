"""Chooses a bundle's recipe on dev, then measures it on the test split and on the bundle's demo parts.

Everything runs through the daemon's own engine, region and judging code, so the figures are those of the
line. The test split is looked at once thresholds are written, for the figures only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.config import Recipe, View, load_recipe
from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.engine.openvino import Segmenter, open_segmenter, precision_of
from inspectd.errors import UserError
from inspectd.extract.plan import make_plan
from inspectd.extract.regions import extract_regions
from inspectd.images import read_image
from inspectd.judge.verdict import judge
from inspectd.results import Region, Verdict
from inspectd.ring import Shape
from tools import metrics
from tools.calibrate import Choice, ScoredPart, choose_limits, recipe_text, scored_parts
from tools.dataset import DataSet, Sample, cell_fractions, load
from tools.demo_parts import HEIGHT_PX, WIDTH_PX
from tools.report import render

Image = NDArray[np.uint8]
Figures = dict[str, Any]


def evaluate(folder: Path, data: DataSet, threads: int) -> Figures:
    """Writes recipe.toml, report.json and report.md of the bundle `folder`; returns the figures."""
    bundle = load_bundle(folder)
    if tuple(bundle.manifest.classes) != data.classes:
        raise UserError(
            f"{folder}: knows {bundle.manifest.classes}, the data set has {list(data.classes)}; they must agree"
        )
    segmenter = open_segmenter(bundle, threads)
    levels, dev_figures = _calibrate(folder, data, bundle, segmenter)
    recipe = load_recipe(folder / "recipe.toml").recipe
    test = load(data, "test")
    compiled = segmenter.compile(Shape(HEIGHT_PX, WIDTH_PX, bundle.manifest.channels))
    figures: Figures = {
        "bundle": bundle.manifest.name,
        "graph_sha256": bundle.sha256,
        "engine": f"OpenVINO {precision_of(compiled)}",
        "golden_difference": segmenter.golden_difference,
        "split": data.split_file,
        "limits": {name: _limits(recipe, name) for name in data.classes},
        "dev": dev_figures,
        "test": {
            "pictures": len(test),
            "cells": _area_figures(_cell_counts(test, segmenter), levels, data.classes),
            "pixels": _area_figures(_pixel_counts(test, segmenter), levels, data.classes),
            "defects": _defect_figures(test, segmenter, bundle, recipe),
            "parts": part_figures(scored_parts(test, segmenter), bundle, recipe),
        },
        "demo": demo_figures(folder, segmenter, bundle, recipe),
    }
    (folder / "report.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    render(figures, folder / "report.md")
    return figures


def _calibrate(folder: Path, data: DataSet, bundle: Bundle, segmenter: Segmenter) -> tuple[list[int], Figures]:
    """Writes recipe.toml from the dev split; returns the levels with the best F1 of cells, and dev's figures."""
    dev = load(data, "dev")
    parts = scored_parts(dev, segmenter)
    chosen = {name: choose_limits(parts, bundle, k) for k, name in enumerate(data.classes)}
    text = recipe_text({name: best.limits for name, (best, _) in chosen.items()})
    (folder / "recipe.toml").write_text(text, "utf-8")
    figures = {
        "parts": part_figures(parts, bundle, load_recipe(folder / "recipe.toml").recipe),
        "choices": {name: [_choice(c) for c in others] for name, (_, others) in chosen.items()},
    }
    return [metrics.best_f1_level(counts) for counts in _cell_counts(dev, segmenter)], figures


def part_figures(parts: list[ScoredPart], bundle: Bundle, recipe: Recipe) -> Figures:
    """Numbers of parts by truth and verdict. Escape: defective and passed; overkill: clean and not passed."""
    plan = make_plan(recipe, View(), (0, 0, WIDTH_PX, HEIGHT_PX), bundle.manifest.classes, bundle.manifest.stride)
    counts = {"clean": dict.fromkeys(Verdict, 0), "defective": dict.fromkeys(Verdict, 0)}
    for part in parts:
        verdict = judge(extract_regions(part.scores, part.peak, plan), plan).verdict
        counts["defective" if part.shows else "clean"][verdict] += 1
    clean, bad = counts["clean"], counts["defective"]
    return {
        "clean": sum(clean.values()),
        "defective": sum(bad.values()),
        "escapes": bad[Verdict.PASS],
        "overkill": clean[Verdict.FAIL] + clean[Verdict.UNKNOWN],
        "undecided_clean": clean[Verdict.UNKNOWN],
        "undecided_defective": bad[Verdict.UNKNOWN],
    }


def demo_figures(folder: Path, segmenter: Segmenter, bundle: Bundle, recipe: Recipe) -> Figures | None:
    """`part_figures` of the bundle's parts/ as its files are, with the names of those misjudged; None without."""
    if not (folder / "parts" / "parts.json").is_file():
        return None
    truth = json.loads((folder / "parts" / "parts.json").read_text("utf-8"))
    parts: dict[str, ScoredPart] = {}
    wrong: dict[str, str] = {}
    for name, entry in truth.items():
        scores, peak = segmenter.segment(read_image(folder / "parts" / name))
        parts[name] = ScoredPart(scores, peak, frozenset() if entry["label"] == "clean" else frozenset({0}))
        alone = part_figures([parts[name]], bundle, recipe)
        for kind in ("escapes", "overkill", "undecided_clean", "undecided_defective"):
            if alone[kind]:
                wrong[name] = kind  # the last and most exact word
    return part_figures(list(parts.values()), bundle, recipe) | {"misjudged": wrong}


def _cell_counts(samples: list[Sample], segmenter: Segmenter) -> list[metrics.Histogram]:
    """Per class, over all cells; a cell is a defect when at least half of it is."""
    total: list[metrics.Histogram] = []
    for sample in samples:
        scores, _ = segmenter.segment(sample.image)
        share, weight = cell_fractions(sample.mask, len(scores))
        found = [metrics.histogram(s, t >= 0.5, weight > 0) for s, t in zip(scores, share, strict=True)]
        total = [a + b for a, b in zip(total, found, strict=True)] if total else found
    return total


def _pixel_counts(samples: list[Sample], segmenter: Segmenter) -> list[metrics.Histogram]:
    """Per class, over all pixels of the full resolution; a pixel has the score of its cell."""
    total: list[metrics.Histogram] = []
    for sample in samples:
        scores, _ = segmenter.segment(sample.image)
        height, width = sample.mask.shape
        stride = -(-height // scores.shape[1])
        found = []
        for k, of_class in enumerate(scores):
            fine = of_class.repeat(stride, 0).repeat(stride, 1)[:height, :width]
            found.append(metrics.histogram(fine, sample.mask == k + 1, sample.mask != 255))
        total = [a + b for a, b in zip(total, found, strict=True)] if total else found
    return total


def _area_figures(counts: list[metrics.Histogram], levels: list[int], classes: tuple[str, ...]) -> Figures:
    """Per class: AP, and IoU, precision, recall, F1 at the level that was best on dev's cells."""
    return {
        name: {"ap": metrics.average_precision(c), "level": level} | metrics.at_threshold(c, level)
        for name, c, level in zip(classes, counts, levels, strict=True)
    }


def _defect_figures(samples: list[Sample], segmenter: Segmenter, bundle: Bundle, recipe: Recipe) -> Figures:
    """Labelled defects in whole pictures, found or missed, and regions that touch none.

    A region counts from `min_area_px` on; it touches a defect when its box holds one of the defect's pixels.
    """
    found = missed = false = 0
    for sample in samples:
        scores, peak = segmenter.segment(sample.image)
        height, width = sample.mask.shape
        plan = make_plan(recipe, View(), (0, 0, width, height), bundle.manifest.classes, bundle.manifest.stride)
        regions = [
            r
            for r in extract_regions(scores, peak, plan).regions
            if r.area_px >= recipe.limits[r.class_].min_area_px
        ]
        for k, name in enumerate(bundle.manifest.classes):
            count, labels = cv2.connectedComponents((sample.mask == k + 1).astype(np.uint8), connectivity=8)
            touched = [_labels_in(np.asarray(labels), r) for r in regions if r.class_ == name]
            hit = set[int]().union(*touched)
            found, missed = found + len(hit), missed + count - 1 - len(hit)
            false += sum(not labels_in for labels_in in touched)
    megapixels = sum(sample.mask.size for sample in samples) / 1e6
    return {"found": found, "missed": missed, "false_regions": false, "false_per_mpixel": false / megapixels}


def _labels_in(labels: NDArray[np.int32], region: Region) -> set[int]:
    x, y, w, h = region.bbox
    return set(np.unique(labels[y : y + h, x : x + w]).tolist()) - {0}


def _limits(recipe: Recipe, name: str) -> dict[str, float]:
    limits = recipe.limits[name]
    return {"suspect": limits.suspect, "reject": limits.reject, "min_area_px": limits.min_area_px}


def _choice(choice: Choice) -> dict[str, float]:
    own = choice.limits
    thresholds = {"suspect": own.suspect, "min_area_px": own.min_area_px}
    return thresholds | {"escapes": choice.escapes, "clean_ejected": choice.clean_ejected}

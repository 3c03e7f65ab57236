"""Measures whether each graph of a bundle computes what the trained net does, and whether INT8 may be used.

The reference is the trained network itself, fused, in fp32 torch. Scores, class maps and part verdicts (the
daemon's own extraction and judge under the bundle's recipe) of the dev parts are compared; the gate at the end
of the manifest's `int8` lets the daemon run INT8 only where they are equal enough.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspectd.engine.bundle import Bundle, golden_difference, load_bundle
from inspectd.engine.openvino import FLOATS, Precision, Segmenter, precision_of
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Verdict
from inspectd.runtime.slots import Shape
from inspectd.settings.recipe import load_recipe
from inspectd_train.bundle.export import MANIFEST, WEIGHTS, Score, onnx_score, torch_score, write_manifest
from inspectd_train.bundle.weights import bundled_net
from inspectd_train.data.dataset import DataSet, Sample, load
from inspectd_train.data.parts import SizePx, as_parts, shown
from inspectd_train.measure import metrics
from inspectd_train.measure.model import Model, model_of
from inspectd_train.net.csnet import CSNet, fuse
from inspectd_train.net.targets import cell_fractions

VERDICTS_BOUND = 0.995
MOST_AUROC_LOSS = MOST_MIOU_LOSS = 0.005
MOST_INT8_DIFFERENCE = 16
OTHER_CPU = 2
"""What golden scores may differ more on a CPU that rounds otherwise, in 1/255."""
CHANGED_LISTED = 20
INT8_RUNS = ("ONNX Runtime int8", "OpenVINO int8")

Image = NDArray[np.uint8]
Figures = dict[str, Any]


@dataclass(frozen=True)
class EngineResult:
    """One part as one engine sees it: scores uint8 [K, h, w], peaks uint8 [K]."""

    scores: Image
    peak: Image
    verdict: Verdict


def measure_parity(bundle_dir: Path, net: CSNet, parts: list[Sample], threads: int = 1) -> Figures:
    """Measures each graph on `parts` (of dev) against `net` (as trained); returns the figures.

    {"parts": n, "reference": {...}, "graphs": {name: {...}}, "int8": as `gate`} is written into the bundle's
    manifest too. The bundle needs its recipe.toml already. UserError: no parts, no recipe, a bundle that isn't
    whole, a full disk.
    """
    if not parts:
        raise UserError(f"{bundle_dir}: parity is measured on parts of the dev split; there is none")
    bundle = load_bundle(bundle_dir)
    model = model_of(bundle, torch_score(fuse(net)), load_recipe(bundle_dir / "recipe.toml").recipe)
    parts = sorted(parts, key=lambda part: part.image.shape)  # an engine is compiled once for each size
    reference = _judged(model, parts)
    truth = _part_figures(model, parts, reference)
    graphs = {}
    for name, score in _engines(bundle, threads).items():
        run = replace(model, score=score)
        found = _judged(run, parts)
        figures = _differences(model, parts, reference, found) | _part_figures(model, parts, found)
        graphs[name] = figures | _golden_figures(bundle, run, "int8" if name in INT8_RUNS else "")
    int8 = gate(truth, [graphs[name] for name in INT8_RUNS if name in graphs])
    result = {"parts": len(parts), "reference": truth, "graphs": graphs, "int8": int8}
    _record(bundle_dir, result)
    return result


def gate(reference: Figures, runs: list[Figures]) -> Figures:
    """Decides the manifest's `int8`: usable where verdicts, AUROC, mIoU and golden scores are equal enough."""
    if not runs:
        return _refused("the bundle has no int8 graph")
    equal = min(run["verdicts_equal"] for run in runs)
    golden = max(run["golden_difference"] for run in runs)
    faults = [f"only {equal:.2%} of the dev verdicts are equal, {VERDICTS_BOUND:.1%} wanted"] * (
        equal < VERDICTS_BOUND
    )
    for key, most, words in (("part_auroc", MOST_AUROC_LOSS, "part AUROC"), ("miou", MOST_MIOU_LOSS, "mIoU")):
        losses = [reference[key] - run[key] for run in runs if reference[key] is not None]
        if max(losses, default=0.0) > most:
            faults.append(f"{words} falls by {max(losses):.4f}, {most} allowed")
    if not all(run["golden_verdicts_equal"] for run in runs):
        faults.append("a golden image's verdict differs")
    if golden > MOST_INT8_DIFFERENCE:
        faults.append(f"golden scores differ by {golden}/255, {MOST_INT8_DIFFERENCE}/255 allowed")
    return {
        "usable": not faults,
        "max_score_difference": min(golden + OTHER_CPU, MOST_INT8_DIFFERENCE),
        "verdicts_equal": equal,
        "verdicts_bound": VERDICTS_BOUND,
        "reason": "; ".join(faults),
    }


def _judged(model: Model, parts: list[Sample]) -> list[EngineResult]:
    """Judges each part as the daemon would, with its own extraction and judge."""
    found = []
    for part in parts:
        scores, peak = model.score(part.image)
        found.append(EngineResult(scores, peak, model.judged(scores, peak, part.mask.shape).verdict))
    return found


def _engines(bundle: Bundle, threads: int) -> dict[str, Score]:
    """Opens every way to run the bundle's graphs on this machine, by name; float ones in the daemon's order."""
    engines = {f"ONNX Runtime {name}": onnx_score(graph, threads) for name, graph in bundle.graphs.items()}
    int8: list[Precision] = ["int8"] if "int8" in bundle.graphs else []
    for precision in (*reversed(FLOATS), *int8):
        segmenter = Segmenter(bundle, threads, precision)
        compiled = segmenter.compile(Shape(*bundle.golden[0].image.shape))
        engines[f"OpenVINO {precision_of(compiled)}"] = segmenter.segment
    return engines


def _differences(
    model: Model, parts: list[Sample], reference: list[EngineResult], found: list[EngineResult]
) -> Figures:
    """Compares scores, class maps and verdicts of one engine with the reference's."""
    levels = list(model.mask_levels)
    counts, equal, cells = np.zeros(256, np.int64), 0, 0
    for a, b in zip(reference, found, strict=True):
        counts += np.bincount(np.abs(a.scores.astype(np.int16) - b.scores).ravel(), minlength=256)
        maps = metrics.class_map(a.scores, levels), metrics.class_map(b.scores, levels)
        equal, cells = equal + int((maps[0] == maps[1]).sum()), cells + maps[0].size
    changed = [
        f"{part.name}: {a.verdict} -> {b.verdict}"
        for part, a, b in zip(parts, reference, found, strict=True)
        if a.verdict != b.verdict
    ]
    passes = [
        (a.verdict == Verdict.PASS, b.verdict == Verdict.PASS) for a, b in zip(reference, found, strict=True)
    ]
    return {
        "cells_equal": equal / cells,
        "score_difference_max": int(np.flatnonzero(counts)[-1]),
        "score_difference_p999": int(np.searchsorted(np.cumsum(counts), 0.999 * counts.sum())),
        "verdicts_equal": 1 - len(changed) / len(parts),
        "pass_changed": sum(before != after for before, after in passes),
        "changed": changed[:CHANGED_LISTED],
    }


def _part_figures(model: Model, parts: list[Sample], found: list[EngineResult]) -> Figures:
    """Counts what an engine's results are worth: escapes and overkill in parts, part AUROC, mIoU of cells."""
    classes, levels = len(model.classes), list(model.mask_levels)
    peaks, matrix = metrics.empty(), np.zeros((1 + classes, 1 + classes), np.int64)
    escapes = overkill = 0
    for part, judged in zip(parts, found, strict=True):
        bad, passed = bool(shown(part)), judged.verdict == Verdict.PASS
        escapes, overkill = escapes + (bad and passed), overkill + (not bad and not passed)
        peaks[int(bad), int(judged.peak.max())] += 1
        truth, care = _true_cells(part, classes, model.stride)
        matrix += metrics.confusion(truth, metrics.class_map(judged.scores, levels), care, classes)
    # a class that no part shows has no IoU: a single false cell would make it 0, and its absence raise the mean
    ious = [metrics.iou_and_f1(matrix, k)[0] for k in range(1, 1 + classes) if matrix[k].any()]
    return {
        "escapes": escapes,
        "overkill": overkill,
        "part_auroc": metrics.auroc(peaks),
        "miou": metrics.mean(ious),
    }


def _true_cells(part: Sample, classes: int, stride: int) -> tuple[Image, NDArray[np.bool_]]:
    """The class that covers most of each cell [h, w], 0 = background, and which cells are cared for."""
    share, care = cell_fractions(part.mask, classes, stride)
    background = care - share.sum(0)
    return np.concatenate([background[None], share]).argmax(0).astype(np.uint8), care >= 0.5


def _golden_figures(bundle: Bundle, model: Model, precision: str) -> Figures:
    """Measures the difference from the golden scores, as the daemon does, and whether their verdicts are equal."""
    worst, equal = 0, True
    for golden in bundle.golden:
        scores, peak = model.score(golden.image)
        worst = max(worst, golden_difference(golden, scores, peak, precision))
        both = [model.judged(*own, golden.image.shape) for own in ((scores, peak), (golden.scores, golden.peak))]
        equal &= both[0].verdict == both[1].verdict
    return {"golden_difference": worst, "golden_verdicts_equal": equal}


def _refused(reason: str) -> Figures:
    """The manifest's `int8` where it must not be used."""
    bounds = {"max_score_difference": 0, "verdicts_equal": 0.0, "verdicts_bound": VERDICTS_BOUND}
    return {"usable": False} | bounds | {"reason": reason}


def distrust(bundle_dir: Path, reason: str) -> None:
    """Takes back what the manifest says for INT8, until it is proven again."""
    _record(bundle_dir, {"int8": _refused(reason)})


def _record(bundle_dir: Path, result: Figures) -> None:
    """Puts gate and figures into the manifest, in one step."""
    manifest = json.loads((bundle_dir / MANIFEST).read_text("utf-8"))
    figures = {key: value for key, value in result.items() if key != "int8"}
    try:
        write_manifest(bundle_dir, manifest | {"int8": result["int8"]} | ({"parity": figures} if figures else {}))
    except OSError as error:
        raise UserError(
            f"{bundle_dir / MANIFEST}: can't be written ({error.strerror or error}); INT8 stays unused"
        ) from None


def prove_again(bundle_dir: Path, data: DataSet, part_px: SizePx | None, threads: int) -> Figures | None:
    """Measures parity under a new recipe and returns its `int8`; None where a bundle has no INT8 or no weights."""
    manifest = load_bundle(bundle_dir).manifest
    if "int8" not in manifest.graphs or not (bundle_dir / WEIGHTS).is_file():
        return None
    net = bundled_net(bundle_dir)
    parts = as_parts(load(data, "dev", manifest.channels), part_px)
    return dict(measure_parity(bundle_dir, net, parts, threads)["int8"])

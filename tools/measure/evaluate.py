"""Measures a bundle on one split with the daemon's own engine, region and judging code.

Per pixel at full resolution and on the network's grid, per labelled defect, and per part. Every picture is in
memory once at a time and scored once; crops, where parts are crops, are scored as the pictures they would be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.runtime.channels import with_channels
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Verdict
from inspectd.runtime.image_files import read_image
from inspectd.settings.recipe import load_recipe
from inspectd_train.data.dataset import DataSet, Sample, pictures
from inspectd_train.data.parts import SizePx, parts_of, shown
from inspectd_train.measure import defects, metrics
from inspectd_train.measure.areas import Areas
from inspectd_train.measure.froc import Froc
from inspectd_train.measure.limits import limits_as_dict
from inspectd_train.measure.model import DEFAULT_LEVEL, Model, model_of, not_applied
from inspectd_train.measure.scores import U8, BundleEngine, check_classes, open_engine
from inspectd_train.measure.verdicts import Figures, part_counts

OVERKILLS = (0.01, 0.05)
FALSE_PER_PICTURE = (0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class JudgedPart:
    """One judged part: its classes by name, its highest score (0..255), what the daemon says."""

    name: str
    shows: tuple[str, ...]
    score: int
    verdict: str
    detail: str


@dataclass
class _Sums:
    """What one pass over the pictures has added up."""

    areas: Areas
    froc: Froc
    matches: list[defects.Match] = field(default_factory=list)
    parts: list[JudgedPart] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    truncated: int = 0


def evaluate(
    bundle_dir: Path,
    data: DataSet,
    split: str,
    part_px: SizePx | None,
    threads: int,
    recipe: Path | None = None,
) -> Figures:
    """Measures a bundle under its recipe.toml, or another recipe; writes nothing. UserError, ConfigError."""
    bundle = load_bundle(bundle_dir)
    check_classes(bundle, data)
    recipe_file = recipe or bundle_dir / "recipe.toml"
    engine, model = open_model(bundle, recipe_file, threads)
    head = {
        "bundle": bundle.manifest.name,
        "graph_sha256": bundle.sha256,
        "engine": engine.description,
        "golden_difference": engine.golden_difference,
        "data": data.folder.name,
        "split": split,
        "split_file": data.split_file,
        "part_px": list(part_px) if part_px else None,
        "recipe": recipe_file.name,
        "limits": {name: limits_as_dict(model.recipe.limits[name]) for name in data.classes},
        "mask_levels": dict(zip(data.classes, model.mask_levels, strict=True)),
    }
    body = measure(model, pictures(data, split, bundle.manifest.channels), part_px)
    body["notes"] += not_applied(model, recipe_file)
    if bundle.manifest.mask_levels is None:
        body["notes"].insert(0, f"the manifest has no mask_levels: a pixel counts from {DEFAULT_LEVEL}/255 on")
    return head | body | {"demo": _demo_figures(bundle_dir, model, bundle.manifest.channels)}


def open_model(bundle: Bundle, recipe_file: Path, threads: int) -> tuple[BundleEngine, Model]:
    """Opens the bundle's engine, and with a recipe what `measure` takes; UserError, ConfigError, BundleError."""
    if not recipe_file.is_file():
        raise UserError(
            f"{recipe_file}: no such file; `inspectd-train calibrate` writes one, or name another recipe"
        )
    engine = open_engine(bundle, threads)
    return engine, model_of(bundle, engine.score, load_recipe(recipe_file).recipe)


def _demo_figures(bundle_dir: Path, model: Model, channels: int) -> Figures | None:
    """Judges the demo parts in a bundle, counts them and names those misjudged; None without such parts."""
    file = bundle_dir / "parts/parts.json"
    if not file.is_file():
        return None
    bad: list[bool] = []
    verdicts: list[Verdict] = []
    wrong: dict[str, str] = {}
    for name, label in _demo_labels(file).items():
        image = _demo_image(file.with_name(name), channels)
        bad.append(label != "clean")
        verdicts.append(model.judged(*model.score(image), image.shape).verdict)
        if bad[-1] == (verdicts[-1] is Verdict.PASS):
            wrong[name] = "escape" if bad[-1] else f"overkill, {verdicts[-1].value}"
    return part_counts(bad, verdicts) | {"misjudged": wrong}


def _demo_labels(file: Path) -> dict[str, str]:
    try:
        return {name: entry["label"] for name, entry in json.loads(file.read_text("utf-8")).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{file}: not the truth of demo parts; cut them anew, or delete the folder") from None


def _demo_image(file: Path, channels: int) -> U8:
    try:
        return with_channels(read_image(file), channels)
    except ValueError as error:
        raise UserError(f"{file.parent}/{error}; cut the demo parts anew, or delete the folder") from None


def measure(model: Model, samples: Iterator[Sample], part_px: SizePx | None) -> Figures:
    """Measures anything that scores pictures (a bundle, a peer) on labelled pictures."""
    areas = Areas(model.classes, model.stride, model.mask_levels)
    counts = _Sums(areas, Froc(model.classes, model.stride))
    for picture, parts in parts_of(samples, part_px):
        shape = picture.mask.shape[0], picture.mask.shape[1]
        counts.sizes.add(shape)
        scores, peak = model.score(picture.image)
        counts.areas.add(picture.name, scores, picture.mask)
        counts.matches.append(defects.match(scores, peak, picture.mask, model.plan(shape)))
        counts.froc.add(scores, peak, picture.mask)
        for part in parts:
            scored = (scores, peak) if part is picture else model.score(part.image)
            _judge_part(counts, model, part, *scored)
    return _figures(counts, model)


def _judge_part(counts: _Sums, model: Model, part: Sample, scores: U8, peak: U8) -> None:
    judgement = model.judged(scores, peak, part.mask.shape)
    shows = tuple(model.classes[k] for k in sorted(shown(part)))
    counts.parts.append(JudgedPart(part.name, shows, int(peak.max()), judgement.verdict.value, judgement.detail))
    counts.truncated += judgement.truncated


def _figures(counts: _Sums, model: Model) -> Figures:
    areas, per_defect = counts.areas.figures(), defects.summary(counts.matches)
    peaks = metrics.empty()
    for part in counts.parts:
        peaks[int(bool(part.shows)), part.score] += 1
    verdicts = part_counts([bool(p.shows) for p in counts.parts], [Verdict(p.verdict) for p in counts.parts])
    curve = counts.froc.front()
    return {
        "miou": areas["miou"],
        "miou_bg": areas["miou_bg"],
        "pixel_ap": areas["pixel_ap"],
        "part_auroc": metrics.auroc(peaks),
        "escape_rate": verdicts["escape_rate"],
        "overkill_rate": verdicts["overkill_rate"],
        "undecided_rate": verdicts["undecided_rate"],
        "per_class": areas["per_class"],
        "part_ap": metrics.average_precision(peaks) if verdicts["clean"] else None,
        "escape_at_overkill": {f"{most:g}": metrics.escape_at_overkill(peaks, most) for most in OVERKILLS},
        "parts": verdicts,
        "roc": metrics.roc(peaks),
        "defect_recall": per_defect["recall"],
        "false_regions_per_picture": per_defect["false_regions_per_picture"],
        "defects": per_defect,
        "defect_curve": curve,
        "defect_recall_at_false": {f"{most:g}": _recall_at(curve, most) for most in FALSE_PER_PICTURE},
        "coarse": areas["coarse"],
        "confusion": areas["confusion"],
        "precision_recall": areas["precision_recall"],
        "pictures": len(counts.matches),
        "picture_sizes": len(counts.sizes),
        "verdicts": [vars(part) for part in counts.parts],
        "picture_defects": _picture_defects(counts),
        "notes": _notes(counts, verdicts, model),
    }


def _picture_defects(counts: _Sums) -> list[dict[str, Any]]:
    """Lists the pictures with a missed defect or a false region, and these, in px of the picture."""
    found = []
    for name, match in zip(counts.areas.names, counts.matches, strict=True):
        missed = [{"class": d.class_, "box": d.box, "area_px": d.area_px} for d in match.defects if not d.found]
        false = [{"class": r.class_, "box": r.bbox, "score": r.score} for r in match.false]
        if missed or false:
            found.append({"name": name, "missed": missed, "false": false})
    return found


def _recall_at(curve: list[dict[str, Any]], most: float) -> float | None:
    """The highest recall of the curve's points with at most so many false regions per picture."""
    recalls = [p["defect_recall"] for p in curve if p["false_regions_per_picture"] <= most]
    return max((r for r in recalls if r is not None), default=None)


def _notes(counts: _Sums, verdicts: Figures, model: Model) -> list[str]:
    notes = []
    if not counts.parts:
        notes.append("no part fits: every picture is smaller than a part, so nothing is known per part")
    elif not verdicts["clean"]:
        notes.append(
            "no part is clean, so escapes, overkill, AUROC and AP of parts can't be known; add good parts, or "
            "where pictures are larger than parts give the part's size: --part WxH"
        )
    if counts.parts and not verdicts["defective"]:
        notes.append("no part shows a defect, so escapes, AUROC and AP can't be known")
    notes += [
        f"no picture of the split shows {name}: its IoU, F1 and AP can't be known and are not in the means"
        for k, name in enumerate(model.classes)
        if not counts.areas.pixels[k][1].any()
    ]
    if crowded := sum(match.truncated for match in counts.matches):
        notes.append(
            f"{crowded} pictures had more than {model.recipe.max_regions} regions: false ones beyond don't count"
        )
    if counts.truncated:
        notes.append(
            f"{counts.truncated} parts had more than {model.recipe.max_regions} regions: undecided at best"
        )
    return notes

"""Compares two bundles, or one under two recipes, on the same parts: `inspectd-train compare`."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspectd.engine.bundle import load_bundle
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Judgement, Verdict
from inspectd_train.data.dataset import DataSet, Sample, pictures
from inspectd_train.data.parts import SizePx, parts_of, shown
from inspectd_train.files import write_text
from inspectd_train.measure.evaluate import open_model
from inspectd_train.measure.model import Model, not_applied
from inspectd_train.measure.scores import check_classes
from inspectd_train.report.draw import draw

SHOWN = 30
"""How many changed parts of each kind are shown as pictures; more are listed by name."""
KINDS = ("new escape", "new overkill", "escape mended", "overkill mended", "other doubt")


@dataclass(frozen=True)
class Side:
    """A bundle with the recipe it is judged by."""

    bundle: Path
    recipe: Path

    def __str__(self) -> str:
        own = self.recipe == self.bundle / "recipe.toml"
        return str(self.bundle) if own else f"{self.bundle} with {self.recipe}"


@dataclass(frozen=True)
class VerdictChange:
    """A part with two different verdicts: what kind of change it is, and both sides as a JPEG, base64."""

    name: str
    kind: str
    before: str
    after: str
    jpeg: str


def compare(a: Side, b: Side, data: DataSet, split: str, part_px: SizePx | None, threads: int) -> dict[str, Any]:
    """Counts each side, and lists every part whose verdict changed; UserError where sides can't be compared."""
    models, channels = zip(*(_open(side, data, threads) for side in (a, b)), strict=True)
    if channels[0] != channels[1]:
        raise UserError(
            f"{a.bundle} sees {channels[0]} channel(s), {b.bundle} {channels[1]}; they need other cameras"
        )
    changes: list[VerdictChange] = []
    counts = [dict.fromkeys(("escapes", "overkill", "undecided"), 0) for _ in models]
    clean = bad = 0
    for _, parts in parts_of(pictures(data, split, channels[0]), part_px):
        for part in parts:
            defective = bool(shown(part))
            clean, bad = clean + (not defective), bad + defective
            found = [model.judged(*model.score(part.image), part.mask.shape) for model in models]
            for own, judgement in zip(counts, found, strict=True):
                own["escapes"] += defective and judgement.verdict is Verdict.PASS
                own["overkill"] += not defective and judgement.verdict is not Verdict.PASS
                own["undecided"] += judgement.verdict is Verdict.UNKNOWN
            if found[0].verdict is not found[1].verdict:
                kind = _kind(defective, *(j.verdict for j in found))
                jpeg = _pair(part, found) if sum(c.kind == kind for c in changes) < SHOWN else ""
                changes.append(VerdictChange(part.name, kind, str(found[0].verdict), str(found[1].verdict), jpeg))
    if clean + bad == 0:
        raise UserError(
            f"{data.folder}: no part of {part_px} px fits into a {split} picture; ask for smaller parts"
        )
    by_kind = {kind: [c.name for c in changes if c.kind == kind] for kind in KINDS}
    sides = [{"name": str(side), **own} for side, own in zip((a, b), counts, strict=True)]
    notes = [note for model, side in zip(models, (a, b), strict=True) for note in not_applied(model, side.recipe)]
    notes += ["no part is clean: overkill is not compared"] * (not clean)
    notes += ["no part shows a defect: escapes are not compared"] * (not bad)
    return {"parts": clean + bad, "clean": clean, "defective": bad, "a": sides[0], "b": sides[1],
            "changed": len(changes), **by_kind, "changes": changes, "notes": notes}  # fmt: skip


def accepted(result: dict[str, Any], overkill_allowed: int) -> bool:
    """Whether B may replace A: it lets no bad part pass that A held, and ejects at most so many more good ones."""
    more = len(result["new overkill"]) - len(result["overkill mended"])
    return not result["new escape"] and more <= overkill_allowed


def write_page(result: dict[str, Any], file: Path) -> None:
    """Writes all changes as one self-contained HTML file, the gravest first; UserError."""
    changes = sorted(result["changes"], key=lambda c: KINDS.index(c.kind))
    cards = [
        f"<h3>{c.kind}: {html.escape(c.name)} ({c.before} → {c.after})</h3>"
        + (f'<img src="data:image/jpeg;base64,{c.jpeg}" alt="">' if c.jpeg else "<p>(listed only)</p>")
        for c in changes
    ]
    rows = "".join(
        f"<tr><td>{html.escape(side['name'])}<td>{side['escapes']}<td>{side['overkill']}<td>{side['undecided']}"
        for side in (result["a"], result["b"])
    )
    kinds = f"{result['clean']} clean, {result['defective']} defective"
    head = f"{result['parts']} parts: {kinds}; {len(changes)} changed"
    write_text(
        file,
        '<!doctype html><meta charset="utf-8"><title>compare</title>'
        "<style>body{font:15px system-ui;margin:24px}td,th{padding:2px 14px 2px 0;text-align:left}</style>"
        f"<h1>Two judges, the same parts</h1><p>{head}</p>"
        f"<table><tr><th><th>escapes<th>overkill<th>undecided{rows}</table>{''.join(cards)}\n",
    )


def _open(side: Side, data: DataSet, threads: int) -> tuple[Model, int]:
    """Opens a side; returns it and its number of channels."""
    bundle = load_bundle(side.bundle)
    check_classes(bundle, data)
    return open_model(bundle, side.recipe, threads)[1], bundle.manifest.channels


def _kind(defective: bool, before: Verdict, after: Verdict) -> str:
    """Which of KINDS a change of verdict is."""
    if after is Verdict.PASS:
        return "new escape" if defective else "overkill mended"
    if before is Verdict.PASS:
        return "escape mended" if defective else "new overkill"
    return "other doubt"


def _pair(part: Sample, found: list[Judgement]) -> str:
    """Draws the part as both sides see it, side by side: JPEG, base64."""
    images: list[NDArray[np.uint8]] = [draw(part.image, judgement) for judgement in found]
    both = np.hstack([images[0], np.full((images[0].shape[0], 6, 3), 255, np.uint8), images[1]])
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(both, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return base64.b64encode(jpeg.tobytes()).decode()

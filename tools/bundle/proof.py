"""Says whether the dev parts have shown that a network finds anything, and writes it into the manifest."""

from __future__ import annotations

import json
from pathlib import Path

from inspectd.runtime.errors import UserError
from inspectd_train.bundle.export import MANIFEST, write_manifest
from inspectd_train.measure.verdicts import Figures


def why_unproven(figures: Figures, passes: float | None) -> str:
    """Why the figures of the dev parts, as `calibrate` counts them, prove nothing; empty if they do.

    passes: how often the training went through its pictures; None = not known.
    """
    defective, clean, regions = figures["defective"], figures["clean"], figures["regions"]
    found = defective - figures["escapes"]
    if passes is not None and passes < 1:
        return f"it learned for {passes:.2f} of one pass over its training pictures; train it longer"
    if not defective:
        return "no dev part shows a defect, so nobody knows whether it finds one; add defective pictures to dev"
    if not clean and regions is not None and not regions["found"]:
        return f"it finds none of the {regions['defects']} defects in dev; train it longer, or look at the labels"
    if not found:
        return f"it finds none of the {defective} defective dev parts; train it longer, or look at the labels"
    if clean and found * clean <= figures["overkill"] * defective:
        return (
            f"it ejects {found} of {defective} defective dev parts and {figures['overkill']} of {clean} clean "
            "ones, as chance would; train it longer, or look at the labels"
        )
    return ""


def record_proof(bundle_dir: Path, unproven: str) -> None:
    """Writes `unproven` into the manifest, or takes it out; UserError if that can't be written."""
    manifest = json.loads((bundle_dir / MANIFEST).read_text("utf-8"))
    manifest.pop("unproven", None)
    try:
        write_manifest(bundle_dir, manifest | ({"unproven": unproven} if unproven else {}))
    except OSError as error:
        raise UserError(f"{bundle_dir / MANIFEST}: can't be written ({error.strerror or error})") from None

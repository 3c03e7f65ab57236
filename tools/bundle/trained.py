"""Reads what a bundle's manifest says of its own training: split file, size of a part, data."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from inspectd_train.data.dataset import SPLIT_FILE, DataSet, digest
from inspectd_train.data.parts import SizePx


def trained_part_px(bundle: Path) -> SizePx | None:
    """What counted as a part when the bundle was trained; None is the whole picture, or that nothing says."""
    try:
        width, height = _trained(bundle)["settings"]["part_px"]
        return int(width), int(height)
    except (ValueError, KeyError, TypeError):
        return None


def trained_split(bundle: Path) -> str:
    """The split file that the bundle was trained with; the usual one where nothing says."""
    return str(_trained(bundle).get("split", SPLIT_FILE))


def trained_passes(bundle: Path) -> float | None:
    """How often the network's training went through its pictures; None where nothing says."""
    try:
        return float(_trained(bundle)["passes"])
    except (KeyError, TypeError, ValueError):
        return None


def strange_to(bundle: Path, data: DataSet) -> list[str]:
    """Says so where a bundle was trained on other pictures, masks or splits than these."""
    known = _trained(bundle).get("data_sha256")
    with contextlib.suppress(FileNotFoundError):  # of pictures that are not asked for now
        if known is None or known == digest(data):
            return []
    return [
        f"{data.folder}, {data.split_file}: not as it was when the bundle learned from it; pictures that it knows "
        "may be among these, and flatter it"
    ]


def _trained(bundle: Path) -> dict[str, Any]:
    """Reads the manifest's record of the training; empty where it can't be read or is another tool's."""
    try:
        trained = json.loads((bundle / "manifest.json").read_text("utf-8"))["trained"]
        return trained if isinstance(trained, dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}

"""Loads the weights that a network begins with, and those that a run or a bundle holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from inspectd.engine.bundle import load_bundle
from inspectd.runtime.errors import UserError
from inspectd_train.bundle.export import MANIFEST, WEIGHTS
from inspectd_train.data.dataset import DataSet
from inspectd_train.net.csnet import WIDTHS, CSNet, Size
from inspectd_train.train.run import RunSettings
from inspectd_train.train.state import BEST, load_weights

FINE_TUNING_RATE = 0.25
"""Share of the learning rate with which a bundle is fine-tuned: what it knows is moved, not thrown away."""
Mode = Literal["transfer", "fine-tune"]


@dataclass(frozen=True)
class Origin:
    """A bundle to begin with.

    `transfer` keeps the features and learns a new head, for other classes; `fine-tune` keeps everything.
    """

    bundle: Path
    mode: Mode

    def __str__(self) -> str:
        bundle = load_bundle(self.bundle)
        return f"{self.mode} of {bundle.manifest.name}, graph {bundle.sha256[:12]}"


def starting_net(data: DataSet, settings: RunSettings, origin: Origin | None) -> CSNet:
    """Makes a fresh network by the seed, or one with a bundle's weights; UserError where they don't fit."""
    torch.manual_seed(settings.seed)
    net = CSNet(settings.channels, len(data.classes), settings.net, settings.branches)
    if origin is None:
        return net
    known = tuple(load_bundle(origin.bundle).manifest.classes)
    if origin.mode == "fine-tune" and known != data.classes:
        raise UserError(
            f"{origin.bundle}: knows the classes {', '.join(known)}, the data set has {', '.join(data.classes)}; "
            "use --mode transfer"
        )
    weights = load_weights(origin.bundle / WEIGHTS)
    if origin.mode == "transfer":
        weights = {k: v for k, v in weights.items() if not k.startswith("head.")}
        weights |= {k: v for k, v in net.state_dict().items() if k.startswith("head.")}
    _fill(net, origin.bundle / WEIGHTS, weights)
    return net


def trained_net(folder: Path, record: dict[str, Any]) -> CSNet:
    """Loads the averaged, unfused network of a run's folder, in eval mode; UserError."""
    own = record["settings"]
    net = CSNet(own["channels"], len(record["classes"]), own["net"], own["branches"])
    _fill(net, folder / BEST)
    return net.eval()


def bundled_net(bundle_dir: Path) -> CSNet:
    """Loads the trained, unfused network of a bundle, in eval mode; UserError when that can't be."""
    manifest = load_bundle(bundle_dir).manifest
    net = CSNet(manifest.channels, len(manifest.classes), net_of(bundle_dir))
    _fill(net, bundle_dir / WEIGHTS)
    return net.eval()


def net_of(bundle_dir: Path) -> Size:
    """Reads the size of a bundle's network; UserError when its manifest does not say."""
    try:
        family = str(json.loads((bundle_dir / MANIFEST).read_text("utf-8"))["network"]["family"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{bundle_dir / MANIFEST}: does not say which network it is; train it anew") from None
    for size in WIDTHS:
        if family == f"CSNet-{size.upper()}":
            return size
    raise UserError(f"{bundle_dir / MANIFEST}: {family} is not known to this version; train it anew")


def _fill(net: CSNet, file: Path, weights: dict[str, torch.Tensor] | None = None) -> None:
    """Loads a file's weights, or those that were made of them, into `net`; UserError where they don't fit."""
    try:
        net.load_state_dict(load_weights(file) if weights is None else weights)
    except RuntimeError:
        raise UserError(
            f"{file}: is of another network than --net {net.net} with {net.channels} channel(s); "
            f"choose its size ({', '.join(WIDTHS)}), or train a new one"
        ) from None

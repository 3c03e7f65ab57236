"""Builds the networks that are compared, by name, and finds those that were trained."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal, cast, get_args

from inspectd.runtime.errors import UserError, missing_package
from inspectd_train.net.csnet import CSNet, Size
from inspectd_train.peers.lraspp import LrAspp
from inspectd_train.peers.unet import UNet
from inspectd_train.train.run import recorded_settings
from inspectd_train.train.state import BEST, TRAINING, load_weights

Name = Literal["csnet-xs", "csnet-s", "csnet-m", "csnet-xl", "unet16", "lraspp"]
NAMES: tuple[Name, ...] = get_args(Name)
TITLES: dict[Name, str] = {
    "csnet-xs": "CSNet-XS",
    "csnet-s": "CSNet-S",
    "csnet-m": "CSNet-M",
    "csnet-xl": "CSNet-XL",
    "unet16": "U-Net(16)",
    "lraspp": "LR-ASPP MobileNetV3-L",
}
Net = CSNet | UNet | LrAspp
"""A network of the comparison; each has `channels`, `classes` and `stride`."""
ALL_THREADS = len(os.sched_getaffinity(0))
PEER = "peer.json"


def build(name: Name, channels: int, classes: int, branches: bool = False) -> Net:
    """Builds a network with weights of torch's random numbers; UserError if its library isn't installed."""
    if name == "unet16":
        return UNet(channels, classes)
    if name == "lraspp":
        try:
            return LrAspp(channels, classes)
        except ModuleNotFoundError as error:
            raise UserError(missing_package(error, "peers")) from None
    return CSNet(channels, classes, size_of(name), branches)


def known(name: str) -> Name:
    """Returns the name if it is one of NAMES, else raises UserError."""
    if name not in NAMES:
        raise UserError(f"{name}: no such network; known are {', '.join(NAMES)}")
    return name


def size_of(name: Name) -> Size:
    """The size of a CSNet by its name; "s" for the others, whose settings name none."""
    return cast(Size, name.removeprefix("csnet-")) if name.startswith("csnet-") else "s"


def run_folder(folder: Path) -> Path:
    """Finds the run: in the folder that `inspectd_train.peers.fit` wrote, or within a bundle; UserError."""
    for place in (folder, folder / TRAINING):
        if (place / BEST).is_file():
            return place
    raise UserError(
        f"{folder}: no {BEST} in it; give the --out of inspectd_train.peers.fit or of inspectd-train fit"
    )


def name_of(run: Path) -> tuple[Name, int | None]:
    """Reads what was trained in a run's folder, and on how many threads if that is known; UserError."""
    if not (run / PEER).is_file():
        return cast(Name, f"csnet-{recorded_settings(run)[1].net}"), None
    try:
        own = json.loads((run / PEER).read_text("utf-8"))
        return known(own["net"]), int(own["threads"])
    except (OSError, ValueError, KeyError, TypeError, UserError):
        raise UserError(f"{run / PEER}: damaged, or of another version; train anew") from None


def trained(run: Path, classes: int) -> Net:
    """Loads the best network of a run's folder; UserError when the weights are of another."""
    own = recorded_settings(run)[1]
    net = build(name_of(run)[0], own.channels, classes, own.branches)
    try:
        net.load_state_dict(load_weights(run / BEST))
    except RuntimeError:
        raise UserError(f"{run / BEST}: weights of another network than {run} says, or of other classes") from None
    return net.eval()

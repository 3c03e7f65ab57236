"""Opens a training run: what it depends on, and what it learns from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning_fabric import Fabric

from inspectd.runtime.errors import UserError
from inspectd_train.data.dataset import SMALLEST_PX, DataSet, Sample, digest, load
from inspectd_train.data.parts import SizePx, as_parts, shown
from inspectd_train.net.csnet import Size
from inspectd_train.net.losses import Loss
from inspectd_train.net.targets import Target
from inspectd_train.train.augment import Flip
from inspectd_train.train.sampler import Place, defect_places
from inspectd_train.train.state import RECORD

LARGEST_CROP_PX, STEP_PX = 256, 32
PIXELS_A_STEP = 5 * LARGEST_CROP_PX**2


@dataclass(frozen=True)
class RunSettings:
    """What a run depends on besides the data.

    Exactly one of `minutes` (wall clock of steps and checks) and `epochs` (of as many crops as cover the training
    pictures once, 50 steps at least) ends it.
    """

    minutes: float | None = None
    epochs: int | None = None
    seed: int = 0
    net: Size = "s"
    channels: int = 1
    part_px: SizePx | None = None
    crop_px: int | None = None
    """The side of a crop; None: what fits into five of six training pictures, at most 256."""
    batch: int | None = None
    """The crops of a step; None: so many that a step has 5 x 256 x 256 px."""
    learning_rate: float = 1e-3
    last_rate: float = 0.4
    """The share of the learning rate that is left at the end: what a rate near zero still learns is the training
    pictures by heart, and the averaged weights (`ema`) need no calmer end.
    """
    weight_decay: float = 0.02
    warm_up: float = 0.03
    ema: float = 0.998
    flip: Flip = "both"
    strength: float = 1.0
    """How strong the augmentation is; 1 is usual."""
    target: Target = "coverage"
    loss: Loss = "ce+dice"
    peak_share: float = 0.1
    defect_share: float = 0.6
    hard_share: float = 0.2
    paste_share: float = 0.3
    balanced: bool = True
    branches: bool = False
    """Whether to train with RepVGG branches; see `inspectd_train.net.csnet`."""
    patience: int = 0
    """How many checks without a better dev score end the run; 0 = never."""
    deterministic: bool = False
    origin: str = ""
    """How the run began, if not with random weights: mode, name and graph of a bundle."""


@dataclass(frozen=True)
class Run:
    """What stays the same during a run."""

    out: Path
    settings: RunSettings
    fabric: Fabric
    data: DataSet
    learn: list[Sample]
    dev: list[Sample]
    """The parts of the dev split."""
    defects: list[list[Place]]
    data_sha256: str
    crop_px: int
    batch: int

    @property
    def identity(self) -> str:
        """A hash of data and settings: runs with the same one may go on from each other's state."""
        return hashlib.sha256(f"{self.data_sha256} {json.dumps(asdict(self.settings))}".encode()).hexdigest()


def open_run(data: DataSet, out: Path, settings: RunSettings, fabric: Fabric) -> Run:
    """Reads the data set that a run learns from; UserError names the file that is wrong."""
    if shared := set(data.splits["train"]) & {*data.splits["dev"], *data.splits["test"]}:
        raise UserError(
            f"{data.folder / data.split_file}: {min(shared)} is in train and again in dev or test, "
            "so the figures would flatter; take it out of one"
        )
    learn, dev = (load(data, split, settings.channels) for split in ("train", "dev"))
    defects = defect_places(learn, len(data.classes))
    for name, places in zip(data.classes, defects, strict=True):
        if not places:
            raise UserError(
                f"{data.folder / data.split_file}: no training picture shows the class {name}; "
                "move one there, or take the class out of classes.json"
            )
    crop_px = settings.crop_px or usual_crop_px(learn)
    batch = settings.batch or max(2, round(PIXELS_A_STEP / crop_px**2))
    parts = as_parts(dev, settings.part_px)
    if not parts:
        raise UserError(
            f"{data.folder}: no part of {settings.part_px} px fits into a dev picture; ask for smaller"
        )
    if not any(shown(part) for part in parts):
        raise UserError(
            f"{data.folder / data.split_file}: no dev part shows a defect, so nobody could tell good weights from "
            "bad ones; move some there"
        )
    return Run(out, settings, fabric, data, learn, parts, defects, digest(data), crop_px, batch)


def usual_crop_px(samples: list[Sample]) -> int:
    """The side of a crop that fits into five of six pictures, in steps of 32; 64 to 256 px."""
    fitting: int = sorted(min(sample.mask.shape) for sample in samples)[len(samples) // 6]
    return min(max(fitting // STEP_PX * STEP_PX, SMALLEST_PX), LARGEST_CROP_PX)


def recorded_settings(folder: Path) -> tuple[str, RunSettings]:
    """Reads split file and settings of a run's folder; UserError when there is no whole run in it."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        own = record["settings"]
        part_px = tuple(own["part_px"]) if own["part_px"] else None
        return record["split"], RunSettings(**own | {"part_px": part_px})
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder / RECORD}: not there or not of this version; give what `fit --out` names"
        ) from None

"""Trains a CSNet: on the CPU, on a GPU, or on several by torchrun. Read `train` from top to bottom."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from inspectd.errors import UserError
from tools.augment import Flip
from tools.csnet import Size, normalise
from tools.dataset import SMALLEST_PX, DataSet, Sample, digest, load
from tools.dev import dev_figures, hard_places
from tools.losses import Loss, loss_of
from tools.parts import SizePx, as_parts
from tools.sampler import Batch, Place, Sampling, batches, defect_places
from tools.state import BEST, RECORD, Progress, load_state, load_weights, save_record, save_state, save_weights
from tools.targets import Target

CHECKS = 8
CHECK_REST = 9.0
"""Times the length of a check that are spent on steps before the next."""
CURVE_POINTS = 100
CALMER = "try a lower --learning-rate"
LARGEST_CROP_PX, STEP_PX = 256, 32
PIXELS_A_STEP = 10 * LARGEST_CROP_PX**2
FEWEST_STEPS = 50
SAVE_EVERY_S = 30.0
Tell = Callable[[Progress, float], None]
"""Called after each step with the progress and the share of the run that is done, 0 to 1."""


@dataclass(frozen=True)
class Settings:
    """What a run depends on besides the data. Exactly one of `minutes` (wall clock of steps and checks) and
    `epochs` (of as many crops as cover the training pictures once, 50 steps at least) ends it.
    """

    minutes: float | None = None
    epochs: int | None = None
    seed: int = 0
    net: Size = "s"
    channels: int = 1
    part_px: SizePx | None = None
    crop_px: int | None = None
    """None: as the pictures let it be, at most 256; and `batch` so many that a step has 10 x 256 x 256 px."""
    batch: int | None = None
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: float = 0.03
    ema: float = 0.998
    flip: Flip = "both"
    strength: float = 1.0
    """Of the augmentation."""
    target: Target = "coverage"
    loss: Loss = "ce+dice"
    peak_share: float = 0.1
    defect_share: float = 0.6
    hard_share: float = 0.2
    paste_share: float = 0.3
    balanced: bool = True
    branches: bool = False
    """RepVGG branches in training; see `tools.csnet`."""
    patience: int = 0
    """Checks without a better dev score after which the run ends; 0 = never."""
    deterministic: bool = False


@dataclass(frozen=True)
class Run:
    """What stays the same during a run."""

    out: Path
    settings: Settings
    fabric: Fabric
    data: DataSet
    learn: list[Sample]
    dev: list[Sample]
    """Parts."""
    defects: list[list[Place]]
    data_sha256: str
    crop_px: int
    batch: int

    @property
    def identity(self) -> str:
        """Two runs with the same may go on from each other's state."""
        return hashlib.sha256(f"{self.data_sha256} {json.dumps(asdict(self.settings))}".encode()).hexdigest()


def open_run(data: DataSet, out: Path, settings: Settings, fabric: Fabric) -> Run:
    """Reads the data set; UserError names the file that is wrong."""
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
    usual = sorted(min(sample.mask.shape) for sample in learn)[len(learn) // 2]
    crop_px = settings.crop_px or min(max(usual // STEP_PX * STEP_PX, SMALLEST_PX), LARGEST_CROP_PX)
    batch = settings.batch or max(2, round(PIXELS_A_STEP / crop_px**2))
    parts = as_parts(dev, settings.part_px)
    if not parts:
        raise UserError(
            f"{data.folder}: no part of {settings.part_px} px fits into a dev picture; ask for smaller"
        )
    return Run(out, settings, fabric, data, learn, parts, defects, digest(data), crop_px, batch)


def recorded_settings(folder: Path) -> tuple[str, Settings]:
    """Split file and settings of a run's folder; UserError when there is no whole run in it."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        own = record["settings"]
        part_px = tuple(own["part_px"]) if own["part_px"] else None
        return record["split"], Settings(**own | {"part_px": part_px})
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder / RECORD}: not there or not of this version; give what `fit --out` names"
        ) from None


def trained_part_px(bundle: Path) -> SizePx | None:
    """What counted as a part when the bundle was trained; None is the whole picture, or that nothing says."""
    try:
        trained = json.loads((bundle / "manifest.json").read_text("utf-8"))["trained"]
        width, height = trained["settings"]["part_px"]
        return int(width), int(height)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def train(run: Run, bare: nn.Module, stride: int, resume: bool, tell: Tell) -> nn.Module:
    """The network best on dev, averaged and unfused; the folder `run.out` then holds what `tools.state` says.

    `bare` comes with the weights to begin with; it gives logits at `stride`. UserError: another run's folder,
    a loss that isn't a number, memory or disk that do not suffice; the best weights are kept.
    """
    settings, fabric = run.settings, run.fabric
    torch.use_deterministic_algorithms(settings.deterministic)
    bare = bare.to(fabric.device, memory_format=_layout(fabric))  # type: ignore[call-overload]
    average = copy.deepcopy(bare).eval()
    net, optimiser = fabric.setup(
        bare, torch.optim.AdamW(bare.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    )
    progress = load_state(run.out, bare, average, optimiser, run.identity) if resume else Progress()
    clock, saved_s = _Clock(run, progress), time.monotonic()
    while clock.share() < 1 and not _stalled(progress, settings.patience):
        with closing(_batches(run, stride, progress)) as source:
            while not clock.check_due():
                _set_rate(optimiser, settings, clock.share())
                loss = _learn(net, optimiser, source, run, stride)
                _follow(average, bare, min(settings.ema, (1 + progress.step) / (10 + progress.step)))
                _count(progress, loss, clock.share())
                clock.tick()
                tell(progress, clock.share())
                if time.monotonic() - saved_s > SAVE_EVERY_S and not clock.check_due():
                    _save(run, bare, average, optimiser, progress)
                    saved_s = time.monotonic()
        _check(run, average, stride, progress)
        clock.checked()
        _save(run, bare, average, optimiser, progress)
        tell(progress, clock.share())
    return _best(run, average)


def _learn(
    net: nn.Module, optimiser: torch.optim.Optimizer, source: Iterator[Batch], run: Run, stride: int
) -> float:
    """One step; returns the loss."""
    device, layout = run.fabric.device, _layout(run.fabric)
    try:
        batch = next(source)
        images = torch.from_numpy(batch.images).to(device).permute(0, 3, 1, 2)
        targets, weights = (torch.from_numpy(x).to(device) for x in (batch.targets, batch.weights))
        logits = net(normalise(images.float()).contiguous(memory_format=layout))
        loss = loss_of(logits.float(), targets, weights, run.settings.loss, run.settings.peak_share, stride)
        optimiser.zero_grad()
        run.fabric.backward(loss)
        optimiser.step()
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "alloc" not in str(error) and "memory" not in str(error):
            raise
        raise UserError(
            f"out of memory with a batch of {run.batch} crops of {run.crop_px} px; "
            + (f"try --batch {run.batch // 2}" if run.batch > 3 else "try a smaller --crop")
        ) from None
    if not math.isfinite(value := loss.item()):
        raise UserError(
            f"the loss is {value} after a step at rate {optimiser.param_groups[0]['lr']:.2g}; training stopped, "
            f"the best weights so far are kept in {run.out}: {CALMER}"
        )
    return value


def _count(progress: Progress, loss: float, share: float) -> None:
    progress.step, progress.loss = progress.step + 1, progress.loss + 0.02 * (loss - progress.loss)
    if share * CURVE_POINTS >= len(progress.losses):
        progress.losses.append((progress.step, round(progress.loss, 4)))


def _batches(run: Run, stride: int, progress: Progress) -> Generator[Batch, None, None]:
    own = run.settings
    how = Sampling(
        own.seed,  run.batch, run.crop_px, stride, own.flip, own.strength, own.target,
        own.defect_share, own.hard_share, own.paste_share, own.balanced,
    )  # fmt: skip
    ahead = range(progress.step, progress.step + 10**9)
    return batches(run.learn, run.defects, progress.hard, how, ahead, run.fabric.global_rank)


def _check(run: Run, average: nn.Module, stride: int, progress: Progress) -> None:
    """Figures on dev; keeps the weights if they are the best so far; finds new hard places."""
    if not all(bool(torch.isfinite(t).all()) for t in average.state_dict().values()):
        raise UserError(f"weights are no numbers any more; the best so far are kept in {run.out}: {CALMER}")
    if run.fabric.is_global_zero:
        figures = dev_figures(average, run.dev, len(run.data.classes), stride, run.fabric.device)
        progress.checks.append(
            {"minutes": progress.elapsed_s / 60, "step": progress.step, "loss": progress.loss} | figures
        )
        if (
            progress.checks.index(max(progress.checks, key=lambda check: check["score"]))
            == len(progress.checks) - 1
        ):
            save_weights(run.out / BEST, average)
        save_record(run.out, _record(run, progress))
        if run.settings.hard_share:
            classes, device = len(run.data.classes), run.fabric.device
            progress.hard = hard_places(average, run.learn, classes, stride, device, draw=progress.step)
    if run.fabric.world_size > 1:
        progress.checks, progress.hard = run.fabric.broadcast((progress.checks, progress.hard))


def _record(run: Run, progress: Progress) -> dict[str, object]:
    scores = [check["score"] for check in progress.checks]
    return {
        "classes": run.data.classes,
        "data": run.data.folder.resolve().name,
        "data_sha256": run.data_sha256,
        "split": run.data.split_file,
        "settings": asdict(run.settings) | {"crop_px": run.crop_px, "batch": run.batch},
        "best_check": scores.index(max(scores)),
        "checks": progress.checks,
        "losses": progress.losses,
    }


def _best(run: Run, average: nn.Module) -> nn.Module:
    run.fabric.barrier()
    average.load_state_dict(load_weights(run.out / BEST))
    return average.cpu()


def _save(
    run: Run, bare: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    if run.fabric.is_global_zero:
        save_state(run.out, bare, average, optimiser, progress, run.identity)


class _Clock:
    """The share of the run that is done: of its steps, or of its wall clock, in which a pause does not count."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self._run, self._progress = run, progress
        self._steps = (run.settings.epochs or 0) * _steps_an_epoch(run)
        self._start_s = time.monotonic() - progress.elapsed_s
        self._share = self._rest_until_s = 0.0
        self.tick()
        self._next_check = (math.floor(self._share * CHECKS + 1e-9) + 1) / CHECKS

    def tick(self) -> None:
        fabric, elapsed_s = self._run.fabric, time.monotonic() - self._start_s
        # all processes must check and stop at the same step: the first one's clock counts
        self._progress.elapsed_s = fabric.broadcast(elapsed_s) if fabric.world_size > 1 else elapsed_s
        if self._steps:
            self._share = self._progress.step / self._steps
        else:
            assert self._run.settings.minutes is not None
            self._share = self._progress.elapsed_s / (60 * self._run.settings.minutes)

    def share(self) -> float:
        return self._share

    def check_due(self) -> bool:
        """At equal shares of the run; on the wall clock later, if checking took more than a tenth of the time."""
        if self._share >= 1:
            return True
        rested = self._steps or self._progress.elapsed_s > self._rest_until_s
        return self._share >= self._next_check and bool(rested)

    def checked(self) -> None:
        began_s = self._progress.elapsed_s
        self.tick()
        self._rest_until_s = self._progress.elapsed_s + CHECK_REST * (self._progress.elapsed_s - began_s)
        self._next_check = (math.floor(self._share * CHECKS + 1e-9) + 1) / CHECKS


def _steps_an_epoch(run: Run) -> int:
    pixels = sum(sample.mask.size for sample in run.learn)
    of_step = run.batch * run.crop_px**2 * run.fabric.world_size
    return max(FEWEST_STEPS, math.ceil(pixels / of_step))


def _stalled(progress: Progress, patience: int) -> bool:
    """Whether the last `patience` checks brought nothing better."""
    scores = [check["score"] for check in progress.checks]
    return 0 < patience < len(scores) and max(scores[-patience:]) <= max(scores[:-patience])


def _follow(average: nn.Module, net: nn.Module, keep: float) -> None:
    """Moves the exponential average of weights and batch norm statistics towards `net`."""
    with torch.no_grad():
        slow = [t for t in average.state_dict().values() if t.is_floating_point()]
        fast = [t for t in net.state_dict().values() if t.is_floating_point()]
        torch._foreach_lerp_(slow, fast, 1 - keep)


def _set_rate(optimiser: torch.optim.Optimizer, settings: Settings, share: float) -> None:
    """Linear warm-up, then half a cosine over the run."""
    warm = min(1.0, share / settings.warm_up)
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * min(share, 1.0)))


def _layout(fabric: Fabric) -> torch.memory_format:
    """Channels last is a third faster in bfloat16; in float32 its backward pass crashes in torch 2.13."""
    return torch.channels_last if "mixed" in str(fabric._precision.precision) else torch.contiguous_format

"""Trains a network: on the CPU, on a GPU, or on several by torchrun.

Read `train` from top to bottom; what it calls stands below in the order in which it happens: batches, the rate,
a step, the average, a check on dev, the end.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from inspectd.runtime.errors import UserError
from inspectd_train.memory import out_of_memory
from inspectd_train.net.csnet import normalise
from inspectd_train.net.losses import loss_of
from inspectd_train.train.augment import Augmentation
from inspectd_train.train.checks import affordable, dev_figures, hard_places, some_of
from inspectd_train.train.clock import Clock, passes
from inspectd_train.train.run import Run, RunSettings
from inspectd_train.train.sampler import Batch, Sampling, batches
from inspectd_train.train.state import (
    BEST,
    RunProgress,
    load_state,
    load_weights,
    save_record,
    save_state,
    save_weights,
)

CURVE_POINTS = 100
CALMER = "try a lower --learning-rate"
SAVE_EVERY_S = 30.0
CHECK_SHARE = 0.03
"""The most of a run's minutes for each half of a check: measuring dev, and looking for hard places."""
Report = Callable[[RunProgress, float], None]
"""A function that is called after each step with the progress and the share of the run that is done, 0 to 1."""


def train(run: Run, bare: nn.Module, stride: int, resume: bool, report: Report) -> nn.Module:
    """Trains `bare`, which gives logits at `stride`, from the weights it has; returns the network best on dev.

    That is an average over the steps, unfused, on the CPU. The folder `run.out` then holds the files that
    `inspectd_train.train.state` names. UserError: another run's folder, a loss that isn't a number, memory or disk
    that do not suffice; the best weights so far are kept.
    """
    own, fabric = run.settings, run.fabric
    torch.use_deterministic_algorithms(own.deterministic)
    bare = bare.to(fabric.device, memory_format=_layout(fabric))  # type: ignore[call-overload]
    average = copy.deepcopy(bare).eval()
    net, optimiser = fabric.setup(
        bare, torch.optim.AdamW(bare.parameters(), own.learning_rate, weight_decay=own.weight_decay)
    )
    progress = load_state(run.out, bare, average, optimiser, run.identity) if resume else RunProgress()
    clock, saved_s = Clock(run, progress), time.monotonic()

    while clock.share() < 1 and not _stalled(progress, own.patience):
        # steps up to the next check; it changes the hard places, and so the batches end with them
        with closing(_batches(run, stride, progress)) as source:
            while not clock.check_due():
                _set_rate(optimiser, own, clock.share())
                with _memory_explained(run):
                    loss = _step(net, optimiser, next(source), run, stride)
                _follow(average, bare, min(own.ema, (1 + progress.step) / (10 + progress.step)))
                _count(progress, loss, clock.share())
                clock.tick()
                report(progress, clock.share())
                if time.monotonic() - saved_s > SAVE_EVERY_S and not clock.check_due():
                    _save(run, bare, average, optimiser, progress)
                    saved_s = time.monotonic()

        _check(run, average, stride, progress, is_last=clock.share() >= 1)
        clock.checked()
        _save(run, bare, average, optimiser, progress)
        report(progress, clock.share())

    fabric.barrier()  # only the first process writes the best weights
    average.load_state_dict(load_weights(run.out / BEST))
    return average.cpu()


def _layout(fabric: Fabric) -> torch.memory_format:
    """The memory layout: channels last is a third faster in bfloat16; in float32 it crashes in torch 2.13."""
    return torch.channels_last if "mixed" in str(fabric._precision.precision) else torch.contiguous_format


def _stalled(progress: RunProgress, patience: int) -> bool:
    """Whether the last `patience` checks brought nothing better."""
    scores = [check["score"] for check in progress.checks]
    return 0 < patience < len(scores) and max(scores[-patience:]) <= max(scores[:-patience])


def _batches(run: Run, stride: int, progress: RunProgress) -> Generator[Batch, None, None]:
    """The batches from the step that the run has reached, without end; closing it ends the sampler's thread."""
    own = run.settings
    how = Sampling(
        own.seed, run.batch, Augmentation(run.crop_px, own.flip, own.strength), stride, own.target,
        own.defect_share, own.hard_share, own.paste_share, own.balanced,
    )  # fmt: skip
    ahead = range(progress.step, progress.step + 10**9)
    return batches(run.learn, run.defects, progress.hard, how, ahead, run.fabric.global_rank)


def _set_rate(optimiser: torch.optim.Optimizer, settings: RunSettings, share: float) -> None:
    """Sets the learning rate: linear warm-up, then half a cosine over the run, down to `last_rate`."""
    warm, cosine = min(1.0, share / settings.warm_up), 0.5 + 0.5 * math.cos(math.pi * min(share, 1.0))
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * warm * (settings.last_rate + (1 - settings.last_rate) * cosine)


def _step(net: nn.Module, optimiser: torch.optim.Optimizer, batch: Batch, run: Run, stride: int) -> float:
    """Learns one batch: forward, loss, backward, a step of the optimiser; returns the loss.

    UserError: the loss is infinite or not a number.
    """
    device, own = run.fabric.device, run.settings
    images: Tensor = torch.from_numpy(batch.images).to(device).permute(0, 3, 1, 2)
    targets, weights = (torch.from_numpy(x).to(device) for x in (batch.targets, batch.weights))
    logits = net(normalise(images.float()).contiguous(memory_format=_layout(run.fabric)))
    loss = loss_of(logits.float(), targets, weights, own.loss, own.peak_share, stride)
    optimiser.zero_grad()
    run.fabric.backward(loss)
    optimiser.step()
    if not math.isfinite(value := loss.item()):
        raise UserError(
            f"the loss is {value} after a step at rate {optimiser.param_groups[0]['lr']:.2g}; training stopped, "
            f"{_kept(run)}: {CALMER}"
        )
    return value


@contextmanager
def _memory_explained(run: Run) -> Iterator[None]:
    """Turns an error of full memory into a UserError that says which smaller batch or crop to try."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"out of memory with a batch of {run.batch} crops of {run.crop_px} px; "
            + (f"try --batch {run.batch // 2}" if run.batch > 3 else "try a smaller --crop")
        ) from None


def _kept(run: Run) -> str:
    """How a sentence about the end of a run says whether it left any weights."""
    return f"the best weights so far are kept in {run.out}" if (run.out / BEST).is_file() else "there are none yet"


def _follow(average: nn.Module, net: nn.Module, keep: float) -> None:
    """Moves the exponential average of weights and batch norm statistics towards `net`."""
    with torch.no_grad():
        slow = [t for t in average.state_dict().values() if t.is_floating_point()]
        fast = [t for t in net.state_dict().values() if t.is_floating_point()]
        torch._foreach_lerp_(slow, fast, 1 - keep)


def _count(progress: RunProgress, loss: float, share: float) -> None:
    """Counts a step and its loss; at about a hundred equal shares of the run it adds a point to the curve."""
    progress.step, progress.loss = progress.step + 1, progress.loss + 0.02 * (loss - progress.loss)
    if share * CURVE_POINTS >= len(progress.losses):
        progress.losses.append((progress.step, round(progress.loss, 4)))


def _save(
    run: Run, bare: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, progress: RunProgress
) -> None:
    """Saves all that a resumed run needs; of several processes only the first one does."""
    if run.fabric.is_global_zero:
        save_state(run.out, bare, average, optimiser, progress, run.identity)


def _check(run: Run, average: nn.Module, stride: int, progress: RunProgress, is_last: bool) -> None:
    """Measures the average on dev, keeps its weights if they are the best so far, finds new hard places to go on.

    Of several processes only the first one does, and the others take over what it found.
    """
    if not all(bool(torch.isfinite(t).all()) for t in average.state_dict().values()):
        raise UserError(f"weights are no numbers any more; {_kept(run)}: {CALMER}")
    if run.fabric.is_global_zero:
        how = len(run.data.classes), stride, run.fabric.device
        minutes = run.settings.minutes
        most_s = CHECK_SHARE * 60 * minutes if minutes else math.inf
        if not progress.checked:
            progress.checked = affordable(average, run.dev, *how, most_s) if minutes else len(run.dev)
        figures = dev_figures(average, some_of(run.dev, progress.checked), *how)
        head = {
            "minutes": progress.elapsed_s / 60,
            "step": progress.step,
            "passes": passes(run, progress),
            "loss": progress.loss,
        }
        progress.checks.append(head | figures)
        if _best_check(progress) == len(progress.checks) - 1:
            save_weights(run.out / BEST, average)
        save_record(run.out, _record(run, progress))
        if run.settings.hard_share and not is_last:
            progress.hard = hard_places(average, run.learn, *how, progress.step, most_s)
    if run.fabric.world_size > 1:
        progress.checks, progress.hard = run.fabric.broadcast((progress.checks, progress.hard))


def _best_check(progress: RunProgress) -> int:
    """Index of the check with the highest score, the first one among equals."""
    scores = [check["score"] for check in progress.checks]
    return scores.index(max(scores))


def _record(run: Run, progress: RunProgress) -> dict[str, object]:
    """The content of run.json."""
    return {
        "classes": run.data.classes,
        "data": run.data.folder.resolve().name,
        "data_sha256": run.data_sha256,
        "split": run.data.split_file,
        "settings": asdict(run.settings) | {"crop_px": run.crop_px, "batch": run.batch},
        "best_check": _best_check(progress),
        "checked": progress.checked,
        "checks": progress.checks,
        "losses": progress.losses,
    }

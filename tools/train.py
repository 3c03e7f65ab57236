"""Trains a CSNet on a data set, on the CPU. Read `train` from top to bottom: that is the whole recipe."""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from tools import metrics
from tools.csnet import STRIDE_PX, CSNet, fuse, normalise
from tools.dataset import (
    DataSet,
    Sample,
    cell_fractions,
    defect_centres,
    digest,
    load,
    random_crop,
    small_defect_weights,
)
from tools.demo_parts import Part, find_parts

Centre = tuple[int, float, float]


@dataclass(frozen=True)
class Settings:
    """What a run depends on besides the data; `minutes` is the wall clock for the steps and the checks."""

    minutes: float
    seed: int = 0
    crop_px: int = 288
    batch: int = 10
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: float = 0.03
    ema: float = 0.995
    defect_share: float = 0.6
    hard_share: float = 0.2
    check_every_s: float = 240.0


def train(data: DataSet, run: Path, settings: Settings, say: Console) -> None:
    """Writes `run`/weights.pt (the fused network best on dev) and `run`/run.json (settings and every check)."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    run.mkdir(parents=True, exist_ok=True)
    say.print(f"reading {data.folder}")
    learn, dev, data_sha256 = load(data, "train"), load(data, "dev"), digest(data)
    defects = defect_centres(learn, len(data.classes))
    hard: list[Centre] = []
    net = CSNet(channels=3, classes=len(data.classes)).to(memory_format=_layout())  # type: ignore[call-overload]
    average = copy.deepcopy(net).eval()
    optimiser = torch.optim.AdamW(net.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    checks: list[dict[str, float]] = []
    parts = _dev_parts(dev)
    start_s, last_check_s, step, total = time.monotonic(), 0.0, 0, 1.0
    while (now_s := time.monotonic() - start_s) < 60 * settings.minutes:
        _set_rate(optimiser, settings, now_s / (60 * settings.minutes))
        images, targets, weights = _batch(learn, defects, hard, settings, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=_has_bf16()):
            logits = net(images)
        loss = _loss(logits.float(), targets, weights)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        _follow(average, net, min(settings.ema, (1 + step) / (10 + step)))
        step, total = step + 1, total + 0.01 * (loss.item() - total)
        if now_s - last_check_s > settings.check_every_s:
            checks.append({"minutes": now_s / 60, "steps": step, "loss": total} | _check(average, dev, parts))
            hard = _hard_centres(average, learn)
            _keep(run, data, data_sha256, settings, average, checks)
            say.print(_line(checks[-1]) + f", {len(hard)} hard places")
            last_check_s = time.monotonic() - start_s
    checks.append({"minutes": now_s / 60, "steps": step, "loss": total} | _check(average, dev, parts))
    _keep(run, data, data_sha256, settings, average, checks)
    say.print(_line(checks[-1]) + f"; best kept in {run}")


def score_map(net: CSNet, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scores of the defect classes, uint8 [classes, h, w] as the daemon sees them, of an RGB image [H, W, 3]."""
    x = normalise(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=_has_bf16()):
        logits = net(x)
    return np.asarray((255 * logits.float().softmax(1)[0, 1:]).round().clip(0, 255).byte().numpy())


def _batch(
    samples: list[Sample],
    defects: list[list[Centre]],
    hard: list[Centre],
    settings: Settings,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Images [B, 3, S, S], target shares [B, 1 + classes, S/4, S/4] (background first), weights [B, S/4, S/4]."""
    images, shares, weights = [], [], []
    for _ in range(settings.batch):
        index, x, y = _place(samples, defects, hard, settings, rng)
        image, mask = random_crop(samples[index], (x, y), settings.crop_px, rng)
        share, weight = cell_fractions(mask, len(defects))
        images.append(torch.from_numpy(image))
        shares.append(torch.from_numpy(np.concatenate([weight[None] - share.sum(0), share])))
        weights.append(torch.from_numpy(weight * small_defect_weights(mask)))
    stacked = normalise(torch.stack(images).permute(0, 3, 1, 2).float())
    return stacked.contiguous(memory_format=_layout()), torch.stack(shares), torch.stack(weights)


def _place(
    samples: list[Sample],
    defects: list[list[Centre]],
    hard: list[Centre],
    settings: Settings,
    rng: np.random.Generator,
) -> Centre:
    """Where to crop: around a defect, around a place the net took for one, or anywhere."""
    dice, half = rng.random(), settings.crop_px / 2
    filled = [places for places in defects if places]
    if dice < settings.defect_share and filled:
        places = filled[rng.integers(len(filled))]
    elif dice < settings.defect_share + settings.hard_share and hard:
        places = hard
    else:
        index = int(rng.integers(len(samples)))
        height, width = samples[index].mask.shape
        return index, rng.uniform(half / 2, width - half / 2), rng.uniform(half / 2, height - half / 2)
    index, x, y = places[rng.integers(len(places))]
    return index, x + 0.8 * rng.uniform(-half, half), y + 0.8 * rng.uniform(-half, half)


def _loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy with the area shares as soft labels, plus dice per defect class over the whole batch.

    Dice after Milletari et al., "V-Net", 3DV 2016, with soft targets; the weights enter its overlap squared
    and its sum once, so that finding a small defect pays more than its area.
    """
    weights = weights[:, None]
    cross = -(weights * targets * functional.log_softmax(logits, 1)).sum() / weights.sum().clamp(min=1)
    chance, wanted = weights * logits.softmax(1)[:, 1:], weights * targets[:, 1:]
    overlap, both = (chance * wanted).sum((0, 2, 3)), (chance + wanted).sum((0, 2, 3))
    return cross + (1 - (2 * overlap + 1) / (both + 1)).mean()


def _dev_parts(dev: list[Sample]) -> list[list[Part]]:
    """Parts per picture by the rule of the demo parts."""
    rng = np.random.default_rng(0)
    return [find_parts(sample.mask, index, 3, 2, rng) for index, sample in enumerate(dev)]


def _check(average: CSNet, dev: list[Sample], parts: list[list[Part]]) -> dict[str, float]:
    """Figures on dev, all defect classes together: per cell, and per part by its highest score."""
    net, cells, peaks = fuse(average), np.zeros((2, 256), np.int64), np.zeros((2, 256), np.int64)
    for sample, cuts in zip(dev, parts, strict=True):
        scores = score_map(net, sample.image)
        share, weight = cell_fractions(sample.mask, scores.shape[0])
        for k in range(scores.shape[0]):
            cells += metrics.histogram(scores[k], share[k] >= 0.5, weight > 0)
        for part in cuts:
            x, y, w, h = (side // STRIDE_PX for side in part.box)
            peaks[int(bool(part.defects)), scores[:, y : y + h + 1, x : x + w + 1].max()] += 1
    best = metrics.at_threshold(cells, metrics.best_f1_level(cells))
    lowest = int(np.flatnonzero(peaks[1])[0]) if peaks[1].any() else 0
    return {
        "cell_ap": metrics.average_precision(cells),
        "cell_f1": best["f1"],
        "part_ap": metrics.average_precision(peaks),
        "part_auroc": metrics.auroc(peaks),
        "overkill_without_escape": float(peaks[0, lowest:].sum() / max(peaks[0].sum(), 1)),
    }


def _hard_centres(average: CSNet, samples: list[Sample], worst: int = 400) -> list[Centre]:
    """The places in the training pictures farthest from any defect mark that score highest, one per 64 px."""
    net, found, side = fuse(average), [], 64 // STRIDE_PX
    for index, sample in enumerate(samples):
        scores = score_map(net, sample.image).max(0)
        marked = torch.from_numpy(cell_fractions((sample.mask > 0).astype(np.uint8), 1)[0][0])
        near = functional.max_pool2d(marked[None], 9, 1, 4)[0].numpy() > 0
        scores = np.where(near, 0, scores)
        h, w = (n // side * side for n in scores.shape)
        tiles = scores[:h, :w].reshape(h // side, side, w // side, side).max((1, 3))
        for row, column in np.argwhere(tiles > 12).tolist():
            found.append((int(tiles[row, column]), index, (column + 0.5) * 64.0, (row + 0.5) * 64.0))
    return [(index, x, y) for _, index, x, y in sorted(found, reverse=True)[:worst]]


def _keep(
    run: Path,
    data: DataSet,
    data_sha256: str,
    settings: Settings,
    average: CSNet,
    checks: list[dict[str, float]],
) -> None:
    """Writes the weights if the last check is the best so far, and the record of the run in any case."""
    goodness = [check["cell_ap"] + check["part_ap"] for check in checks]
    if goodness[-1] == max(goodness):
        torch.save(fuse(average).state_dict(), run / "weights.pt")
    record = {
        "classes": data.classes,
        "data": data.folder.resolve().name,
        "data_sha256": data_sha256,
        "split": data.split_file,
        "settings": asdict(settings),
        "best_check": goodness.index(max(goodness)),
        "checks": checks,
    }
    (run / "run.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def _follow(average: CSNet, net: CSNet, keep: float) -> None:
    """Moves the exponential average of weights and batch norm statistics towards `net`."""
    with torch.no_grad():
        for slow, fast in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
            if slow.is_floating_point():
                slow.lerp_(fast, 1 - keep)


def _set_rate(optimiser: torch.optim.Optimizer, settings: Settings, progress: float) -> None:
    """Linear warm-up, then half a cosine; `progress` is the share of the time used, 0 to 1."""
    warm = min(1.0, progress / settings.warm_up)
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * progress))


def _has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself; emulated it would be slower than float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _layout() -> torch.memory_format:
    """Channels last is a third faster in bfloat16; in float32 its backward pass crashes in torch 2.13."""
    return torch.channels_last if _has_bf16() else torch.contiguous_format


def _line(check: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in check.items())

"""Checks what a network in training is worth on dev, and where it errs in the training pictures."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from inspectd_train.data.dataset import Sample
from inspectd_train.data.parts import shown
from inspectd_train.measure import metrics
from inspectd_train.net.csnet import CSNet, fuse, normalise
from inspectd_train.net.targets import cell_fractions
from inspectd_train.train.sampler import Place

Image = NDArray[np.uint8]
TEMPERATURES = tuple(round(0.5 * 1.1**n, 3) for n in range(26))
"""The temperatures tried, 0.5 to 5.4."""
FEWEST_CHECKED = 16
HARD_PLACES = 400
PICTURES_SEARCHED = 150
TILE_PX = 64
NEAR_PX = 16
LOWEST_HARD = 12
"""The score, of 255, from which a place away from any defect is hard."""


def dev_figures(
    net: nn.Module, parts: list[Sample], classes: int, stride: int, device: torch.device
) -> dict[str, float]:
    """Measures the parts; `score` is what a run keeps the best of.

    cell_miou: mean over the classes of the IoU of cells at the level where it is best; cell_ap, part_ap,
    part_auroc: all classes together, a part by its highest score; parts need clean and defective ones, without
    which they are 0 and the score is of cells alone.
    """
    segment = segmenter(net, device)
    cells, per_class, peaks = metrics.empty(), [metrics.empty() for _ in range(classes)], metrics.empty()
    for part in parts:
        scores = segment(part.image)
        share, care = cell_fractions(part.mask, classes, stride)
        cells += metrics.histogram(scores.max(0), share.sum(0) >= 0.5, care > 0)
        for k in range(classes):
            per_class[k] += metrics.histogram(scores[k], share[k] >= 0.5, care > 0)
        peaks[int(bool(shown(part))), scores.max()] += 1
    best = [metrics.at_threshold(c, metrics.best_f1_level(c))["iou"] for c in per_class]
    figures = {
        "cell_miou": float(np.mean(best)),
        "cell_ap": metrics.average_precision(cells) or 0.0,
        "part_ap": (metrics.average_precision(peaks) or 0.0) if peaks.any(axis=1).all() else 0.0,
        "part_auroc": metrics.auroc(peaks) or 0.0,
    }
    score = (figures["cell_miou"] + figures["cell_ap"]) / 2
    return figures | {"score": (score + figures["part_ap"]) / 2 if figures["part_ap"] else score}


def affordable(
    net: nn.Module, parts: list[Sample], classes: int, stride: int, device: torch.device, most_s: float
) -> int:
    """How many of the parts can be measured within `most_s` seconds, by the time that the largest one takes.

    At least FEWEST_CHECKED, if there are so many.
    """
    largest = max(parts, key=lambda part: part.mask.size)
    began_s = time.monotonic()
    dev_figures(net, [largest], classes, stride, device)
    took_s = time.monotonic() - began_s
    return min(len(parts), max(FEWEST_CHECKED, int(most_s / max(took_s, 1e-6))))


def some_of(parts: list[Sample], count: int) -> list[Sample]:
    """A number of the parts, always the same ones: of the clean and of the defective ones in proportion."""
    if count >= len(parts):
        return parts
    by_kind = sorted(parts, key=lambda part: bool(shown(part)))
    return [by_kind[n * len(parts) // count] for n in range(count)]


def hard_places(
    net: nn.Module,
    samples: list[Sample],
    classes: int,
    stride: int,
    device: torch.device,
    draw: int,
    most_s: float = math.inf,
) -> list[Place]:
    """Finds the places away from any defect mark that score highest, one per 64 px.

    At most 150 of the training pictures are searched, drawn by the number `draw`, and for no more than `most_s`
    seconds: all would take longer than they are worth.
    """
    until_s = time.monotonic() + most_s
    segment, found, side, reach = segmenter(net, device), [], TILE_PX // stride, NEAR_PX // stride
    for index in np.random.default_rng(draw).permutation(len(samples))[:PICTURES_SEARCHED].tolist():
        if time.monotonic() > until_s:
            break
        sample = samples[index]
        scores = segment(sample.image).max(0)
        share, care = cell_fractions(sample.mask, classes, stride)
        marked = torch.from_numpy(((share.sum(0) > 0) | (care < 1)).astype(np.float32))
        near = functional.max_pool2d(marked[None], 2 * reach + 1, 1, reach)[0].numpy() > 0
        scores = np.where(near, 0, scores)
        scores = np.pad(scores, [(0, -n % side) for n in scores.shape])
        tiles = scores.reshape(scores.shape[0] // side, side, -1, side).max((1, 3))
        for row, column in np.argwhere(tiles > LOWEST_HARD).tolist():
            centre = (column + 0.5) * TILE_PX, (row + 0.5) * TILE_PX
            found.append((int(tiles[row, column]), index, *centre))
    return [(index, x, y) for _, index, x, y in sorted(found, reverse=True)[:HARD_PLACES]]


def segmenter(net: nn.Module, device: torch.device) -> Callable[[Image], Image]:
    """Makes a function that scores nearly as the daemon does: image uint8 [H, W, C] to uint8 [K, h, w]."""
    logits_of = _predictor(net, device)

    def segment(image: Image) -> Image:
        scores = 255 * logits_of(image).softmax(0)[1:]
        return np.asarray(scores.round().clamp(0, 255).byte().cpu().numpy())

    return segment


def best_temperature(
    net: nn.Module, parts: list[Sample], classes: int, stride: int, device: torch.device
) -> float:
    """Finds what to divide the logits by so that scores are as likely as they say, on the parts' cells.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Training with dice ends far too sure of
    itself: good and bad parts alike then reach 255 of 255, where no threshold can part them.
    """
    logits_of, costs = _predictor(net, device), torch.zeros(len(TEMPERATURES))
    for part in parts:
        share, care = cell_fractions(part.mask, classes, stride)
        labels = torch.from_numpy(np.concatenate([(care - share.sum(0))[None], share]))
        logits = logits_of(part.image).cpu()
        for n, temperature in enumerate(TEMPERATURES):
            costs[n] -= (labels * functional.log_softmax(logits / temperature, 0)).sum()
    return TEMPERATURES[int(costs.argmin())]


def _predictor(net: nn.Module, device: torch.device) -> Callable[[Image], Tensor]:
    """Makes a function from an image uint8 [H, W, C] to float logits [1 + K, h, w], unpadded as in the daemon."""
    fast = (fuse(net) if isinstance(net, CSNet) else copy.deepcopy(net).eval()).to(device)
    kind, half = device.type, bf16_is_fast(device)

    def predict(image: Image) -> Tensor:
        x = normalise(torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float())
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=half):
            return torch.as_tensor(fast(x.contiguous(memory_format=torch.channels_last))[0].float())

    return predict


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 itself; emulated it would be slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

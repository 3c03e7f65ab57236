"""The losses: what a network's errors cost. Cells weigh 0 where nobody knows, more in small defects."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Loss = Literal["ce", "dice", "ce+dice", "focal+dice"]
FOCAL_GAMMA = 2.0
PEAK_PX = 64
"""The area of the highest cells that stand for a crop's peak."""
PRESENT_PX = 16
"""The area that a defect must show for its crop to count as defective; smaller ones cost nothing."""


def loss_of(
    logits: Tensor, targets: Tensor, weights: Tensor, kind: Loss, peak_share: float, stride: int
) -> Tensor:
    """The loss of a batch, a scalar.

    `logits` and soft `targets` [B, 1 + K, h, w], background first; `weights` [B, h, w]; `stride` in px.
    """
    terms = {"ce": cross_entropy, "dice": dice, "focal": focal}
    total = torch.stack([terms[name](logits, targets, weights) for name in kind.split("+")]).sum()
    return total + peak_share * peak(logits, targets, weights, stride) if peak_share else total


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The cross-entropy with the area shares as soft labels, a scalar."""
    each = -(targets * functional.log_softmax(logits, 1)).sum(1)
    return (weights * each).sum() / weights.sum().clamp(min=1)


def focal(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The focal loss for soft labels, a scalar (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017).

    Gamma is 2. Each term is weighted by its distance from the label (as Li et al., "Generalized Focal Loss",
    NeurIPS 2020), so that a cell that says its share exactly costs nothing.
    """
    log_chance = functional.log_softmax(logits, 1)
    distance = (targets - log_chance.exp()).abs().pow(FOCAL_GAMMA)
    return -(weights * (distance * targets * log_chance).sum(1)).sum() / weights.sum().clamp(min=1)


def dice(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """One minus the overlap per defect class over the whole batch (Milletari et al., "V-Net", 3DV 2016).

    The weights enter the overlap squared and the sum once, so that finding a small defect pays more than
    its area.
    """
    weights = weights[:, None]
    chance, wanted = weights * logits.softmax(1)[:, 1:], weights * targets[:, 1:]
    overlap, both = (chance * wanted).sum((0, 2, 3)), (chance + wanted).sum((0, 2, 3))
    return (1 - (2 * overlap + 1) / (both + 1)).mean()


def peak(logits: Tensor, targets: Tensor, weights: Tensor, stride: int) -> Tensor:
    """The image-level term, a scalar: the highest cells against whether the crop shows a class at all.

    Per crop and class the mean of their log odds counts. What decides over a part is its highest score, and this
    term alone looks at it.
    """
    known = weights > 0
    log_chance = functional.log_softmax(logits, 1)[:, 1:]
    odds = log_chance - torch.log1p(-log_chance.exp().clamp(max=1 - 1e-6))
    odds = odds.masked_fill(~known[:, None], -30.0).flatten(2).topk(max(1, PEAK_PX // stride**2), 2).values.mean(2)
    area = (targets[:, 1:] * known[:, None]).sum((2, 3))
    sure = ((area == 0) | (area >= PRESENT_PX / stride**2)).float()
    each = functional.binary_cross_entropy_with_logits(odds, (area > 0).float(), reduction="none")
    return (sure * each).sum() / sure.sum().clamp(min=1)

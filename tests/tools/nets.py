"""Networks and pictures for the tests of the tool: small, made up, with the statistics of trained ones."""

import numpy as np
import torch
from torch import nn

from inspectd_train.data.dataset import Sample
from inspectd_train.net.csnet import CSNet, Size


def trained_looking(channels: int = 3, classes: int = 1, net: Size = "s") -> CSNet:
    """Its batch norms hold statistics and its scores take every value, as after training."""
    torch.manual_seed(0)
    made = CSNet(channels, classes, net).train()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over what comes
    rng = np.random.default_rng(0)
    for _ in range(2):
        made(torch.from_numpy(rng.normal(0, 1, (2, channels, 64, 64)).astype(np.float32)))
    with torch.no_grad():
        made.head.weight *= 4
    return made.eval()


def sample(
    name: str, size: tuple[int, int], channels: int, spots: list[tuple[int, int, int]], seed: int = 0
) -> Sample:
    """A noisy picture [H, W, C] with dark square spots (x, y, class) of 12 px."""
    rng = np.random.default_rng(seed)
    image = rng.normal(150, 20, (*size, channels))
    mask = np.zeros(size, np.uint8)
    for x, y, k in spots:
        image[y : y + 12, x : x + 12] -= 100
        mask[y : y + 12, x : x + 12] = k
    return Sample(name, image.clip(0, 255).astype(np.uint8), mask)

"""The plain U-Net, whole in this file, narrowed to 16 channels at full resolution.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015, with
batch norm and padded convolutions, as it is commonly used today. Two 3x3 convolutions per level, max pooling
down, 2x2 transposed convolutions up, the level's own map beside what comes from below.

    level    0    1    2    3    4
    stride   1    2    4    8   16
    width   16   32   64  128  256       1.94 M parameters, 46.1 GMAC per MPixel

Any size: pooling rounds up, and what comes from below is cut to the level's own size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (16, 32, 64, 128, 256)


class UNet(nn.Module):
    """U-Net: normalised images [B, channels, H, W] to logits [B, 1 + classes, H, W]; H, W 64 px or more."""

    stride = 1

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        inputs = (channels, *WIDTHS)
        self.down = nn.ModuleList(_two_convolutions(inputs[n], width) for n, width in enumerate(WIDTHS))
        upwards = range(len(WIDTHS) - 2, -1, -1)
        self.up = nn.ModuleList(nn.ConvTranspose2d(WIDTHS[n + 1], WIDTHS[n], 2, 2) for n in upwards)
        self.merge = nn.ModuleList(_two_convolutions(2 * WIDTHS[n], WIDTHS[n]) for n in upwards)
        self.head = nn.Conv2d(WIDTHS[0], 1 + classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images to logits; see the class."""
        x: Tensor = self.down[0](image)
        above = []
        for level in self.down[1:]:
            above.append(x)
            x = level(functional.max_pool2d(x, 2, ceil_mode=True))
        for up, merge in zip(self.up, self.merge, strict=True):
            beside = above.pop()
            x = up(x)[:, :, : beside.shape[2], : beside.shape[3]]
            x = merge(torch.cat([beside, x], 1))
        logits: Tensor = self.head(x)
        return logits


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(inputs, outputs), *_convolution(outputs, outputs))


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)

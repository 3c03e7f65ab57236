"""The real-time network of a well-kept library: torchvision's LR-ASPP on MobileNetV3-Large.

Howard et al., "Searching for MobileNetV3", ICCV 2019. Without its pretrained weights: like CSNet and the U-Net
it begins at random, and nothing is downloaded. torchvision upsamples its logits to full resolution; here they
stay at stride 8, as on a line.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

import torch
from torch import Tensor, nn

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
"""The signature of torchvision's operators nms and qnms."""


class LrAspp(nn.Module):
    """LR-ASPP: normalised images [B, channels, H, W] to logits [B, 1 + classes, ceil(H/8), ceil(W/8)].

    ModuleNotFoundError without torchvision (the extra `peers`).
    """

    stride = 8

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        library = import_torchvision()
        net = library.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=1 + classes)
        self.backbone, self.head = net.backbone, net.classifier
        stem = self.backbone["0"]
        stem[0] = nn.Conv2d(channels, stem[0].out_channels, 3, stride=2, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images to logits; see the class."""
        logits: Tensor = self.head(self.backbone(image))
        return logits


def import_torchvision() -> Any:
    """Imports torchvision.models.segmentation; ModuleNotFoundError if it isn't installed.

    The torchvision of PyPI is built for CUDA. Beside a CPU build of torch its C++ operators can't be loaded, and
    its import stops at two that no network here uses; declared, never defined, they let the import pass.
    """
    name = "torchvision.models.segmentation"
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", BOXES)
    return importlib.import_module(name)


def version() -> str | None:
    """The version of torchvision; None if it isn't installed."""
    try:
        return importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return None

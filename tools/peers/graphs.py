"""Makes graphs of untrained networks to measure speed: what is deployed, with numbers of a likely size in it."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inspectd_train.bundle.quantise import float_graph, prepared, quantised
from inspectd_train.net.csnet import CSNet, fuse, normalise
from inspectd_train.peers.nets import Net

U8 = NDArray[np.uint8]
SIDE_PX, PICTURES = 128, 2
"""Side and number of the pictures that INT8's ranges are measured on: random weights need no more."""


def random_picture(side_px: int, channels: int, seed: int) -> U8:
    """Draws grey metal in uneven light with texture, uint8 [side_px, side_px, channels]."""
    rng = np.random.default_rng(seed)
    total = np.full((side_px, side_px, channels), 128, np.float32)
    for cell_px, grey_levels in ((1, 8), (8, 12), (64, 25)):
        cells = -(-side_px // cell_px)
        coarse = rng.normal(0, grey_levels, (cells, cells, channels)).astype(np.float32)
        fine = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
        total += fine.reshape(total.shape)
    return total.clip(0, 255).astype(np.uint8)


def settled(net: Net) -> Net:
    """Puts a net in eval mode, its batch norms with the statistics of random pictures.

    Without them what flows shrinks or grows from layer to layer, as in no trained network.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain mean over what comes
    pictures = np.stack([random_picture(SIDE_PX, net.channels, seed) for seed in range(PICTURES)])
    with torch.no_grad():
        net.train()(normalise(torch.from_numpy(pictures).permute(0, 3, 1, 2).float()))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return net.eval()


def graphs(net: Net) -> dict[str, bytes]:
    """Exports ONNX files, `fp32` and `int8`: uint8 pictures in, uint8 scores out, at the net's own stride."""
    ready = fuse(net) if isinstance(net, CSNet) else net
    fp32 = float_graph(cast(CSNet, ready))  # asks for `channels` and a forward alone
    return {"fp32": fp32, "int8": int8_graph(fp32, net.channels)}


def int8_graph(graph: bytes, channels: int) -> bytes:
    """Puts a graph into INT8, with ranges from random pictures and plainly rounded weights.

    The rounding of `inspectd_train.bundle.quantise.int8_graph` doesn't know grouped convolutions; its values
    change no time, and its nodes are the same.
    """
    pictures = [random_picture(SIDE_PX, channels, seed) for seed in range(PICTURES)]
    return bytes(quantised(prepared(graph), pictures).SerializeToString())

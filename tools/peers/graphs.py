"""Graphs of untrained networks for measuring speed: what is deployed, with numbers of a likely size in it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]
from torch import nn

from tools.csnet import CSNet, fuse, normalise
from tools.peers.nets import Net
from tools.quantise import OPTIONS, float_graph

U8 = NDArray[np.uint8]
SIDE_PX, PICTURES = 128, 2
"""For calibration: ranges of random weights need no more."""


def random_picture(side_px: int, channels: int, seed: int) -> U8:
    """Grey metal in uneven light with texture, uint8 [side_px, side_px, channels]."""
    rng = np.random.default_rng(seed)
    total = np.full((side_px, side_px, channels), 128, np.float32)
    for cell_px, grey_levels in ((1, 8), (8, 12), (64, 25)):
        cells = -(-side_px // cell_px)
        coarse = rng.normal(0, grey_levels, (cells, cells, channels)).astype(np.float32)
        fine = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
        total += fine.reshape(total.shape)
    return total.clip(0, 255).astype(np.uint8)


def settled(net: Net) -> Net:
    """The same net in eval mode, its batch norms with the statistics of random pictures.

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
    """ONNX files by precision, `fp32` and `int8`; uint8 pictures in, uint8 scores out, at the net's own stride."""
    ready = fuse(net) if isinstance(net, CSNet) else net
    fp32 = float_graph(cast(CSNet, ready))  # asks for `channels` and a forward alone
    return {"fp32": fp32, "int8": int8_graph(fp32, net.channels)}


def int8_graph(graph: bytes, channels: int) -> bytes:
    """As `tools.quantise.int8_graph`, from random pictures and with plainly rounded weights.

    That one's rounding doesn't know grouped convolutions; its values change no time, its nodes are the same.
    """
    pictures = [random_picture(SIDE_PX, channels, seed) for seed in range(PICTURES)]
    logging.disable(logging.WARNING)  # it tells of its progress to the root logger
    try:
        with tempfile.TemporaryDirectory(prefix="inspectd-int8-") as folder:
            prepared, quantised = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
            quant_pre_process(onnx.load_from_string(graph), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(quantised),
                _Pictures(iter(pictures)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                op_types_to_quantize=["Conv"],
                extra_options=OPTIONS,
            )
            return quantised.read_bytes()
    finally:
        logging.disable(logging.NOTSET)


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Hands the pictures to ONNX Runtime one by one."""

    def __init__(self, pictures: Iterator[U8]) -> None:
        self._rest = pictures

    def get_next(self) -> dict[str, U8] | None:
        """The graph's next input, None at the end."""
        picture = next(self._rest, None)
        return None if picture is None else {"image": picture[None]}

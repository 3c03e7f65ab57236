"""Makes three ONNX graphs of a network, from the camera's bytes to scores: fp32, fp16 and INT8.

    image  uint8 [1, H, W, C]   exactly the bytes of the daemon's slot, grey or RGB; H and W symbolic
    scores uint8 [1, K, h, w]   255 x probability of each defect class; h, w = ceil(H/stride), ceil(W/stride)
    peak   uint8 [1, K]         the highest score of each class

A uint8 tensor meets only Cast, because TensorRT knows no other operator for it, so `peak` is reduced in
float. Clip(0, 255) stands right before each last Cast: ONNX Runtime and OpenVINO wrap 256 to 0. The softmax
is computed in fp32 in every graph.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

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
from torch import Tensor, nn

from inspectd.runtime.errors import UserError
from inspectd_train.bundle.rounding import equalise, round_weights
from inspectd_train.net.csnet import CSNet, normalise

OPSET = 17
OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": ["Conv"],
}
Image = NDArray[np.uint8]


class Deployed(nn.Module):
    """The whole graph around a fused network; `half`: everything from the image to the logits in fp16."""

    def __init__(self, net: CSNet, half: bool = False) -> None:
        super().__init__()
        self.dtype = torch.float16 if half else torch.float32
        self.net = copy.deepcopy(net).to(self.dtype).eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Maps an image uint8 [1, H, W, C] to scores uint8 [1, K, h, w] and peak uint8 [1, K]."""
        logits = self.net(normalise(image.to(self.dtype).permute(0, 3, 1, 2)))
        scores = torch.round(255 * logits.float().softmax(1)[:, 1:])
        peak = scores.amax((2, 3))
        return scores.clamp(0, 255).to(torch.uint8), peak.clamp(0, 255).to(torch.uint8)


def as_bfloat16(net: CSNet) -> CSNet:
    """Copies a fused net with weights that are exact in bfloat16.

    Engines that compute in it round them anyway, and so the fp32 reference differs from them by the rounding of
    activations only (about half the difference).
    """
    rounded = copy.deepcopy(net)
    for module in rounded.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.bfloat16().float()
    return rounded


def float_graph(net: CSNet, half: bool = False) -> bytes:
    """Exports the fused `net` with all that belongs around it as an ONNX file, checked by onnx.checker."""
    example = torch.zeros(1, 96, 64, net.channels, dtype=torch.uint8)
    with tempfile.TemporaryDirectory(prefix="inspectd-graph-") as folder, warnings.catch_warnings():
        file = Path(folder) / "model.onnx"
        warnings.simplefilter("ignore")  # the tracing exporter announces its retirement at every call
        torch.onnx.export(
            Deployed(net, half),
            (example,),
            str(file),
            input_names=["image"],
            output_names=["scores", "peak"],
            dynamic_axes={"image": {1: "H", 2: "W"}, "scores": {2: "h", 3: "w"}},
            opset_version=OPSET,
            dynamo=False,
        )
        content = file.read_bytes()
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    return content


def int8_graph(graph: bytes, pictures: list[Image]) -> bytes:
    """Puts the convolutions of a float graph into INT8, ranges measured on `pictures` (uint8 [H, W, C] each).

    Symmetric, weights per output channel, float bias, because TensorRT takes nothing else. Beyond that
    (figures in docs/accuracy.md): only what goes into a convolution is quantised, not what comes out, which
    would be rounded twice; channels are equalised and weights are rounded together, both by
    `inspectd_train.bundle.rounding`.
    """
    if not pictures:
        raise UserError("INT8 needs pictures of the training split to measure its ranges on; there is none")
    float_model = prepared(graph)
    equalise(float_model, pictures)
    model = quantised(float_model, pictures)
    round_weights(float_model, model, pictures)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def prepared(graph: bytes) -> onnx.ModelProto:
    """Prepares a float graph for ONNX Runtime's quantiser: constants folded, shapes inferred."""
    with tempfile.TemporaryDirectory(prefix="inspectd-int8-") as folder, _quiet():
        source, made = Path(folder) / "float.onnx", Path(folder) / "prepared.onnx"
        source.write_bytes(graph)
        quant_pre_process(str(source), str(made), skip_symbolic_shape=True)
        return onnx.load(str(made))


def quantised(model: onnx.ModelProto, pictures: list[Image]) -> onnx.ModelProto:
    """Puts the convolutions of a prepared graph into INT8, every weight rounded to the nearest.

    Ranges are the extremes on `pictures` (uint8 [H, W, C] each).
    """
    with tempfile.TemporaryDirectory(prefix="inspectd-int8-") as folder, _quiet():
        source, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        quantize_static(
            str(source),
            str(made),
            _Pictures(pictures),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=["Conv"],
            extra_options=OPTIONS,
        )
        return onnx.load(str(made))


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Hands the pictures to ONNX Runtime one by one."""

    def __init__(self, pictures: list[Image]) -> None:
        self._rest = iter(pictures)

    def get_next(self) -> dict[str, Image] | None:
        """The graph's next input, None at the end."""
        picture = next(self._rest, None)
        return None if picture is None else {"image": picture[None]}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences ONNX Runtime's quantiser, which talks on the standard output and to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)

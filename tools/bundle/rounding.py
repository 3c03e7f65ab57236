"""Brings the numbers of a convolution to INT8: makes channels alike, then rounds the weights.

First the channels between two convolutions are made alike, so that one range suits them all.

Weights are rounded so that a convolution's results change least, not each weight by itself. Rounding to the
nearest leaves an error in each; the weights that are still to be rounded can make up for it where their inputs go
together (Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR
2023). It needs only the second moments of the inputs, and no training. The graph stays what ONNX Runtime made: the
same scales, other whole numbers, and biases that keep each channel's mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

ACTIVATION_SHARE = 0.5
"""How much of the channels' differences the weights take over, 0 to 1."""
CELLS_PER_PICTURE = 1500
DAMPING = 0.01
"""Share of the mean second moment that is added to each, so that rare inputs can't be relied on."""
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class _Convolution:
    """A convolution by the names that it has in the two graphs."""

    node: onnx.NodeProto  # in the float graph
    scale_of_input: float
    weights: str  # int8 [out, in, k, k], in the quantised graph
    scales: str  # [out]
    bias: str  # float [out]


def equalise(float_graph: onnx.ModelProto, pictures: list[NDArray[np.uint8]]) -> None:
    """Lets the channels between two convolutions use one INT8 range alike, in place; the graph computes the same.

    What a channel is divided by on its way out of a convolution and ReLU, the next one's weights are multiplied
    with (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019). The
    share of the step between activations and weights is that of Xiao et al., "SmoothQuant", ICML 2023.
    """
    constants = {constant.name: constant for constant in float_graph.graph.initializer}
    values = {name: numpy_helper.to_array(constant).astype(np.float64) for name, constant in constants.items()}
    most: dict[str, F64] = {}
    for inputs in _inputs(float_graph, pictures):
        for name, x in inputs.items():
            of_channel = x[0].max((1, 2)).astype(np.float64)
            most[name] = np.maximum(most.get(name, of_channel), of_channel)
    for before, name, after in _chains(float_graph):
        rows = [values[node.input[1]] for node in after]
        used = np.max([np.abs(w / np.abs(w).max((1, 2, 3), keepdims=True)).max((0, 2, 3)) for w in rows], axis=0)
        seen = np.maximum(most[name], 1e-3 * most[name].max() + 1e-9)
        step = seen**ACTIVATION_SHARE / np.maximum(used, 1e-3) ** (1 - ACTIVATION_SHARE)
        step = np.maximum(step, 1e-2 * step.max())
        values[before.input[1]] /= step[:, None, None, None]
        values[before.input[2]] /= step
        for node in after:
            values[node.input[1]] *= step[None, :, None, None]
    for node in float_graph.graph.node:
        if node.op_type == "Conv":
            for name in node.input[1:]:
                _set(constants[name], values[name].astype(np.float32))


def _chains(graph: onnx.ModelProto) -> list[tuple[onnx.NodeProto, str, list[onnx.NodeProto]]]:
    """Finds convolutions whose ReLU's result goes into convolutions alone, with that result's name, and those."""
    made_by = {output: node for node in graph.graph.node for output in node.output}
    found = []
    for relu in graph.graph.node:
        if relu.op_type == "Relu" and made_by[relu.input[0]].op_type == "Conv":
            readers = [n for n in graph.graph.node if relu.output[0] in n.input and n.op_type != "Shape"]
            if all(node.op_type == "Conv" for node in readers):
                found.append((made_by[relu.input[0]], relu.output[0], readers))
    return found


def round_weights(
    float_graph: onnx.ModelProto, quantised: onnx.ModelProto, pictures: list[NDArray[np.uint8]]
) -> None:
    """Replaces int8 weights and float biases of `quantised`, which was made of `float_graph`.

    What goes into each convolution is measured on `pictures`, uint8 [H, W, C] each.
    """
    convolutions = _convolutions(float_graph, quantised)
    constants = {constant.name: constant for constant in quantised.graph.initializer}
    weights = {c.name: numpy_helper.to_array(c).astype(np.float64) for c in float_graph.graph.initializer}
    moments = _moments(float_graph, convolutions, pictures)
    for convolution, (seen, mean, mean_seen) in zip(convolutions, moments, strict=True):
        w = weights[convolution.node.input[1]]
        rows = w.reshape(len(w), -1)
        scales = numpy_helper.to_array(constants[convolution.scales]).astype(np.float64)
        whole = rounded(rows, scales, seen)
        shift = rows @ mean - (whole * scales[:, None]) @ mean_seen
        bias = numpy_helper.to_array(constants[convolution.bias]) + shift
        _set(constants[convolution.weights], whole.reshape(w.shape).astype(np.int8))
        _set(constants[convolution.bias], bias.astype(np.float32))


def rounded(rows: F64, scales: F64, moments: F64) -> F64:
    """Rounds `rows` [out, n] to whole numbers -127..127 of one scale per row, [out, n].

    `moments` [n, n]: mean of x xᵀ over the inputs x [n]. Column by column, the most used first; what rounding one
    leaves is spread over the columns that are still to come.
    """
    order = np.argsort(-np.diag(moments), kind="stable")
    damped = moments[np.ix_(order, order)] + DAMPING * np.mean(np.diag(moments)) * np.eye(len(order))
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, whole = rows[:, order] / scales[:, None], np.zeros_like(rows)
    for n in range(len(order)):
        whole[:, order[n]] = np.clip(np.round(left[:, n]), -127, 127)
        error = (left[:, n] - whole[:, order[n]]) / factor[n, n]
        left[:, n:] -= error[:, None] * factor[n, n:]
    return whole


def _moments(
    graph: onnx.ModelProto, convolutions: list[_Convolution], pictures: list[NDArray[np.uint8]]
) -> list[tuple[F64, F64, F64]]:
    """Measures per convolution the means of x̂ x̂ᵀ, x and x̂ over cells drawn with a fixed seed; x̂ is x in INT8."""
    rng = np.random.default_rng(0)
    sums: list[list[F64]] = [[] for _ in convolutions]
    count = [0 for _ in convolutions]
    for inputs in _inputs(graph, pictures):
        for n, convolution in enumerate(convolutions):
            x = _patches(convolution.node, inputs[convolution.node.input[0]], rng)
            step = convolution.scale_of_input
            seen = np.clip(np.round(x / step), -128, 127) * step
            more = [seen @ seen.T, x.sum(1), seen.sum(1)]
            sums[n] = [a + b for a, b in zip(sums[n], more, strict=True)] if sums[n] else more
            count[n] += x.shape[1]
    return [(a / k, b / k, c / k) for (a, b, c), k in zip(sums, count, strict=True)]


def _inputs(graph: onnx.ModelProto, pictures: list[NDArray[np.uint8]]) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Runs the graph on each picture and yields what goes into its convolutions, [1, C, H, W] by name."""
    names = sorted({node.input[0] for node in graph.graph.node if node.op_type == "Conv"})
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for picture in pictures:
        yield dict(zip(names, session.run(names, {"image": picture[None]}), strict=True))


def _patches(node: onnx.NodeProto, x: NDArray[np.float32], rng: np.random.Generator) -> F64:
    """Draws what a convolution multiplies its weights with, at CELLS_PER_PICTURE places: [in x k x k, places]."""
    of = {a.name: tuple(a.ints) for a in node.attribute if a.ints}
    columns = torch.nn.functional.unfold(
        torch.from_numpy(x),
        of["kernel_shape"],
        of.get("dilations", (1, 1)),
        of.get("pads", (0, 0))[:2],
        of.get("strides", (1, 1)),
    )[0]
    places = rng.choice(columns.shape[1], min(CELLS_PER_PICTURE, columns.shape[1]), replace=False)
    return np.asarray(columns[:, torch.from_numpy(places)].numpy(), np.float64)


def _convolutions(float_graph: onnx.ModelProto, quantised: onnx.ModelProto) -> list[_Convolution]:
    """Finds the convolutions that are quantised, by their names in both graphs."""
    made_by = {output: node for node in quantised.graph.node for output in node.output}
    values = {constant.name: constant for constant in quantised.graph.initializer}
    in_float = {node.name: node for node in float_graph.graph.node if node.op_type == "Conv"}
    found = []
    for node in quantised.graph.node:
        if node.op_type == "Conv":
            step = float(numpy_helper.to_array(values[made_by[node.input[0]].input[1]]))
            weights, scales = made_by[node.input[1]].input[:2]
            found.append(_Convolution(in_float[node.name], step, weights, scales, node.input[2]))
    return found


def _set(constant: onnx.TensorProto, value: NDArray[np.generic]) -> None:
    constant.CopyFrom(numpy_helper.from_array(value, constant.name))

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from inspectd.runtime.errors import UserError
from inspectd_train.bundle.export import difference, onnx_score
from inspectd_train.bundle.quantise import as_bfloat16, float_graph, int8_graph
from inspectd_train.bundle.rounding import equalise, rounded
from inspectd_train.net.csnet import fuse
from tests.tools.nets import sample, trained_looking

Graphs = dict[str, bytes]
NETS = [("s", 3, 2), ("xs", 1, 1)]
SIZES = [(64, 64), (97, 131)]


def made(net: str, channels: int, classes: int) -> Graphs:
    fused = fuse(trained_looking(channels, classes, net))  # type: ignore[arg-type]
    pictures = [sample(str(n), (96, 128), channels, [(20, 20, 1)], seed=n).image for n in range(4)]
    return {
        "fp32": float_graph(fused),
        "fp16": float_graph(fused, half=True),
        "int8": int8_graph(float_graph(fused), pictures),
    }


@pytest.fixture(scope="module", params=NETS, ids=lambda p: p[0])
def graphs(request: pytest.FixtureRequest) -> tuple[int, int, Graphs]:
    """Channels, stride, and the three graphs."""
    net, channels, classes = request.param
    return channels, 8 if net == "xs" else 4, made(net, channels, classes)


@pytest.mark.parametrize("size", SIZES)
def test_each_precision_computes_the_same_within_its_rounding(
    graphs: tuple[int, int, Graphs], size: tuple[int, int]
) -> None:
    channels, stride, files = graphs
    image = sample("x", size, channels, [(20, 20, 1)], seed=9).image
    scores, peak = onnx_score(files["fp32"])(image)
    assert scores.shape[1:] == (-(-size[0] // stride), -(-size[1] // stride))
    assert int(scores.max()) - int(scores.min()) > 100
    assert peak.tolist() == scores.max(axis=(1, 2)).tolist()
    assert difference(onnx_score(files["fp16"])(image)[0], scores) <= 2
    assert np.abs(onnx_score(files["int8"])(image)[0].astype(int) - scores).mean() <= 12


def readers_of(model: onnx.ModelProto, name: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if name in node.input]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_uint8_meets_only_casts_and_every_last_cast_is_clipped(
    graphs: tuple[int, int, Graphs], precision: str
) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graphs[2][precision]))
    made_by = {name: node for node in model.graph.node for name in node.output}
    ports = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    of_bytes = {port.name for port in ports if port.type.tensor_type.elem_type == TensorProto.UINT8}
    assert of_bytes == {"image", "scores", "peak"}
    assert [node.op_type for node in readers_of(model, "image")] == ["Cast"]
    for output in ("scores", "peak"):
        assert made_by[output].op_type == "Cast"
        clip = made_by[made_by[output].input[0]]
        assert clip.op_type == "Clip"
        assert not readers_of(model, output)
        bounds = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
        bounds |= {
            n.output[0]: numpy_helper.to_array(n.attribute[0].t)
            for n in model.graph.node
            if n.op_type == "Constant"
        }
        assert [float(bounds[name]) for name in clip.input[1:]] == [0, 255]
    sides = [[d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim] for port in model.graph.input]
    assert sides == [[1, "H", "W", graphs[0]]]


def test_fp16_computes_in_half_and_the_softmax_in_float(graphs: tuple[int, int, Graphs]) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graphs[2]["fp16"]))
    types = {port.name: port.type.tensor_type.elem_type for port in model.graph.value_info}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Softmax"):
            wanted = TensorProto.FLOAT16 if node.op_type == "Conv" else TensorProto.FLOAT
            assert types[node.output[0]] == wanted


def test_int8_is_what_tensorrt_takes(graphs: tuple[int, int, Graphs]) -> None:
    """Zero points 0 and int8, weights per output channel, float biases; every convolution, nothing else."""
    model = onnx.load_from_string(graphs[2]["int8"])
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
        if node.op_type == "QuantizeLinear":
            readers = [
                reader for q in readers_of(model, node.output[0]) for reader in readers_of(model, q.output[0])
            ]
            assert {reader.op_type for reader in readers} <= {"Conv", "Shape"}
    for node in convolutions:
        image, weights = (made_by[name] for name in node.input[:2])
        assert image.op_type == weights.op_type == "DequantizeLinear"
        assert constants[weights.input[0]].dtype == np.int8
        assert constants[weights.input[1]].shape == (len(constants[weights.input[0]]),)
        assert constants[node.input[2]].dtype == np.float32


@pytest.mark.parametrize("change", [lambda m: None, as_bfloat16], ids=["as trained", "bfloat16"])
def test_certainty_is_255_and_does_not_wrap(change: Callable[[object], object]) -> None:
    net = fuse(trained_looking())
    assert net.head.bias is not None
    with torch.no_grad():
        net.head.bias[1] = 1e4
    scores, peak = onnx_score(float_graph(as_bfloat16(net) if change is as_bfloat16 else net))(
        np.zeros((64, 64, 3), np.uint8)
    )
    assert scores.min() == 255
    assert peak.tolist() == [255]


def test_equalising_changes_no_score_and_narrows_the_channels() -> None:
    graph = float_graph(fuse(trained_looking()))
    pictures = [sample(str(n), (96, 128), 3, [(20, 20, 1)], seed=n).image for n in range(3)]
    model = onnx.load_from_string(graph)
    equalise(model, pictures)
    scores, _ = onnx_score(graph)(pictures[0])
    assert difference(onnx_score(model.SerializeToString())(pictures[0])[0], scores) <= 1
    weights = [
        {c.name: numpy_helper.to_array(c) for c in of_one.graph.initializer}
        for of_one in (onnx.load_from_string(graph), model)
    ]
    changed = {name for name in weights[0] if not np.array_equal(weights[0][name], weights[1][name])}
    assert {
        "net.stem.dense.weight",
        "net.stride4.1.dense.weight",
        "net.lateral4.weight",
        "net.head.weight",
    } <= changed
    assert "net.head.bias" not in changed


def test_bfloat16_weights_are_exact_in_it() -> None:
    net = fuse(trained_looking())
    rounded_net = as_bfloat16(net)
    for before, after in zip(net.parameters(), rounded_net.parameters(), strict=True):
        if after.ndim == 4:
            assert torch.equal(after, after.bfloat16().float())
            assert torch.allclose(before, after, rtol=2**-8)
        else:
            assert torch.equal(before, after)


def test_no_calibration_picture_is_one_sentence() -> None:
    with pytest.raises(UserError, match="there is none"):
        int8_graph(b"", [])


def test_rounding_together_leaves_less_error_than_to_the_nearest() -> None:
    """Over many layers; it decides weight by weight, so that a small layer may come out worse."""
    errors = np.array([_rounding_errors(seed, n=24, together=0.5) for seed in range(40)])
    assert errors[:, 0].sum() < 0.8 * errors[:, 1].sum()


@given(st.integers(0, 10_000), st.integers(2, 24), st.floats(0.05, 0.95))
def test_rounding_together_gives_whole_numbers_and_never_much_more_error(
    seed: int, n: int, together: float
) -> None:
    together_error, nearest_error = _rounding_errors(seed, n, together)
    assert together_error <= nearest_error * 1.5


def _rounding_errors(seed: int, n: int, together: float) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 200)) + together * 3 * rng.normal(size=(1, 200))
    moments, rows = x @ x.T / 200, rng.normal(size=(8, n))
    scales = np.abs(rows).max(1) / 127
    whole = rounded(rows, scales, moments)
    assert np.array_equal(whole, np.round(whole))
    assert np.abs(whole).max() <= 127
    nearest = np.round(rows / scales[:, None])

    def error(found: np.ndarray) -> float:
        off = rows - found * scales[:, None]
        return float(np.einsum("ij,jk,ik->", off, moments, off))

    return error(whole), error(nearest)

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
import torch

from tests.tools.test_csnet import trained_looking
from tools.csnet import CSNet, fuse
from tools.export import difference, reference, torch_scores, write_graph

SIZES = [(64, 64), (97, 131), (150, 201)]


@pytest.fixture(scope="module")
def net() -> CSNet:
    return fuse(trained_looking())


@pytest.fixture(scope="module")
def graph(net: CSNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_graph(net, file)
    return file


def image_of(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_onnxruntime_agrees_with_torch(net: CSNet, graph: Path, size: tuple[int, int]) -> None:
    scores, peak = reference(graph)(image_of(size))
    assert scores.shape == (1, -(-size[0] // 4), -(-size[1] // 4))
    assert difference(scores, torch_scores(net, image_of(size))) <= 1
    assert peak.tolist() == [scores.max()]


@pytest.mark.parametrize("size", SIZES)
def test_openvino_agrees_after_reshape(graph: Path, size: tuple[int, int]) -> None:
    core = ov.Core()
    model = core.read_model(graph)
    model.reshape({"image": [1, *size, 3]})
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    found = compiled({"image": image_of(size)[None]})
    scores, peak = reference(graph)(image_of(size))
    assert found["scores"].shape == (1, *scores.shape)
    assert difference(found["scores"][0], scores) <= 1
    assert found["peak"][0].tolist() == found["scores"].max((2, 3))[0].tolist()
    assert abs(int(found["peak"][0, 0]) - int(peak[0])) <= 1


def test_uint8_tensors_meet_only_casts_and_every_last_cast_is_clipped(graph: Path) -> None:
    nodes = onnx.load(str(graph)).graph.node
    readers = [node.op_type for node in nodes if "image" in node.input]
    assert readers == ["Cast"]
    made_by = {name: node for node in nodes for name in node.output}
    for output in ("scores", "peak"):
        assert made_by[output].op_type == "Cast"
        assert made_by[made_by[output].input[0]].op_type == "Clip"
        assert not any(output in node.input for node in nodes)


def test_certainty_is_255_and_does_not_wrap(tmp_path: Path) -> None:
    net = fuse(trained_looking())
    with torch.no_grad():
        assert net.head.bias is not None
        net.head.bias[1] = 1e4
    write_graph(net, tmp_path / "model.onnx")
    scores, peak = reference(tmp_path / "model.onnx")(image_of((64, 64)))
    assert scores.min() == 255
    assert peak.tolist() == [255]

"""From a bundle to a running GPU backend: real plans, real child processes, the stand-in driver and network."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest
import structlog

from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.runtime.errors import BundleError
from inspectd.runtime.ring import Ring, create
from inspectd.runtime.slots import Shape
from inspectd.settings.engine import TensorRtEngine
from tests.bundles import add_int8, darkness, write_bundle
from tests.engine import standin
from tests.engine.test_bundle import rehash

if TYPE_CHECKING:
    from inspectd.engine.tensorrt.gpu import GpuBackend

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX, which `make venv` installs on x86-64")
SHAPES = Shape(64, 96, 3), Shape(65, 67, 3)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here and in the child processes."""
    standin.library().recover()
    from inspectd.engine.tensorrt import proof

    monkeypatch.setattr(proof, "TensorRtNetwork", standin.Planned)
    for name in ("LD_LIBRARY_PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, standin.environment()[name])


@pytest.fixture(scope="module")
def rings() -> Iterator[list[Ring]]:
    made = [create(2, shape, "test") for shape in SHAPES]
    yield made
    for ring in made:
        os.close(ring.fd)


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


def opened(
    bundle: Bundle, plans: Path, rings: list[Ring], precision: str = "float"
) -> "tuple[GpuBackend, list[str]]":
    """The backend, and what was said meanwhile."""
    from inspectd.engine.tensorrt.start import open_gpu

    config = TensorRtEngine(plans=str(plans), precision=precision)  # type: ignore[arg-type]
    with structlog.testing.capture_logs() as lines:
        backend = open_gpu(config, bundle, rings)
    return backend, [line["event"] for line in lines]


def test_plans_are_built_and_proven_at_the_first_start_and_found_at_the_next(
    tmp_path: Path, plans: Path, rings: list[Ring]
) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "toy"))
    backend, said = opened(bundle, plans, rings)
    assert said == ["a plan must be built", "plan ready"] * 2
    assert backend.description.startswith("TensorRT-RTX 1.") and backend.description.endswith(
        "fp32, stand-in, no GPU"
    )
    image = np.random.default_rng(0).integers(0, 256, SHAPES[1], np.uint8)
    assert np.array_equal(backend.segment(1, image)[0], darkness(image))
    assert [network.learned for network in backend._networks.values()] == [b"compiled"] * 2  # type: ignore[attr-defined]
    backend.close()
    backend, said = opened(bundle, plans, rings)
    assert said == []
    backend.close()


def test_a_network_that_computes_something_else_on_the_gpu_is_refused(
    tmp_path: Path, plans: Path, rings: list[Ring]
) -> None:
    """The stand-in computes the graph of the tests, and this bundle has another, 20/255 lower."""
    folder = write_bundle(tmp_path / "toy")
    graph = onnx.load(str(folder / "model.onnx"))
    (white,) = [c for c in graph.graph.initializer if c.name == "white"]
    lower = onnx.numpy_helper.to_array(white) - 20
    white.CopyFrom(onnx.numpy_helper.from_array(lower, "white"))
    onnx.save(graph, str(folder / "model.onnx"))
    golden = folder / "golden/0.scores.png"
    cv2.imwrite(str(golden), np.maximum(cv2.imread(str(golden), cv2.IMREAD_GRAYSCALE), 20) - 20)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["golden"][0]["peak"][0] -= 20
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rehash(folder)
    with pytest.raises(BundleError, match=r"golden test fails on stand-in, no GPU: scores differ .* by 20/255"):
        opened(load_bundle(folder), plans, rings)


def test_int8_is_used_if_wished_and_if_the_gate_passed_it(tmp_path: Path, plans: Path, rings: list[Ring]) -> None:
    folder = add_int8(write_bundle(tmp_path / "toy"))
    for precision, used in (("auto", "int8"), ("float", "fp32")):
        backend, _ = opened(load_bundle(folder), plans, rings[:1], precision)
        assert f", {used}, " in backend.description
        backend.close()
    add_int8(folder, usable=False)
    backend, _ = opened(load_bundle(folder), plans, rings[:1], "auto")
    assert ", fp32, " in backend.description
    backend.close()


def test_what_a_start_would_find(tmp_path: Path, plans: Path, rings: list[Ring]) -> None:
    from inspectd.engine.tensorrt.start import outlook

    bundle, config = load_bundle(write_bundle(tmp_path / "toy")), TensorRtEngine(plans=str(tmp_path / "plans"))
    assert outlook(config, bundle, SHAPES[:1]).endswith("fp32, plan for 96x64 to be built at the start")
    backend, _ = opened(bundle, tmp_path / "plans", rings[:1])
    backend.close()
    assert outlook(config, bundle, SHAPES[:1] * 2).endswith("fp32, plan for 96x64 proven within 0/255")


def test_pictures_of_any_size_one_by_one(tmp_path: Path, plans: Path) -> None:
    from inspectd.engine import open_segmenter

    bundle = load_bundle(write_bundle(tmp_path / "toy"))
    segment = open_segmenter(TensorRtEngine(plans=str(plans)), bundle)
    for shape in (*SHAPES, *SHAPES):
        image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        scores, peak = segment(image)
        assert np.array_equal(scores, darkness(image)) and peak[0] == scores.max()
    segment.__self__.close()  # type: ignore[attr-defined]


def test_a_precision_that_can_not_be_built_is_said_and_the_next_is_used(
    tmp_path: Path, plans: Path, rings: list[Ring]
) -> None:
    folder = add_int8(write_bundle(tmp_path / "toy"))
    (folder / "model.int8.onnx").write_bytes(b"no graph")
    rehash(folder)
    backend, said = opened(load_bundle(folder), plans, rings[:1], "auto")
    assert ", fp32, " in backend.description and "a precision can't be used" in said
    backend.close()


def test_other_golden_images_are_another_proof(tmp_path: Path, plans: Path, rings: list[Ring]) -> None:
    """The same network: its plan of before must not be compared with scores of other pictures."""
    folder = write_bundle(tmp_path / "toy")
    opened(load_bundle(folder), plans, rings[:1])[0].close()
    image = np.ascontiguousarray(load_bundle(folder).golden[0].image[::-1])
    scores = darkness(image)
    cv2.imwrite(str(folder / "golden/0.png"), image[:, :, ::-1])
    cv2.imwrite(str(folder / "golden/0.scores.png"), scores[0])
    rehash(folder)
    backend, said = opened(load_bundle(folder), plans, rings[:1])
    assert said == ["a plan must be built", "plan ready"]
    backend.close()


def test_pictures_of_changing_size_leave_no_file_descriptors(tmp_path: Path, plans: Path) -> None:
    from inspectd.engine.tensorrt.start import GpuSegmenter

    segmenter = GpuSegmenter(TensorRtEngine(plans=str(plans)), load_bundle(write_bundle(tmp_path / "toy")))
    before = 0
    for number in range(12):
        segmenter.segment(np.zeros((64, 64 + number % 6, 3), np.uint8))
        if number == 5:
            before = len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) <= before
    segmenter.close()

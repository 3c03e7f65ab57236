"""The CPU engine on the tiny real model."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import structlog
from onnx import TensorProto, helper

from inspectd.engine import open_backend, openvino
from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.engine.openvino import (
    OpenVinoBackend,
    Segmenter,
    compile_graph,
    open_segmenter,
    ov,
    precision_of,
    thread_count,
)
from inspectd.runtime.errors import BundleError
from inspectd.runtime.frame import Frame
from inspectd.runtime.ring import Ring, create
from inspectd.runtime.slots import Shape
from inspectd.settings.engine import OpenVinoEngine
from tests.bundles import add_int8, darkness, darkness_graph, spotted, write_bundle
from tests.engine.test_bundle import edit, rehash
from tests.makers import frame

ONE_THREAD = OpenVinoEngine(threads=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("b") / "toy", classes=("spot", "scratch")))


@contextlib.contextmanager
def rings(*shapes: Shape) -> Iterator[list[Ring]]:
    made = [create(3, shape, "test") for shape in shapes]
    try:
        yield made
    finally:
        for ring in made:
            os.close(ring.fd)


def noise(shape: Shape, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def finish(backend: OpenVinoBackend, count: int) -> list[Frame]:
    """Wait for `count` completions, on the descriptor as the engine thread does."""
    done: list[Frame] = []
    until = time.monotonic() + 20
    while len(done) < count and time.monotonic() < until:
        select.select([backend.completed], [], [], 1)
        for one in backend.completed.drain():
            backend.finish(one)
            done.append(one)
    return done


def close_to(scores: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(scores.astype(int) - wanted).max() <= 1)


def test_threads() -> None:
    assert thread_count(OpenVinoEngine(threads=3)) == 3
    assert thread_count(OpenVinoEngine()) == max(1, len(os.sched_getaffinity(0)) - 1)


@pytest.mark.parametrize("size", [(64, 96), (65, 67), (70, 64)])
def test_the_segmenter_computes_what_numpy_computes(bundle: Bundle, size: tuple[int, int]) -> None:
    segmenter = Segmenter(bundle, 1)
    image = noise(Shape(*size, 3), 1)
    scores, peak = segmenter.segment(image)
    assert scores.dtype == peak.dtype == np.uint8
    assert close_to(scores, darkness(image, 2))
    assert peak.tolist() == scores.max(axis=(1, 2)).tolist()
    before = scores.copy()
    segmenter.segment(spotted(*size, 3, [(5, 5, 9, 9)]))
    assert np.array_equal(scores, before)  # a copy, not the request's memory


def test_the_segmenter_keeps_the_last_few_shapes(bundle: Bundle) -> None:
    segmenter = Segmenter(bundle, 1)
    for width in range(64, 64 + Segmenter.KEPT + 2):
        segmenter.segment(np.zeros((64, width, 3), np.uint8))
    segmenter.segment(np.zeros((64, 66, 3), np.uint8))
    assert [shape.width for shape in segmenter._requests] == [67, 68, 69, 66]


def test_the_golden_test_holds(bundle: Bundle) -> None:
    assert open_segmenter(bundle, 1).golden_difference <= 1


@pytest.mark.parametrize("what", ["scores", "peak"])
def test_a_golden_difference_is_refused(tmp_path: Path, what: str) -> None:
    folder = write_bundle(tmp_path / "toy")
    if what == "scores":
        scores = cv2.imread(str(folder / "golden/0.scores.png"), cv2.IMREAD_GRAYSCALE)
        scores[3, 5] += 9
        cv2.imwrite(str(folder / "golden/0.scores.png"), scores)
    else:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["golden"][0]["peak"][0] -= 9
        (folder / "manifest.json").write_text(json.dumps(manifest))
    rehash(folder)
    changed = load_bundle(folder)
    with pytest.raises(BundleError) as caught:
        open_segmenter(changed, 1)
    assert str(caught.value) == (
        f"{folder}/golden/0.png: the golden test fails on this machine: scores differ by 9/255, "
        "at most 4/255 is allowed; export the bundle again"
    )
    with rings(Shape(64, 64, 3)) as made, pytest.raises(BundleError, match="golden test fails"):
        OpenVinoBackend(ONE_THREAD, changed, made)


def output(model: onnx.ModelProto, index: int, shape: list[int | str], type_: int = TensorProto.UINT8) -> None:
    model.graph.output[index].CopyFrom(helper.make_tensor_value_info(model.graph.output[index].name, type_, shape))


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for names in (*(n.input for n in model.graph.node), *(n.output for n in model.graph.node)):
        names[:] = [new if name == old else name for name in names]
    for port in (*model.graph.output, *model.graph.input):
        port.name = new if port.name == old else port.name


def coarser(model: onnx.ModelProto) -> None:
    (pool,) = [node for node in model.graph.node if node.op_type == "AveragePool"]
    for attribute in pool.attribute:
        if attribute.name in ("kernel_shape", "strides"):
            attribute.ints[:] = [8, 8]


def float_scores(model: onnx.ModelProto) -> None:
    (cast,) = [node for node in model.graph.node if list(node.output) == ["scores"]]
    cast.attribute[0].i = TensorProto.FLOAT
    output(model, 0, [1, 1, "h", "w"], TensorProto.FLOAT)


def peak_per_row(model: onnx.ModelProto) -> None:
    (constant,) = [c for c in model.graph.initializer if c.name == "map"]
    constant.CopyFrom(onnx.numpy_helper.from_array(np.array([3], np.int64), "map"))
    output(model, 1, [1, 1, "h"])


def broken(tmp_path: Path, change: Callable[[onnx.ModelProto], object] | bytes) -> Bundle:
    """A bundle whose hashes hold and whose graph is another."""
    folder = write_bundle(tmp_path / "toy")
    if isinstance(change, bytes):
        (folder / "model.onnx").write_bytes(change)
    else:
        model = darkness_graph(3)
        change(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    rehash(folder)
    return load_bundle(folder)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(b"this is no ONNX file", id="text"),
        pytest.param(b"", id="empty"),
        pytest.param(darkness_graph(3).SerializeToString()[:-200], id="truncated"),
        pytest.param(lambda m: rename(m, "image", "picture"), id="another input"),
        pytest.param(lambda m: rename(m, "scores", "map_"), id="no scores"),
        pytest.param(lambda m: rename(m, "peak", "top_"), id="no peak"),
        pytest.param(coarser, id="another stride"),
        pytest.param(lambda m: m.CopyFrom(darkness_graph(3, 2)), id="another class"),
    ],
)
def test_a_graph_that_cannot_be_used_is_one_sentence(tmp_path: Path, change: object) -> None:
    bundle = broken(tmp_path, change)  # type: ignore[arg-type]
    with pytest.raises(BundleError) as caught:
        compile_graph(bundle, Shape(64, 64, 3), 1)
    (said,) = caught.value.problems
    assert said.startswith(str(bundle.path))
    assert "\n" not in said


@pytest.mark.parametrize("change", [float_scores, peak_per_row])
def test_outputs_of_another_type_or_shape_are_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], object]
) -> None:
    bundle = broken(tmp_path, change)
    with pytest.raises(BundleError):
        compile_graph(bundle, Shape(64, 64, 3), 1)


def test_the_backend_reads_the_slot_in_place(bundle: Bundle) -> None:
    shapes = Shape(64, 64, 3), Shape(65, 70, 3), Shape(64, 64, 3)
    with rings(*shapes) as made:
        backend = open_backend(ONE_THREAD, bundle, made)
        assert isinstance(backend, OpenVinoBackend)
        assert backend.description.startswith("OpenVINO ")
        assert backend.description.endswith(", 1 thread")
        assert len(backend.completed) == 0
        cases = [(camera, slot) for camera in range(3) for slot in range(3)]
        for camera, slot in cases:
            made[camera].images[slot][...] = noise(shapes[camera], 10 * camera + slot)
        frames = [frame(n, camera, slot=slot) for n, (camera, slot) in enumerate(cases)]
        for pair in (frames[i : i + backend.depth] for i in range(0, len(frames), backend.depth)):
            for one in pair:
                backend.submit(one)
            assert set(finish(backend, len(pair))) == set(pair)
        for one in frames:
            scores, peak = backend.scores(one)
            assert one.failure == ""
            assert close_to(scores, darkness(made[one.camera].images[one.slot], 2))
            assert peak.tolist() == scores.max(axis=(1, 2)).tolist()
        backend.close()


def test_close_waits_for_what_is_in_flight(bundle: Bundle) -> None:
    with rings(Shape(512, 512, 3)) as made:
        backend = OpenVinoBackend(ONE_THREAD, bundle, made)
        frames = [frame(n, slot=n) for n in range(backend.depth)]
        for one in frames:
            backend.submit(one)
        backend.close()
        assert set(finish(backend, len(frames))) == set(frames)


def test_a_warm_up_that_fails_leaves_nothing_behind(bundle: Bundle) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    with rings(Shape(64, 64, 3), Shape(65, 70, 3)) as made:
        made[1].images[:] = made[0].images  # the network of the second camera can't read these
        before = open_files()
        with pytest.raises(RuntimeError):
            OpenVinoBackend(ONE_THREAD, bundle, made)
        assert "openvino-wait" not in [thread.name for thread in threading.enumerate()]
        assert open_files() == before


def test_where_the_fast_precision_fails_the_golden_test_f32_is_used_and_said(tmp_path: Path) -> None:
    """The shipped network in bf16 is 3/255 off: a bundle that allows 0 must be run in f32, not refused."""
    shipped = Path(__file__).parents[2] / "models/ballscrew"
    folder = tmp_path / "strict"
    shutil.copytree(shipped, folder, ignore=shutil.ignore_patterns("parts"))
    bundle = load_bundle(folder)
    if precision_of(compile_graph(bundle, Shape(64, 64, 3), 1)) == "f32":
        pytest.skip("this CPU has no faster precision than f32")
    assert bundle.manifest.max_score_difference > 0
    edit(folder, lambda manifest: manifest.update(max_score_difference=0))
    strict = open_segmenter(load_bundle(folder), 1)
    assert (strict.precision, strict.golden_difference) == ("f32", 0)
    assert precision_of(strict.compile(Shape(64, 64, 3))) == "f32"
    assert open_segmenter(bundle, 1).precision == ""


@pytest.fixture
def quantised(tmp_path: Path) -> Path:
    """Its int8 graph scores 7/255 lower, and may be 8/255 off."""
    return add_int8(write_bundle(tmp_path / "toy"))


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy graph is right on any CPU."""
    monkeypatch.setattr(openvino, "computes_int8_rightly", lambda: True)


def described(config: OpenVinoEngine, bundle: Bundle) -> str:
    with rings(Shape(64, 64, 3)) as made:
        backend = OpenVinoBackend(config, bundle, made)
        backend.close()
        return backend.description


def test_int8_is_used_where_the_gate_passed_it_and_is_said(quantised: Path, vnni: None) -> None:
    bundle = load_bundle(quantised)
    segmenter = open_segmenter(bundle, 1)
    assert segmenter.precision == "int8"
    assert 6 <= segmenter.golden_difference <= 8
    image = spotted(64, 96, 3, [(20, 20, 16, 12)])
    scores, _ = segmenter.segment(image)
    assert close_to(scores, np.maximum(darkness(image).astype(int) - 7, 0))
    version = ov.__version__.split("-")[0]
    assert described(ONE_THREAD, bundle) == f"OpenVINO {version}, int8, 1 thread"


def test_int8_is_not_used_against_the_gate_or_the_config(quantised: Path, vnni: None) -> None:
    wish = OpenVinoEngine(threads=1, precision="float")
    assert open_segmenter(load_bundle(quantised), 1, "float").precision == ""
    assert "int8" not in described(wish, load_bundle(quantised))
    add_int8(quantised, usable=False)
    assert open_segmenter(load_bundle(quantised), 1).precision == ""
    assert "int8" not in described(ONE_THREAD, load_bundle(quantised))


def test_where_int8_fails_the_golden_test_float_is_used_and_said(quantised: Path, vnni: None) -> None:
    add_int8(quantised, max_score_difference=4)
    with structlog.testing.capture_logs() as lines:
        assert open_segmenter(load_bundle(quantised), 1).precision == ""
    (line,) = lines
    assert (line["event"], line["log_level"], line["precision"]) == ("golden test failed", "warning", "int8")


def test_on_a_cpu_that_computes_int8_wrongly_float_is_used_and_said(
    quantised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "computes_int8_rightly", lambda: False)
    with structlog.testing.capture_logs() as lines:
        assert open_segmenter(load_bundle(quantised), 1).precision == ""
        assert "int8" not in described(ONE_THREAD, load_bundle(quantised))
    assert {(line["event"], line["log_level"]) for line in lines} == {("int8 is not used", "warning")}


def test_openvino_does_not_phone_home(tmp_path: Path) -> None:
    """Its telemetry package would write to the home directory and fork a child that asks the network."""
    code = (
        "import inspectd.engine.openvino, inspectd.bench, sys, os, time; time.sleep(0.3);"
        "print(sys.modules['openvino_telemetry'], open(f'/proc/self/task/{os.getpid()}/children').read())"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert (shown.stdout.strip(), shown.stderr) == ("None", "")
    assert list(tmp_path.iterdir()) == []

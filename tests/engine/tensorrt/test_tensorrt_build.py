"""Real plans of TensorRT-RTX, which needs no GPU to build them; what they compute only a GPU can tell."""

import gc
import hashlib
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspectd.engine.tensorrt import api as tensorrt
from inspectd.engine.tensorrt.api import GraphError, Library, PlanError, build, targets
from inspectd.engine.tensorrt.plans import PlanKey
from inspectd.runtime.slots import Shape
from tests.bundles import darkness_graph

rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

LIBRARY = Library(rtx, tensorrt.NAMES["tensorrt_rtx"], rtx.__version__)
SHIPPED = Path(__file__).parents[3] / "models/ballscrew"
TARGETS = ["sm75", "sm86", "sm89", "sm120", "sm121"]
SMALL, FIVE_MPIXEL = (64, 96), (2048, 2448)


@pytest.fixture(autouse=True)
def no_garbage() -> Iterator[None]:
    """TensorRT-RTX calls the logger with a lock held that a Builder wants when it ends: one that is collected
    in that moment waits forever.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def graphs() -> dict[str, tuple[bytes, int]]:
    """ONNX files and their channels by name: the shipped ones, and the tests' own."""
    shipped = {file.name: (file.read_bytes(), 3) for file in SHIPPED.glob("*.onnx")}
    own = {f"darkness {n}": (darkness_graph(n, 2).SerializeToString(), n) for n in (1, 3)}
    return shipped | own


@pytest.fixture(scope="module")
def exported() -> dict[str, tuple[bytes, int]]:
    """A network of one channel, through the training tool's export."""
    pytest.importorskip("torch", reason="the training tool is not installed")
    from inspectd_train.bundle.quantise import float_graph, int8_graph
    from inspectd_train.net.csnet import fuse
    from tests.tools.nets import sample, trained_looking

    net = fuse(trained_looking(1, 2, "xs"))
    pictures = [sample(str(n), (96, 128), 1, [(20, 20, 1)], seed=n).image for n in range(2)]
    return {"fp16": (float_graph(net, half=True), 1), "int8": (int8_graph(float_graph(net), pictures), 1)}


def plan_of(graph: bytes, channels: int, size: tuple[int, int] = SMALL, target: str = "sm86") -> bytes:
    """The plan, which must call itself by the name that its key gives it."""
    shape = Shape(*size, channels)
    sha256 = hashlib.sha256(graph).hexdigest()
    key = PlanKey(f"{LIBRARY.name} {LIBRARY.version}", sha256, "fp16", (*shape,), target, "")
    plan = build(LIBRARY, graph, key.network_name, shape, target, lambda *step: None)
    assert key.network_name.encode() in plan
    return plan


def test_what_it_builds_for() -> None:
    assert set(targets(LIBRARY)) >= {*TARGETS, "sm80"}
    assert targets(LIBRARY)[:2] == ["sm75", "sm80"]
    assert targets(LIBRARY) == sorted(targets(LIBRARY), key=lambda target: int(target[2:]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["model.onnx", "model.fp16.onnx", "model.int8.onnx", "darkness 1", "darkness 3"])
def test_a_plan_is_built_for_every_gpu(graphs: dict[str, tuple[bytes, int]], name: str, target: str) -> None:
    assert len(plan_of(*graphs[name], target=target)) > 100_000


@pytest.mark.parametrize("target", ["sm75", "sm120"])
@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_a_plan_is_built_of_what_the_training_tool_exports(
    exported: dict[str, tuple[bytes, int]], name: str, target: str
) -> None:
    assert len(plan_of(*exported[name], target=target)) > 100_000


@pytest.mark.parametrize("name", ["model.onnx", "model.fp16.onnx", "model.int8.onnx", "darkness 1", "darkness 3"])
def test_a_plan_is_built_for_five_megapixel(graphs: dict[str, tuple[bytes, int]], name: str) -> None:
    assert len(plan_of(*graphs[name], size=FIVE_MPIXEL)) > 100_000


def test_each_shipped_graph_is_tried(graphs: dict[str, tuple[bytes, int]]) -> None:
    assert {name for name in graphs if name.startswith("model.")} == {
        "model.onnx", "model.fp16.onnx", "model.int8.onnx",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["model.fp16.onnx", "model.int8.onnx"])
def test_plans_of_the_same_are_of_the_same_size(graphs: dict[str, tuple[bytes, int]], name: str) -> None:
    """Not always the same bytes: their order depends on addresses."""
    assert len({len(plan_of(*graphs[name])) for _ in range(3)}) == 1


@pytest.mark.parametrize("name", ["model.fp16.onnx", "model.int8.onnx"])
def test_the_first_plan_of_a_process_is_the_same_where_addresses_are(name: str) -> None:
    setarch = shutil.which("setarch")
    if setarch is None or subprocess.run([setarch, "-R", "true"], capture_output=True).returncode != 0:
        pytest.skip("addresses can't be kept from being random here")
    code = f"""
import hashlib
from pathlib import Path
from tests.engine.tensorrt.test_tensorrt_build import plan_of
print(hashlib.sha256(plan_of(Path({str(SHIPPED / name)!r}).read_bytes(), 3)).hexdigest())
"""
    command, root = [setarch, "-R", sys.executable, "-c", code], SHIPPED.parents[1]
    said = [subprocess.run(command, capture_output=True, text=True, cwd=root) for _ in range(2)]
    assert [(done.returncode, done.stderr) for done in said] == [(0, "")] * 2
    assert said[0].stdout == said[1].stdout


def test_progress_is_told_in_phases_and_steps(graphs: dict[str, tuple[bytes, int]]) -> None:
    told: list[tuple[str, int, int]] = []
    graph, channels = graphs["model.fp16.onnx"]
    build(LIBRARY, graph, "graph", Shape(*SMALL, channels), "sm86", lambda *step: told.append(step))
    assert len(told) > 50
    assert len({phase for phase, _, _ in told}) > 3
    assert all(phase and 1 <= step <= steps for phase, step, steps in told)


def refused(graph: bytes, target: str = "sm86") -> str:
    """Why a graph is refused for good."""
    with pytest.raises(GraphError) as caught:
        build(LIBRARY, graph, "graph", Shape(*SMALL, 3), target, lambda *step: None)
    return str(caught.value)


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_truncated_graph_is_refused_in_the_parsers_words(
    graphs: dict[str, tuple[bytes, int]], kept: float
) -> None:
    graph, _ = graphs["model.fp16.onnx"]
    assert "Failed to parse the ONNX model" in refused(graph[: int(len(graph) * kept)])


@pytest.mark.parametrize("graph", [b"this is no ONNX file", b""])
def test_what_is_no_graph_is_refused(graph: bytes) -> None:
    assert refused(graph)


def test_random_bytes_are_refused() -> None:
    assert "Failed to parse the ONNX model" in refused(b"\xff" * 100)


def test_an_operator_that_it_does_not_know_is_refused_in_the_parsers_words() -> None:
    model = darkness_graph(3)
    (node,) = [node for node in model.graph.node if node.op_type == "Round"]
    node.op_type = "Roundabout"
    assert "Plugin not found" in refused(model.SerializeToString())


@pytest.mark.parametrize("target", ["sm90", "sm50", "current", "none", ""])
def test_a_gpu_that_it_does_not_support_is_refused_with_those_that_it_does(target: str) -> None:
    said = refused(darkness_graph(3).SerializeToString(), target=target)
    assert said == (
        f"TensorRT-RTX {rtx.__version__} does not support compute capability {target}, "
        f"only {', '.join(targets(LIBRARY))}"
    )


@pytest.mark.parametrize(("shape", "word"), [(Shape(64, 96, 1), "weights"), (Shape(0, 0, 3), "image size")])
def test_a_picture_that_the_network_can_not_take_is_an_error_in_tensorrts_words(
    graphs: dict[str, tuple[bytes, int]], shape: Shape, word: str
) -> None:
    with pytest.raises(PlanError, match=word):
        build(LIBRARY, graphs["model.onnx"][0], "graph", shape, "sm86", lambda *step: None)


def test_a_later_build_does_not_repeat_the_errors_of_an_earlier_one() -> None:
    graph = darkness_graph(3).SerializeToString()
    assert "ParseFromCodedStream" in refused(graph[:-200])
    assert "ParseFromCodedStream" not in refused(graph, target="sm90")
    assert plan_of(graph, 3)


@pytest.mark.parametrize("kept", [-200, None])
def test_the_error_of_a_failed_build_holds_nothing_of_tensorrt(kept: int | None) -> None:
    """Else the garbage collector ends the Builder, perhaps in the next one's call of the logger: a deadlock."""
    graph = darkness_graph(3).SerializeToString()[:kept]
    with pytest.raises(PlanError) as caught:
        build(LIBRARY, graph, "graph", Shape(*SMALL, 3), "sm86" if kept else "sm90", lambda *step: None)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    held = [value for frame in frames for value in frame.f_locals.values()]
    assert not [value for value in held if type(value).__module__.startswith("tensorrt_rtx")]

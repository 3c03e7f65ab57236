"""The CPU engine: OpenVINO, static shapes, pictures read in the slot, scores written in place."""

import functools
import os
import platform
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import structlog

# `import openvino` would report home by a forked child; without this package it uses a stub of its own.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino as ov

from inspectd.engine.bundle import Bundle, golden_difference
from inspectd.runtime.errors import BundleError
from inspectd.runtime.frame import Frame
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.ring import Ring
from inspectd.runtime.slots import Shape
from inspectd.settings.engine import OpenVinoEngine

log = structlog.get_logger()
U8 = npt.NDArray[np.uint8]
Precision = Literal["int8", "", "f32"]
"""Arithmetic of a network. The empty one is float in the fastest arithmetic of this CPU: bf16 where it has it."""
FLOATS: tuple[Precision, ...] = ("", "f32")
DEPTH = 2
"""Frames at work at once per picture shape: the next one waits inside the library when one is done, so that the
cores never wait for Python."""


def thread_count(config: OpenVinoEngine) -> int:
    """Number of the engine's threads; by default one per core but one, which is left to the daemon."""
    return config.threads or max(1, len(os.sched_getaffinity(0)) - 1)


@functools.cache
def _core() -> ov.Core:
    """OpenVINO's core, one per process: each leaves about 0.1 MB behind, and models change without end."""
    return ov.Core()


def compile_graph(bundle: Bundle, shape: Shape, threads: int, precision: Precision = "") -> ov.CompiledModel:
    """Compile the network for pictures of one shape; raises BundleError if OpenVINO can't.

    precision: `int8`, `f32`, or empty for the fastest float arithmetic that this CPU has.
    """
    graph = "int8" if precision == "int8" else "fp32"
    try:
        model = _core().read_model(bundle.graphs[graph])
        model.reshape({"image": [1, *shape]})
        model.set_friendly_name(graph)
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        if precision == "f32":
            options["INFERENCE_PRECISION_HINT"] = precision
        compiled = _core().compile_model(model, "CPU", options)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise BundleError(f"{bundle.path}: OpenVINO can't use the {graph} graph: {reason}") from None
    stride, classes = bundle.manifest.stride, len(bundle.manifest.classes)
    wanted = {
        "scores": (1, classes, -(-shape.height // stride), -(-shape.width // stride)),
        "peak": (1, classes),
    }
    found = {name: port for port in compiled.outputs for name in port.names}
    for name, size in wanted.items():
        port = found.get(name)
        if port is None or tuple(port.shape) != size or port.element_type != ov.Type.u8:
            raise BundleError(
                f"{bundle.path}: the {graph} graph has no output {name}, uint8 {list(size)}; export it again"
            )
    return compiled


def precision_of(compiled: ov.CompiledModel) -> str:
    """The arithmetic of a network: `int8`, or what OpenVINO chose for the float graph: `f32`, `bf16` or `f16`."""
    if compiled.get_property("NETWORK_NAME") == "int8":
        return "int8"
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())


class Segmenter:
    """Judges one picture after the other, for replay, golden test and bench. Keeps the last shapes' networks."""

    KEPT = 4

    def __init__(self, bundle: Bundle, threads: int, precision: Precision = "") -> None:
        self.bundle, self.threads = bundle, threads
        self.precision: Precision = precision
        self.golden_difference = 0
        """How far the golden test was from the golden scores, in 1/255, by `golden_difference`."""
        self._requests: dict[Shape, ov.InferRequest] = {}

    def compile(self, shape: Shape) -> ov.CompiledModel:
        """Compile the network for pictures of one shape, in this precision."""
        return compile_graph(self.bundle, shape, self.threads, self.precision)

    def segment(self, image: U8) -> tuple[U8, U8]:
        """Judge an image uint8 [H, W, C]: scores uint8 [K, h, w] and peak uint8 [K], copies."""
        shape = Shape(*image.shape)
        request = self._requests.pop(shape, None)
        if request is None:
            request = self.compile(shape).create_infer_request()
        self._requests[shape] = request
        if len(self._requests) > self.KEPT:
            del self._requests[next(iter(self._requests))]
        outputs = request.infer({"image": image[None]})
        return outputs["scores"][0].copy(), outputs["peak"][0].copy()


def open_segmenter(bundle: Bundle, threads: int, wish: Literal["auto", "float"] = "auto") -> Segmenter:
    """Open the bundle in the fastest precision that passes its golden test here; BundleError if none does.

    INT8 only where the export found it equal and this CPU computes it rightly, and never with the wish `float`.
    Fast arithmetic differs between CPUs; where it fails the test, the next slower is used and said.
    """
    int8: list[Precision] = ["int8"] if bundle.int8_usable and wish == "auto" else []
    if int8 and not computes_int8_rightly():
        log.warning("int8 is not used", reason="this CPU has no VNNI, without which OpenVINO's INT8 is wrong")
        int8 = []
    for precision in (*int8, *FLOATS):
        segmenter = Segmenter(bundle, threads, precision)
        try:
            scored = [segmenter.segment(golden.image) for golden in bundle.golden]
        except BundleError as error:
            if precision != "int8":
                raise
            log.warning("int8 is not used", reason=str(error))  # a float graph may serve instead
            continue
        pairs = zip(bundle.golden, scored, strict=True)
        differences = {g.name: golden_difference(g, *own, precision) for g, own in pairs}
        worst = max(differences, key=lambda name: differences[name])
        segmenter.golden_difference = differences[worst]
        bound = bundle.allowed_difference(precision)
        if differences[worst] <= bound:
            return segmenter
        log.warning("golden test failed", precision=precision or "fastest", difference=differences[worst])
    raise BundleError(
        f"{bundle.path / worst}: the golden test fails on this machine: scores differ by "
        f"{differences[worst]}/255, at most {bound}/255 is allowed; export the bundle again"
    )


def computes_int8_rightly() -> bool:
    """Whether this CPU has VNNI (x86 alone names it). Without it OpenVINO's INT8 scores were 30 of 255 off in the
    mean, and a bundle's few golden images need not show it: docs/accuracy.md.
    """
    return platform.machine() != "x86_64" or "vnni" in Path("/proc/cpuinfo").read_text("ascii", "replace")


class OpenVinoBackend:
    """The `Backend` on the CPU for the rings of all cameras; one lane per picture shape."""

    def __init__(self, config: OpenVinoEngine, bundle: Bundle, rings: Sequence[Ring]) -> None:
        threads = thread_count(config)
        segmenter = open_segmenter(bundle, threads, config.precision)
        compiled = {shape: segmenter.compile(shape) for shape in {ring.shape for ring in rings}}
        precision = precision_of(next(iter(compiled.values())))
        plural = "s" if threads > 1 else ""
        self.description = f"OpenVINO {ov.__version__.split('-')[0]}, {precision}, {threads} thread{plural}"
        self.depth = DEPTH
        self.fault: Exception | None = None  # OpenVINO's failures are one frame's own
        self.completed: Handoff[Frame] = Handoff()
        self._tensors: list[list[_Tensors]] = []
        self._lanes: list[_Lane] = []
        with ExitStack() as undo:  # where memory ends in the middle of it, say
            undo.callback(self.completed.close)
            undo.callback(self.close)
            lanes: dict[Shape, _Lane] = {}
            for ring in rings:
                if ring.shape not in lanes:
                    lanes[ring.shape] = _Lane(compiled[ring.shape], self.completed)
                self._lanes.append(lanes[ring.shape])
                self._tensors.append([_Tensors(image, compiled[ring.shape]) for image in ring.images])
                self._lanes[-1].warm_up(self._tensors[-1][0])
            undo.pop_all()

    def submit(self, frame: Frame) -> None:
        """Start the inference of the picture in the frame's slot, read in place."""
        self._lanes[frame.camera].submit(frame, self._tensors[frame.camera][frame.slot])

    def finish(self, frame: Frame) -> None:
        """Take note of a completed frame, whose `failure` is set if the inference failed."""
        self._lanes[frame.camera].finish(frame)

    def scores(self, frame: Frame) -> tuple[U8, U8]:
        """Score map uint8 [K, h, w] and peaks uint8 [K] of a finished frame, valid until its slot is reused."""
        tensors = self._tensors[frame.camera][frame.slot]
        return tensors.scores_array, tensors.peak_array

    def close(self) -> None:
        """Wait for what is in flight, and let go of the networks: freeing them takes milliseconds."""
        for lane in set(self._lanes):
            lane.close()
        self._tensors.clear()


class _Lane:
    """One compiled network with its requests, and a thread that waits for them in turn.

    Not OpenVINO's callback: it runs in the inference thread, which would then wait for Python's lock before
    it begins the next picture. The waiting thread sleeps inside OpenVINO without the lock.
    """

    def __init__(self, network: ov.CompiledModel, completed: Handoff[Frame]) -> None:
        self._idle = [network.create_infer_request() for _ in range(DEPTH)]
        self._busy: dict[Frame, ov.InferRequest] = {}
        self._started: SimpleQueue[tuple[Frame, ov.InferRequest] | None] = SimpleQueue()
        self._completed = completed
        self._waiter = threading.Thread(target=self._wait, name="openvino-wait", daemon=True)
        self._waiter.start()

    def warm_up(self, tensors: "_Tensors") -> None:
        """Run each request once: its first inference is slow, and no part should wait for it."""
        for request in self._idle:
            tensors.bind(request)
            request.infer()

    def submit(self, frame: Frame, tensors: "_Tensors") -> None:
        request = self._idle.pop()
        tensors.bind(request)
        self._busy[frame] = request
        request.start_async()
        self._started.put((frame, request))

    def finish(self, frame: Frame) -> None:
        self._idle.append(self._busy.pop(frame))

    def close(self) -> None:
        self._started.put(None)
        self._waiter.join()
        self._idle.clear()

    def _wait(self) -> None:
        while (started := self._started.get()) is not None:
            frame, request = started
            try:
                request.wait()
            except Exception as error:  # whatever it is, the frame must come back
                frame.failure = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            self._completed.put(frame)


class _Tensors:
    """One slot's picture, and room for its scores, as OpenVINO sees them."""

    def __init__(self, image: U8, compiled: ov.CompiledModel) -> None:
        scores = np.zeros(tuple(compiled.output("scores").shape), np.uint8)
        peak = np.zeros(tuple(compiled.output("peak").shape), np.uint8)
        self.image = ov.Tensor(image[None], shared_memory=True)
        self._scores, self._peak = ov.Tensor(scores, shared_memory=True), ov.Tensor(peak, shared_memory=True)
        self.scores_array, self.peak_array = scores[0], peak[0]

    def bind(self, request: Any) -> None:
        """Let a request read this picture and write these scores."""
        request.set_tensor("image", self.image)
        request.set_tensor("scores", self._scores)
        request.set_tensor("peak", self._peak)

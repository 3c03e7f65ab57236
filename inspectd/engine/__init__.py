"""A score map out of the frame.

loop         the engine thread, which feeds a backend
backend      what it wants of one, and what a network says of a picture
bundle       the model
openvino     the backend on the CPU
gpu          the backend on a GPU: the pipeline; over cuda (pycuda)
start        how it comes to run: cache (of plans), builder (the child that builds and proves them), proof,
plans (their files), tensorrt (the library)
bare         what the GPU can do alone, for comparison
"""

from collections.abc import Callable, Sequence
from typing import assert_never

from inspectd.engine.backend import U8, Backend
from inspectd.engine.bundle import Bundle
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.ring import Ring
from inspectd.runtime.slots import Shape
from inspectd.settings.engine import EngineConfig, OpenVinoEngine, TensorRtEngine

# openvino, tensorrt and pycuda are imported only by the engine that is configured.


def in_flight(config: EngineConfig) -> int:
    """How many frames the engine works on at once."""
    match config:
        case OpenVinoEngine():
            return 2
        case TensorRtEngine():
            return 3
        case _:
            assert_never(config)


def open_backend(
    config: EngineConfig, bundle: Bundle, rings: Sequence[Ring], wake: Handoff[str] | None = None
) -> Backend:
    """The engine for the pictures in these rings, self-tested; raises BundleError if the model can't be used.

    wake: when something is put into it, an opening that takes long ends with StoppedError.
    """
    match config:
        case OpenVinoEngine():
            from inspectd.engine.openvino import OpenVinoBackend

            return OpenVinoBackend(config, bundle, rings)
        case TensorRtEngine():
            from inspectd.engine.tensorrt.start import open_gpu

            return open_gpu(config, bundle, rings, wake)
        case _:
            assert_never(config)


def open_segmenter(config: EngineConfig, bundle: Bundle) -> Callable[[U8], tuple[U8, U8]]:
    """Judges images [H, W, C] of any size one by one: scores uint8 [K, h, w] and peak uint8 [K], copies."""
    match config:
        case OpenVinoEngine():
            from inspectd.engine import openvino

            threads = openvino.thread_count(config)
            return openvino.open_segmenter(bundle, threads, config.precision).segment
        case TensorRtEngine():
            from inspectd.engine.tensorrt.start import GpuSegmenter

            return GpuSegmenter(config, bundle).segment
        case _:
            assert_never(config)


def outlook(config: EngineConfig, bundle: Bundle, shapes: Sequence[Shape]) -> str:
    """What a start would find, in a line, for `check`; raises what the start would raise."""
    match config:
        case OpenVinoEngine():
            from inspectd.engine import openvino

            segmenter = openvino.open_segmenter(bundle, openvino.thread_count(config), config.precision)
            precision = openvino.precision_of(segmenter.compile(Shape(64, 64, bundle.manifest.channels)))
            return f"{precision}, golden test within {segmenter.golden_difference}/255"
        case TensorRtEngine():
            from inspectd.engine.tensorrt import start

            return start.outlook(config, bundle, shapes)
        case _:
            assert_never(config)

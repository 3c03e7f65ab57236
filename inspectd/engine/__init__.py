"""A score map out of the frame: the engine thread, and the backends that run the network for it.

loop         the engine thread, which feeds the backends
backend      what it needs of a backend, and what a network says of a picture
bundle       the model bundle: manifest, graphs, golden images
openvino     the backend on the CPU
tensorrt/    the backend on a GPU, and how its plans come about
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
    """Open a function that judges one image uint8 [H, W, C]: scores uint8 [K, h, w], peak uint8 [K], copies."""
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
    """Say in one line what a start would find, for `check`; raises what the start would raise."""
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

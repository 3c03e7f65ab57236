"""What the GPU can do with nothing around it: copies and inferences, measured by its own events.

The yardstick for the pipeline, in the same process and on the same memory. Owns a context of its own.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from inspectd.engine.backend import U8, Gpu, ScoreLayout
from inspectd.engine.tensorrt import cuda
from inspectd.engine.tensorrt.buffers import Network
from inspectd.runtime.slots import Shape

T = TypeVar("T")


class Bare(NamedTuple):
    """Milliseconds of the loading, of the first inference, and of each step when it is repeated back to back."""

    load_ms: float
    first_ms: float
    copy_in_ms: float
    compute_ms: float
    copy_out_ms: float

    @property
    def latency_ms(self) -> float:
        """Milliseconds of one frame, if nothing were between the steps."""
        return self.copy_in_ms + self.compute_ms + self.copy_out_ms

    @property
    def limit_hz(self) -> float:
        """Frames per second when the steps of different frames overlap: those of the slowest step."""
        return 1e3 / max(self.copy_in_ms, self.compute_ms, self.copy_out_ms)


def bare(gpu: Gpu, load: Callable[[Shape], Network], shape: Shape, results: ScoreLayout, times: int) -> Bare:
    """Measure a frame's three steps alone, `times` each: the pipeline's calls, but one stream and one graph."""

    def measure() -> Bare:
        stream, began_s = cuda.stream(), time.perf_counter()
        network = load(shape)
        loaded_s = time.perf_counter()
        image, out = cuda.allocate(shape.nbytes), cuda.allocate(results.nbytes)
        scratch = cuda.allocate(max(network.scratch_bytes, 1))
        source, target = cuda.pinned((shape.nbytes,)), cuda.pinned((results.nbytes,))
        network.use_scratch(int(scratch))
        addresses = int(image), int(out), int(out) + results.peak_at, stream.handle
        network.enqueue(*addresses)
        with cuda.translated():
            stream.synchronize()
        first_s = time.perf_counter()
        graph = cuda.CudaGraph(stream, lambda: network.enqueue(*addresses))
        took = Bare(
            (loaded_s - began_s) * 1e3,
            (first_s - loaded_s) * 1e3,
            _repeated_ms(stream, lambda: cuda.copy_in(int(image), source, stream), times),
            _repeated_ms(stream, graph.launch, times),
            _repeated_ms(stream, lambda: cuda.copy_out(target, int(out), stream), times),
        )
        graph.free()
        return took

    return _in_context(gpu, measure)


def free_bytes(gpu: Gpu) -> int:
    """Bytes of GPU memory that are free now."""
    return _in_context(gpu, cuda.memory_free)


def copy_ms(gpu: Gpu, size: int, times: int, host: U8 | None = None, register: U8 | None = None) -> float:
    """Mean milliseconds of copying `size` bytes to the GPU from `host`, or (None) memory page-locked by CUDA.

    register: pages that are page-locked meanwhile, those of `host` among them.
    """

    def measure() -> float:
        stream, memory = cuda.stream(), cuda.allocate(size)
        source = cuda.pinned((size,)) if host is None else host
        if register is not None:
            cuda.register(register)
        took_ms = _repeated_ms(stream, lambda: cuda.copy_in(int(memory), source, stream), times)
        if register is not None:
            cuda.unregister(register)
        return took_ms

    return _in_context(gpu, measure)


def _repeated_ms(stream: Any, step: Callable[[], None], times: int) -> float:
    """Mean milliseconds of a step that is queued `times` times, on the GPU's clock."""
    begin, end = cuda.event(timing=True), cuda.event(timing=True)
    with cuda.translated():
        step()
        begin.record(stream)
        for _ in range(times):
            step()
        end.record(stream)
        end.synchronize()
        return float(end.time_since(begin)) / times


def _in_context(gpu: Gpu, measure: Callable[[], T]) -> T:
    """Call `measure` in a context of its own; what it made ends there, as pycuda frees with the last reference."""
    context = cuda.Context(gpu)
    try:
        with context:
            return measure()
    finally:
        context.release()

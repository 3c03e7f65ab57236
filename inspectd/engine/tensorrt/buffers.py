"""What one frame at work has on the GPU, and the network that computes on it."""

from contextlib import ExitStack
from typing import Any, Protocol

import structlog

from inspectd.engine.backend import ScoreLayout
from inspectd.engine.tensorrt import cuda
from inspectd.runtime.errors import DeviceError
from inspectd.runtime.slots import Shape

log = structlog.get_logger()


class Network(Protocol):
    """A compiled network for pictures of one shape, used in the thread that made it or one after the other."""

    device_bytes: int
    """Bytes that the network keeps on the GPU beside the scratch memory."""
    scratch_bytes: int
    """Bytes of GPU memory that the network needs while it computes; several share it, as they compute in turn."""

    def use_scratch(self, address: int) -> None:
        """Set the scratch memory, `scratch_bytes` of it from this GPU address."""

    def enqueue(self, image: int, scores: int, peak: int, stream: int) -> None:
        """Queue one inference: GPU addresses of the picture and of the results, handle of the stream."""

    def warmed(self) -> None:
        """Note that the network has computed: what it learned in doing so can be kept for the next start."""


class Buffers:
    """GPU memory for one frame at work, its events, and the network recorded on just these addresses."""

    def __init__(self, network: Network, shape: Shape, results: ScoreLayout, made: ExitStack) -> None:
        self._network = network
        self.graph: cuda.CudaGraph | None = None
        image = cuda.allocate(shape.nbytes)
        made.callback(image.free)
        memory = cuda.allocate(results.nbytes)
        made.callback(memory.free)
        self.addresses = int(image), int(memory), int(memory) + results.peak_at
        made.callback(self.free)
        self.arrived, self.computed, self.done = cuda.event(), cuda.event(), cuda.event()

    def record(self, stream: Any) -> None:
        """Compute once (TensorRT wants that before a capture), then record the CUDA graph."""
        self.enqueue(stream)
        with cuda.translated():
            stream.synchronize()
        try:
            self.graph = cuda.CudaGraph(stream, lambda: self._network.enqueue(*self.addresses, stream.handle))
        except DeviceError as error:
            self.enqueue(stream)
            with cuda.translated():
                stream.synchronize()  # raises if it was not only the capture that failed
            log.warning("no CUDA graph: each inference is queued call by call, which is slower", reason=str(error))

    def enqueue(self, stream: Any) -> None:
        """Queue one inference on what these buffers hold."""
        if self.graph is not None:
            self.graph.launch()
        else:
            self._network.enqueue(*self.addresses, stream.handle)

    def free(self) -> None:
        """Free the CUDA graph; the memory is freed by the stack it was made with."""
        if self.graph is not None:
            self.graph.free()

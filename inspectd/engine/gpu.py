"""The GPU backend: slot -> copy in -> network -> copy out -> scores, DEPTH frames at work at once.

    stream `in`         picture of frame n+2, from the page-locked ring, read by the GPU itself
    stream `compute`    network on frame n+1, one CUDA graph per set of buffers
    stream `out`        scores of frame n, into page-locked memory

A thread of the backend's own owns the CUDA context: it opens everything, waits for the oldest frame asleep inside
the driver, keeps an idle GPU warm, and frees everything. The engine thread only queues work. Nothing is
allocated after the opening, and nobody ever waits for more than one frame's event. The first CUDA error is the
last: it stands in `fault`, and every frame in flight comes back with it.
"""

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import structlog

from inspectd.engine import cuda
from inspectd.engine.backend import ALIGNMENT, Results, results_of
from inspectd.engine.cuda import U8, CudaError, Gpu
from inspectd.errors import DeviceError, UnavailableError
from inspectd.handoff import Handoff
from inspectd.results import Frame
from inspectd.ring import Ring, Shape

log = structlog.get_logger()
DEPTH = 3
"""Frames at work at once per shape: one is copied in, one computed, one copied out."""
HANG_S = 10.0
"""A GPU that finishes nothing for so long hangs; its driver gives up sooner, if it notices."""
LOST_S = 1.0
"""A lost GPU's thread is given so long to end."""
KEEP_WARM_S = 0.2
"""An idle GPU computes so often, so that its clocks stay up."""
CAPTURE_REFUSED = ("CUDA_ERROR_STREAM_CAPTURE", "CUDA_ERROR_NOT_SUPPORTED", "CUDA_ERROR_NOT_PERMITTED")


class Network(Protocol):
    """A compiled network for pictures of one shape, used in the thread that made it or one after the other."""

    device_bytes: int
    """What it keeps on the GPU beside the scratch memory."""
    scratch_bytes: int
    """GPU memory it needs while it computes; several networks may share it, as they compute in turn."""

    def use_scratch(self, address: int) -> None:
        """The scratch memory, `scratch_bytes` of it."""

    def enqueue(self, image: int, scores: int, peak: int, stream: int) -> None:
        """Queue one inference: GPU addresses of the picture and of the results, handle of the stream."""

    def warmed(self) -> None:
        """It has computed: what was learned doing so can be kept for the next start."""


class _Buffers:
    """GPU memory for one frame at work, its events, and the network recorded on just these addresses."""

    def __init__(self, network: Network, shape: Shape, results: Results) -> None:
        self._network = network
        self.image, self.results = cuda.allocate(shape.nbytes), cuda.allocate(results.nbytes)
        self.addresses = int(self.image), int(self.results), int(self.results) + results.peak_at
        self.arrived, self.computed, self.done = cuda.event(), cuda.event(), cuda.event()
        self.graph: cuda.Graph | None = None

    def record(self, stream: Any) -> None:
        """Compute once (TensorRT wants that before a capture), then record the CUDA graph."""
        self.enqueue(stream)
        with cuda.translated():
            stream.synchronize()
        try:
            self.graph = cuda.Graph(stream, lambda: self._network.enqueue(*self.addresses, stream.handle))
        except CudaError as error:
            if not error.name.startswith(CAPTURE_REFUSED):
                raise
            log.warning("no CUDA graph: each inference is queued call by call, which is slower", reason=str(error))

    def enqueue(self, stream: Any) -> None:
        """Queue one inference on what these buffers hold."""
        if self.graph is not None:
            self.graph.launch()
        else:
            self._network.enqueue(*self.addresses, stream.handle)

    def free(self) -> None:
        """Give everything back."""
        if self.graph is not None:
            self.graph.free()
        self.image.free()
        self.results.free()


class GpuBackend:
    """The `Backend` on one GPU for the rings of all cameras. `load` is called in the owner thread, once per shape.

    Raises UnavailableError if the GPU has too little memory, DeviceError if it fails.
    """

    def __init__(
        self,
        gpu: Gpu,
        load: Callable[[Shape], Network],
        rings: Sequence[Ring],
        classes: int,
        stride: int,
        name: str,
    ) -> None:
        self.depth = DEPTH
        self.completed: Handoff[Frame] = Handoff()
        self._fault: DeviceError | None = None
        self._moved_s = 0.0  # when it last finished a frame, or got one when it had none
        self.description = name
        self._gpu, self._load, self._rings = gpu, load, rings
        self._results = [results_of(ring.shape, classes, stride) for ring in rings]
        self._started: SimpleQueue[tuple[Frame, _Buffers] | None] = SimpleQueue()
        self._busy: dict[Frame, _Buffers] = {}
        self._queueing = threading.Lock()  # held by who puts work into the streams
        self._entered: set[int] = set()
        opened: SimpleQueue[BaseException | None] = SimpleQueue()
        self._owner = threading.Thread(target=self._own, args=(opened,), name="gpu", daemon=True)
        self._owner.start()
        if (error := opened.get()) is not None:
            self._owner.join()
            raise error

    @property
    def fault(self) -> DeviceError | None:
        """What broke the GPU for good; None while it works."""
        if self._fault is None and self._busy and time.monotonic() - self._moved_s > HANG_S:
            self._fault = DeviceError(f"the GPU has finished nothing for {HANG_S:g} s; `dmesg` may tell why")
        return self._fault

    def submit(self, frame: Frame) -> None:
        """Queue the frame's three steps; none is waited for."""
        if self.fault is not None:
            raise self.fault
        if not self._busy:
            self._moved_s = time.monotonic()
        self._enter()
        idle = self._idle[frame.camera]
        buffers = idle.popleft()
        image, target = self._rings[frame.camera].images[frame.slot], self._host[frame.camera][frame.slot]
        try:
            with self._queueing, cuda.translated():
                cuda.copy_in(buffers.addresses[0], image, self._in)
                buffers.arrived.record(self._in)
                self._compute.wait_for_event(buffers.arrived)
                buffers.enqueue(self._compute)
                buffers.computed.record(self._compute)
                self._out.wait_for_event(buffers.computed)
                cuda.copy_out(target, buffers.addresses[1], self._out)
                buffers.done.record(self._out)
                self._busy[frame] = buffers
        except DeviceError as error:
            self._fault = error
            raise
        self._started.put((frame, buffers))

    def finish(self, frame: Frame) -> None:
        """Take note of a completed frame, whose `failure` is set if the inference failed."""
        self._idle[frame.camera].append(self._busy.pop(frame))
        self._moved_s = time.monotonic()

    def scores(self, frame: Frame) -> tuple[U8, U8]:
        """Score map uint8 [K, h, w] and peaks uint8 [K] of a finished frame, valid until its slot is reused."""
        return self._views[frame.camera][frame.slot]

    def segment(self, camera: int, image: U8) -> tuple[U8, U8]:
        """One picture uint8 [H, W, C] by way of the ring's first slot, waited for; copies."""
        frame = Frame(camera, 0, 0, 0, 0, 0)
        frame.slot = 0
        self._rings[camera].images[0][...] = image
        self.submit(frame)
        select.select([self.completed], [], [])
        for done in self.completed.drain():
            self.finish(done)
        if self.fault is not None:
            raise self.fault
        scores, peak = self.scores(frame)
        return scores.copy(), peak.copy()

    def close(self) -> None:
        """Wait for what is in flight and let go of the GPU; a lost one may never answer."""
        self._started.put(None)
        self._owner.join(None if self.fault is None else LOST_S)

    def _enter(self) -> None:
        if threading.get_ident() not in self._entered:
            cuda.enter(self._context)
            self._entered.add(threading.get_ident())

    def _own(self, opened: "SimpleQueue[BaseException | None]") -> None:
        """The owner thread, from the opening to the end."""
        try:
            context = cuda.Context(self._gpu)
            try:
                with context:
                    self._open()
                self._context = context.handle
                cuda.enter(context.handle)
                opened.put(None)
                self._complete_in_turn()
                if self.fault is None:
                    with context:
                        self._free()
            finally:
                context.release()
        except BaseException as error:
            opened.put(error)
            self._fault = self._fault or DeviceError(f"the GPU's thread ended: {error}")

    def _open(self) -> None:
        self._needed = 0
        try:
            self._allocate()
            for buffers in self._all:
                buffers.record(self._compute)
        except CudaError as error:
            if error.name != cuda.OUT_OF_MEMORY:
                raise
            needed, free, size = (n >> 20 for n in (self._needed, cuda.memory_free(), self._gpu.memory_bytes))
            raise UnavailableError(
                f"too little memory on the GPU: this line needs {needed} MiB, {free} of {size} MiB are free now; "
                " end what else uses the GPU (see `nvidia-smi`), or inspect fewer or smaller pictures"
            ) from None
        for network in self._networks.values():
            network.warmed()

    def _allocate(self) -> None:
        """All memory there will ever be; `_needed` runs ahead of it."""
        self._in, self._compute, self._out = cuda.stream(), cuda.stream(), cuda.stream()
        shapes = {ring.shape: results for ring, results in zip(self._rings, self._results, strict=True)}
        self._needed = DEPTH * sum(shape.nbytes + results.nbytes for shape, results in shapes.items())
        self._networks: dict[Shape, Network] = {}
        for shape in shapes:
            self._networks[shape] = self._load(shape)
            self._needed += self._networks[shape].device_bytes
        scratch = max(network.scratch_bytes for network in self._networks.values())
        self._needed += scratch
        self._scratch = cuda.allocate(max(scratch, ALIGNMENT))
        lanes: dict[Shape, deque[_Buffers]] = {}
        for shape, network in self._networks.items():
            network.use_scratch(int(self._scratch))
            lanes[shape] = deque(_Buffers(network, shape, shapes[shape]) for _ in range(DEPTH))
        self._all = [buffers for lane in lanes.values() for buffers in lane]
        self._idle = [lanes[ring.shape] for ring in self._rings]
        pairs = list(zip(self._rings, self._results, strict=True))
        self._host = [[cuda.pinned((results.nbytes,)) for _ in ring.images] for ring, results in pairs]
        self._views = [
            [r.views(memory) for memory in host] for r, host in zip(self._results, self._host, strict=True)
        ]
        self._registered = [ring.pages for ring in self._rings if self._register(ring)]

    def _register(self, ring: Ring) -> bool:
        """Page-lock a ring; where the driver won't, copies go through the driver's own buffer, and it is said."""
        try:
            cuda.register(ring.pages)
        except CudaError as error:
            if error.name == cuda.OUT_OF_MEMORY:
                raise
            log.warning("the ring can't be page-locked: copies to the GPU take longer", reason=str(error))
            return False
        return True

    def _complete_in_turn(self) -> None:
        """Wait for the frames in the order of their start, until the end; keep the GPU warm in between."""
        while True:
            try:
                started = self._started.get(timeout=KEEP_WARM_S)
            except Empty:
                self._keep_warm()
                continue
            if started is None:
                return
            frame, buffers = started
            try:
                with cuda.translated():
                    buffers.done.synchronize()
            except CudaError as error:
                self._fault = self._fault or error
            if self.fault is not None:
                frame.failure = str(self.fault)
            self.completed.put(frame)

    def _keep_warm(self) -> None:
        """Compute what is in a set of buffers that no frame uses."""
        buffers = self._all[0]
        try:
            with self._queueing, cuda.translated():
                if self._busy or self.fault is not None:
                    return
                buffers.enqueue(self._compute)
                buffers.computed.record(self._compute)
            with cuda.translated():
                buffers.computed.synchronize()
        except DeviceError as error:
            self._fault = error

    def _free(self) -> None:
        """In the owner thread, where all of it was made; then nothing of pycuda's is left to be collected."""
        for pages in self._registered:
            cuda.unregister(pages)
        for buffers in self._all:
            buffers.free()
        self._scratch.free()
        for lane in self._idle:
            lane.clear()
        for list_ in (self._all, self._views, self._host):
            list_.clear()
        self._networks.clear()
        del self._in, self._compute, self._out

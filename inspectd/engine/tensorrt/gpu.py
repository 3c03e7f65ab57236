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
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue

import structlog

from inspectd.engine.backend import ALIGNMENT, Gpu, ScoreLayout, score_layout
from inspectd.engine.tensorrt import cuda
from inspectd.engine.tensorrt.buffers import Buffers, Network
from inspectd.engine.tensorrt.cuda import U8, CudaError
from inspectd.runtime.errors import DeviceError, UnavailableError
from inspectd.runtime.frame import Frame
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.ring import Ring
from inspectd.runtime.slots import Shape

log = structlog.get_logger()
DEPTH = 3
"""Frames at work at once: one is copied in, one computed, one copied out."""
HANG_S = 10.0
"""Seconds after which a GPU that finishes nothing hangs; its driver gives up sooner, if it notices."""
LOST_S = 1.0
"""Seconds that the thread of a lost GPU has to end."""
KEEP_WARM_S = 0.2
"""Seconds between two inferences of an idle GPU, which keep its clocks up."""
TURN_S = 0.2


class GpuBackend:
    """The `Backend` on one GPU for the rings of all cameras. `load` is called in the owner thread, once per shape.

    Raises UnavailableError if there is too little memory, DeviceError if the GPU fails.
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
        self.depth, self.description = DEPTH, name
        self.completed: Handoff[Frame] = Handoff()
        self._gpu, self._load, self._rings = gpu, load, rings
        self._results = [score_layout(ring.shape, classes, stride) for ring in rings]
        self._started: SimpleQueue[tuple[Frame, Buffers] | None] = SimpleQueue()
        self._busy: dict[Frame, Buffers] = {}
        self._warming = False
        self._queueing = threading.Lock()  # held by who puts work into the streams
        self._fault: DeviceError | None = None
        self._moved_s = 0.0  # when it last finished something, or got work when it had none
        self._local = threading.local()  # whether the context is current in a thread
        opened: SimpleQueue[BaseException | None] = SimpleQueue()
        self._owner = threading.Thread(target=self._own, args=(opened,), name="gpu", daemon=True)
        self._owner.start()
        if (error := opened.get()) is not None:
            self._owner.join(LOST_S)
            raise error

    @property
    def fault(self) -> DeviceError | None:
        """What broke the GPU for good; None while it works."""
        works = self._busy or self._warming
        if self._fault is None and works and time.monotonic() - self._moved_s > HANG_S:
            self._fault = DeviceError(f"the GPU has finished nothing for {HANG_S:g} s; `dmesg` may tell why")
        return self._fault

    def submit(self, frame: Frame) -> None:
        """Queue the frame's three steps; none is waited for."""
        if self.fault is not None:
            raise self.fault
        self._enter()
        buffers = self._idle[frame.camera].popleft()
        image, target = self._rings[frame.camera].images[frame.slot], self._host[frame.camera][frame.slot]
        try:
            with self._queueing, cuda.translated():
                if not self._busy:
                    self._moved_s = time.monotonic()
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

    def scores(self, frame: Frame) -> tuple[U8, U8]:
        """Score map uint8 [K, h, w] and peaks uint8 [K] of a finished frame, valid until its slot is reused."""
        return self._views[frame.camera][frame.slot]

    def wait(self) -> int:
        """Wait until frames are done; gives how many. For a caller with nothing else to do; raises DeviceError."""
        poll = select.poll()  # `select.select` can't wait for descriptors of 1024 and more
        poll.register(self.completed, select.POLLIN)
        while not poll.poll(TURN_S * 1e3) and self.fault is None:
            pass
        done = list(self.completed.drain())
        for frame in done:
            self.finish(frame)
        if self.fault is not None:
            raise self.fault
        return len(done)

    def segment(self, camera: int, image: U8) -> tuple[U8, U8]:
        """Judge one picture uint8 [H, W, C] in the ring's first slot and wait for it: scores and peak, copies."""
        frame = Frame(camera, 0, 0, 0, 0, 0)
        frame.slot = 0
        self._rings[camera].images[0][...] = image
        self.submit(frame)
        self.wait()
        scores, peak = self.scores(frame)
        return scores.copy(), peak.copy()

    def close(self) -> None:
        """Wait for what is in flight and let go of the GPU; a lost one may never answer."""
        self._started.put(None)
        self._owner.join(HANG_S if self.fault is None else LOST_S)

    def _enter(self) -> None:
        if not hasattr(self._local, "entered"):
            cuda.enter(self._context)
            self._local.entered = True

    def _own(self, opened: "SimpleQueue[BaseException | None]") -> None:
        """Be the owner thread, from the opening to the end."""
        error: BaseException | None = None
        made = ExitStack()
        context = None
        try:
            context = cuda.Context(self._gpu)
            with context:
                self._open(made)
            self._context = context.handle
            cuda.enter(context.handle)
            opened.put(None)
            self._complete_in_turn()
        except BaseException as caught:
            error = caught
            for one in (caught, caught.__context__):  # what was made must not live on in their frames
                traceback.clear_frames(one.__traceback__ if one is not None else None)
            self._fault = self._fault or DeviceError(f"the GPU's thread ended: {caught}")
        if context is not None:
            with suppress(CudaError), cuda.translated(), context:
                made.close()  # in this thread and in the context, where all of it was made
            context.release()
        opened.put(error)

    def _open(self, made: ExitStack) -> None:
        """Open all that there will ever be; what gives it back goes into `made`."""
        self._needed = 0
        try:
            self._allocate(made)
            for buffers in self._all:
                buffers.record(self._compute)
        except CudaError as error:
            if error.name != cuda.OUT_OF_MEMORY:
                raise
            needed, free, size = (n >> 20 for n in (self._needed, cuda.memory_free(), self._gpu.memory_bytes))
            raise UnavailableError(
                f"too little memory on the GPU: this line needs {needed} MiB, {free} of {size} MiB are free now; "
                "end what else uses the GPU (see `nvidia-smi`), or inspect fewer or smaller pictures"
            ) from None
        for network in self._networks.values():
            network.warmed()

    def _allocate(self, made: ExitStack) -> None:
        """Allocate all memory on the GPU; `_needed` counts ahead of what is allocated."""
        self._in, self._compute, self._out = cuda.stream(), cuda.stream(), cuda.stream()
        made.callback(self._forget)
        shapes = {ring.shape: results for ring, results in zip(self._rings, self._results, strict=True)}
        self._needed = DEPTH * sum(shape.nbytes + results.nbytes for shape, results in shapes.items())
        self._networks: dict[Shape, Network] = {}
        for shape in shapes:
            self._networks[shape] = self._load(shape)
            self._needed += self._networks[shape].device_bytes
        size = max(ALIGNMENT, *(network.scratch_bytes for network in self._networks.values()))
        self._needed += size
        scratch = cuda.allocate(size)
        made.callback(scratch.free)
        lanes: dict[Shape, deque[Buffers]] = {}
        for shape, network in self._networks.items():
            network.use_scratch(int(scratch))
            lanes[shape] = deque(Buffers(network, shape, shapes[shape], made) for _ in range(DEPTH))
        self._all = [buffers for lane in lanes.values() for buffers in lane]
        self._idle = [lanes[ring.shape] for ring in self._rings]
        self._host = [
            self._pinned(ring, results) for ring, results in zip(self._rings, self._results, strict=True)
        ]
        self._views = [[r.views(m) for m in host] for r, host in zip(self._results, self._host, strict=True)]
        for ring in self._rings:
            self._register(ring, made)

    def _pinned(self, ring: Ring, results: ScoreLayout) -> list[U8]:
        """Allocate page-locked room for the scores of every slot."""
        try:
            return [cuda.pinned((results.nbytes,)) for _ in ring.images]
        except CudaError as error:
            if error.name != cuda.OUT_OF_MEMORY:
                raise
            size = ring.count * results.nbytes >> 10
            raise UnavailableError(f"this computer has no {size} KiB of memory that can be page-locked") from None

    def _register(self, ring: Ring, made: ExitStack) -> None:
        """Page-lock a ring; where the driver won't, its own buffer is used for copies, and the log says so."""
        try:
            cuda.register(ring.pages)
        except CudaError as error:
            log.warning("the ring can't be page-locked: copies to the GPU take longer", reason=str(error))
        else:
            made.callback(cuda.unregister, ring.pages)

    def _forget(self) -> None:
        """Drop what pycuda and TensorRT free with the last reference, here and not in another thread."""
        for name in ("_all", "_idle", "_views", "_host", "_networks", "_in", "_compute", "_out"):
            self.__dict__.pop(name, None)

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
                self._moved_s = time.monotonic()
            except CudaError as error:
                self._fault = self._fault or error
            if self._fault is not None:
                frame.failure = str(self._fault)
            self.completed.put(frame)

    def _keep_warm(self) -> None:
        """Run the network on a set of buffers that no frame uses."""
        buffers = self._all[0]
        try:
            with self._queueing, cuda.translated():
                if self._busy or self._fault is not None:
                    return
                self._moved_s, self._warming = time.monotonic(), True
                buffers.enqueue(self._compute)
                buffers.computed.record(self._compute)
            with cuda.translated():
                buffers.computed.synchronize()
        except DeviceError as error:
            self._fault = error
        finally:
            self._warming = False

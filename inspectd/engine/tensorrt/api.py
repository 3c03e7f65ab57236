"""TensorRT 10.3 to 11 and TensorRT-RTX, whichever is installed: a plan out of a graph, an inference out of a plan.

Networks are always strongly typed, so the precision comes from the ONNX file alone and is the same in all three.
What differs: RTX builds for named compute capabilities without any GPU, and compiles the rest on the GPU at the
first inference, which a runtime cache keeps. TensorRT builds on the GPU itself, for minutes.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from inspectd.engine.backend import ScoreLayout
from inspectd.runtime.errors import ON_THE_CPU, DeviceError, UnavailableError
from inspectd.runtime.slots import Shape

log = structlog.get_logger()
NAMES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
"""Names of the libraries for people by Python module, in the order in which the modules are looked for."""
VALIDITY_BYTES = 64
"""Bytes from the begin of a plan by which TensorRT-RTX can see whether it can run it."""
INVALID_WORDS = (
    "it is of another version", "it is for other GPUs", "the NVIDIA driver is too old",
    "the CUDA runtime is too old", "too little memory", "it is damaged", "CUDA failed",
)  # fmt: skip
"""Reasons that TensorRT-RTX gives for an invalid plan, by bit."""
Progress = Callable[[str, int, int], None]
"""Called with a phase's name, its step and its number of steps."""


class PlanError(Exception):
    """A plan can't be built or used; `str()` says why, in TensorRT's own words where it has some."""


class GraphError(PlanError):
    """A plan that can never be built: this graph, or this kind of GPU, is not for this library."""


class Library(NamedTuple):
    """The TensorRT bindings in use."""

    module: Any
    name: str
    version: str

    @property
    def rtx(self) -> bool:
        """Whether it is TensorRT-RTX."""
        return hasattr(self.module, "IRuntimeCache")


def library() -> Library:
    """Find the library that is installed; raises UnavailableError if there is none that works."""
    for module_name, name in NAMES.items():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name != module_name:
                raise UnavailableError(f"{name} is installed without {error.name}: install it again") from None
        except (ImportError, OSError) as error:
            raise UnavailableError(f"{name} can't be loaded ({error}): install it again") from None
        else:
            return Library(module, name, module.__version__)
    raise UnavailableError(
        "there is no TensorRT here: install inspectd[gpu] (GeForce RTX and RTX PRO cards: inspectd[rtx]), "
        f"or {ON_THE_CPU}"
    )


def _logger(library: Library, heard: list[str]) -> Any:
    """Make a logger for TensorRT: errors are kept in `heard` for a sentence to the user, warnings are logged."""
    base = library.module.ILogger

    class Logger(base):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            levels = base.Severity
            if severity in (levels.ERROR, levels.INTERNAL_ERROR):
                heard.append(message)
            elif severity == levels.WARNING:
                log.debug(message, library=library.name)

    return Logger()


def _monitor(library: Library, progress: Progress) -> Any:
    base = library.module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:  # noqa: ARG002
            self._steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            progress(phase, step + 1, self._steps.get(phase, 0))
            return True

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return Monitor()


def _made(kind: Any, logger: Any, heard: list[str]) -> Any:
    """Make a Builder or Runtime; the bindings raise TypeError where TensorRT gives none, as without a driver."""
    try:
        return kind(logger)
    except TypeError as error:
        raise PlanError("; ".join(heard) or str(error)) from None


def build(library: Library, onnx: bytes, name: str, shape: Shape, target: str, progress: Progress) -> bytes:
    """Build the plan of a graph for pictures of one shape; raises PlanError.

    name: what the plan will call itself. target: compute capability as sm86; TensorRT builds for the GPU it finds.
    """
    try:
        return _build(library, onnx, name, shape, target, progress)
    except PlanError as error:
        # Its traceback would keep the Builder. TensorRT calls the logger with a lock held that a Builder's end
        # wants, too: were it collected as garbage in such a call, it would wait forever.
        raise error.with_traceback(None) from None


def _build(library: Library, onnx: bytes, name: str, shape: Shape, target: str, progress: Progress) -> bytes:
    trt, heard = library.module, list[str]()
    logger, monitor = _logger(library, heard), _monitor(library, progress)  # must outlive the builder
    builder = _made(trt.Builder, logger, heard)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    network.name = name
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        raise GraphError("; ".join(parser.get_error(i).desc() for i in range(parser.num_errors)))
    picture = network.get_input(0)
    if picture is None:  # the parser takes text and nothing at all for an empty network
        raise GraphError("the graph has no input")
    picture.shape = (1, *shape)
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    if library.rtx:
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # else its work can't be captured in a CUDA graph
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(_capability(library, target), 0):
            raise GraphError(f"{library.name} {library.version} does not build for {target}")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise PlanError("; ".join(heard) or "the builder says nothing of why")
    return bytes(plan)


def targets(library: Library) -> list[str]:
    """The compute capabilities that the library can build for without such a GPU."""
    if not library.rtx:
        return []
    members = library.module.ComputeCapability.__members__
    return sorted((name.lower() for name in members if name.startswith("SM")), key=lambda sm: int(sm[2:]))


def _capability(library: Library, target: str) -> Any:
    if target not in targets(library):
        raise GraphError(
            f"{library.name} {library.version} does not support compute capability {target}, "
            f"only {', '.join(targets(library))}"
        )
    return getattr(library.module.ComputeCapability, target.upper())


class TensorRtNetwork:
    """A plan on the GPU, ready to compute; made in the owner thread. Raises PlanError.

    cache: what an earlier run of TensorRT-RTX learned, or nothing. keep: called with what this run learned.
    """

    def __init__(
        self, library: Library, plan: bytes, name: str, shape: Shape, results: ScoreLayout, cache: bytes,
        keep: Callable[[bytes], None],
    ) -> None:  # fmt: skip
        self._heard, self._keep = list[str](), keep
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        try:
            self._open(library, plan, name, shape, results, cache)
        except PlanError as error:
            self._context = self._engine = self._runtime = None
            raise error.with_traceback(None) from None  # as in `build`

    def _open(
        self, library: Library, plan: bytes, name: str, shape: Shape, results: ScoreLayout, cache: bytes
    ) -> None:
        trt = library.module
        self._logger = _logger(library, self._heard)
        self._runtime = _made(trt.Runtime, self._logger, self._heard)
        if library.rtx:
            self._validate(trt, plan)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise PlanError("; ".join(self._heard) or "the plan can't be loaded")
        self._check(trt, name, shape, results)
        self.device_bytes = len(plan)
        self.scratch_bytes = int(self._engine.device_memory_size_v2)
        self._cache = None
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if library.rtx:
            config = self._engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            self._cache = config.create_runtime_cache()
            if cache and not self._cache.deserialize(cache):
                log.info("the runtime cache is of another driver: the first inference takes longer")
            config.set_runtime_cache(self._cache)
            self._context = self._engine.create_execution_context(config)
        else:
            self._context = self._engine.create_execution_context(strategy)
        if self._context is None:
            raise PlanError("; ".join(self._heard) or "no execution context")

    def use_scratch(self, address: int) -> None:
        """Set the scratch memory, `scratch_bytes` of it from this GPU address."""
        self._context.set_device_memory(address, self.scratch_bytes)

    def enqueue(self, image: int, scores: int, peak: int, stream: int) -> None:
        """Queue one inference: GPU addresses of the picture and of the results, handle of the stream."""
        for tensor, address in (("image", image), ("scores", scores), ("peak", peak)):
            self._context.set_tensor_address(tensor, address)
        if not self._context.execute_async_v3(stream):
            raise DeviceError(
                "; ".join(self._heard[-2:]) or "TensorRT can't queue an inference and doesn't say why"
            )

    def warmed(self) -> None:
        """Keep what TensorRT-RTX compiled in the first inference, for the next start."""
        if self._cache is not None:
            self._keep(bytes(self._cache.serialize()))

    def _validate(self, trt: Any, plan: bytes) -> None:
        """Ask TensorRT-RTX by the plan's first bytes whether this GPU and driver can run it."""
        validity, reasons = self._runtime.get_engine_validity(plan[:VALIDITY_BYTES])
        if validity == trt.EngineValidity.INVALID:
            why = [words for bit, words in enumerate(INVALID_WORDS) if int(reasons) >> bit & 1]
            raise PlanError(f"TensorRT-RTX can't run the plan here: {', '.join(why) or 'it does not say why'}")

    def _check(self, trt: Any, name: str, shape: Shape, results: ScoreLayout) -> None:
        """Check that the plan is of the graph that it should be of, with the tensors that the bundle promises."""
        engine = self._engine
        classes = results.scores[0]
        wanted = {"image": (1, *shape), "scores": (1, *results.scores), "peak": (1, classes)}
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        found = {tensor: tuple(engine.get_tensor_shape(tensor)) for tensor in names}
        types = {engine.get_tensor_dtype(tensor) for tensor in names}
        if engine.name != name:
            raise PlanError(f"the plan is of another graph ({engine.name})")
        if found != wanted or types != {trt.DataType.UINT8}:
            raise PlanError(f"its tensors are {found}, not {wanted}, all uint8")

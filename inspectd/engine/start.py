"""From a bundle to a running GPU backend: precision, plans for all picture shapes, proof, and only then frames."""

import atexit
from collections.abc import Sequence
from pathlib import Path

import structlog

from inspectd.config import TensorRtEngine
from inspectd.engine import tensorrt
from inspectd.engine.backend import U8
from inspectd.engine.bundle import Bundle
from inspectd.engine.cache import ON_THE_CPU, Machine, Wanted, find_proven, proven_plan
from inspectd.engine.cuda import Gpu, find
from inspectd.engine.gpu import GpuBackend
from inspectd.engine.plans import PlanKey, machine_digest, plan_folder
from inspectd.engine.proof import open_plans, prove
from inspectd.errors import BundleError, UnavailableError
from inspectd.handoff import Handoff
from inspectd.ring import Ring, Shape, create

log = structlog.get_logger()


def wanted_plan(
    library: tensorrt.Library, gpu: Gpu, folder: Path, bundle: Bundle, precision: str, shape: Shape
) -> Wanted:
    """The plan for pictures of one shape on this GPU."""
    model = "" if library.rtx else f"{gpu.name}, driver for CUDA {gpu.driver.partition('.')[0]}"
    key = PlanKey.of(library.name, library.version, bundle, precision, shape, gpu.sm, model)
    proof = folder / f"{key.digest}-{machine_digest(gpu.name, gpu.driver)}.proven.json"
    return Wanted(key, folder / key.file_name, proof)


def precisions(config: TensorRtEngine, bundle: Bundle) -> list[str]:
    """What is tried, fastest first: INT8 only if wished and if the export found it equal."""
    names: list[str] = [name for name in ("fp16", "fp32") if name in bundle.graphs]
    return ["int8", *names] if config.precision == "auto" and bundle.int8_usable else names


def open_gpu(
    config: TensorRtEngine, bundle: Bundle, rings: Sequence[Ring], wake: Handoff[str] | None = None
) -> GpuBackend:
    """The backend in the first precision that computes here what the CPU computes; BundleError if none does.

    Plans that are not in the cache are built by a child process; when something is put into `wake` meanwhile,
    StoppedError is raised. Raises UnavailableError if GPU, driver, memory or time are not there.
    """
    library, gpu, folder = tensorrt.library(), find(config.device), plan_folder(Path(config.plans))
    machine = Machine(gpu.name, gpu.driver)
    for precision in precisions(config, bundle):
        allowed, worst, plans = bundle.allowed_difference(precision), 0, {}
        for shape in {ring.shape: None for ring in rings}:
            wanted = wanted_plan(library, gpu, folder, bundle, precision, shape)
            args = bundle, config.device, machine, config.build_timeout_s, wake
            plans[shape], difference = proven_plan(wanted, *args)
            worst = max(worst, difference)
        if worst <= allowed:
            try:
                backend = open_plans(library, plans, gpu, folder, bundle, rings)
            except tensorrt.PlanError as error:
                raise UnavailableError(
                    f"{folder}: a plan can't be loaded ({error}); delete it, {ON_THE_CPU}"
                ) from None
            worst = max(prove(backend, i, bundle, plans[ring.shape]) for i, ring in enumerate(rings))
            if worst <= allowed:
                return backend
            backend.close()
        log.warning("golden test failed on the GPU", precision=precision, difference=worst, allowed=allowed)
    raise BundleError(
        f"{bundle.path}: the golden test fails on {gpu.name}: scores differ from the CPU's by {worst}/255, "
        f"at most {allowed}/255 is allowed; export the bundle again, {ON_THE_CPU}"
    )


def outlook(config: TensorRtEngine, bundle: Bundle, shapes: Sequence[Shape]) -> str:
    """What a start would find, for `check`: GPU, library, precision, and which plans there are. Builds nothing."""
    library, gpu = tensorrt.library(), find(config.device)
    precision = precisions(config, bundle)[0]
    folder, said = Path(config.plans), []
    for shape in dict.fromkeys(shapes):
        wanted = wanted_plan(library, gpu, folder, bundle, precision, shape)
        found = find_proven(wanted, Machine(gpu.name, gpu.driver))
        state = "to be built at the start" if found is None else f"proven within {found[1]}/255"
        said.append(f"plan for {shape.width}x{shape.height} {state}")
    return f"{library.name} {library.version} on {gpu.name}, {precision}, {', '.join(said)}"


class GpuSegmenter:
    """One picture of any size after the other, through the backend that the daemon uses; keeps the last one."""

    def __init__(self, config: TensorRtEngine, bundle: Bundle) -> None:
        self._config, self._bundle = config, bundle
        self._shape: Shape | None = None
        self._backend: GpuBackend | None = None
        atexit.register(self.close)

    def segment(self, image: U8) -> tuple[U8, U8]:
        """Image uint8 [H, W, C] -> scores uint8 [K, h, w], peak uint8 [K], copies."""
        shape = Shape(*image.shape)
        if self._backend is None or shape != self._shape:
            self.close()
            self._backend = open_gpu(self._config, self._bundle, [create(1, shape, "replay")])
            self._shape = shape
        return self._backend.segment(0, image)

    def close(self) -> None:
        """Let go of the GPU; at the latest when the program ends."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

"""From a bundle to a running GPU backend: precision, plans for all picture shapes, proof, and only then frames."""

import atexit
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from inspectd.engine.backend import U8, Gpu
from inspectd.engine.bundle import Bundle
from inspectd.engine.tensorrt import api as tensorrt
from inspectd.engine.tensorrt.cache import Wanted, find_proven, proven_plan
from inspectd.engine.tensorrt.cuda import find
from inspectd.engine.tensorrt.gpu import GpuBackend
from inspectd.engine.tensorrt.plans import PlanFile, PlanKey, machine_digest, plan_folder
from inspectd.engine.tensorrt.proof import open_plans, prove
from inspectd.runtime.errors import ON_THE_CPU, BundleError, UnavailableError, UserError
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.ring import Ring, create
from inspectd.runtime.slots import Shape
from inspectd.runtime.systemd import notify
from inspectd.settings.engine import TensorRtEngine

log = structlog.get_logger()
OPEN_S = 120.0
"""Seconds that systemd is asked to wait for this process to load and prove the plans."""


def wanted_plan(
    library: tensorrt.Library, gpu: Gpu, folder: Path, bundle: Bundle, precision: str, shape: Shape
) -> Wanted:
    """Describe the plan for pictures of one shape on this GPU."""
    model = "" if library.rtx else f"{gpu.name}, driver {gpu.driver.partition('.')[0]}"
    key = PlanKey.of(library.name, library.version, bundle, precision, shape, gpu.sm, model)
    proof = folder / f"{key.digest}-{machine_digest(gpu)}.proven.json"
    return Wanted(key, folder / key.file_name, proof)


def precisions(config: TensorRtEngine, bundle: Bundle) -> list[str]:
    """Precisions that are tried, fastest first: INT8 only if wished and if the export found it equal."""
    int8 = ["int8"] if config.precision == "auto" and bundle.int8_usable else []
    return [*int8, *bundle.gpu_floats]


def open_gpu(
    config: TensorRtEngine, bundle: Bundle, rings: Sequence[Ring], wake: Handoff[str] | None = None
) -> GpuBackend:
    """Open the backend in the first precision that computes here what the CPU computes; BundleError if none does.

    Plans that are not in the cache are built by a child process; when something is put into `wake` meanwhile,
    StoppedError is raised. Raises UnavailableError if GPU, driver, memory or time are not there.
    """
    library, gpu, folder = tensorrt.library(), find(config.device), plan_folder(Path(config.plans))
    names = precisions(config, bundle)
    for precision in names:
        allowed = bundle.allowed_difference(precision)
        try:
            plans = _ready_plans(config, bundle, library, gpu, folder, precision, rings, wake)
            backend = open_plans(library, plans, gpu, folder, bundle, rings)
        except (BundleError, tensorrt.PlanError) as error:
            if precision == names[-1]:
                raise _refusal(error, folder) from None
            log.warning("a precision can't be used", precision=precision, reason=str(error))
            continue
        try:
            worst = max(prove(backend, i, bundle, plans[ring.shape]) for i, ring in enumerate(rings))
        except BaseException:
            backend.close()
            raise
        if worst <= allowed:
            return backend
        backend.close()
        log.warning("golden test failed on the GPU", precision=precision, difference=worst, allowed=allowed)
    raise BundleError(
        f"{bundle.path}: the golden test fails on {gpu.name}: scores differ from the CPU's by {worst}/255, "
        f"at most {allowed}/255 is allowed; export the bundle again, or {ON_THE_CPU}"
    )


def _refusal(error: Exception, folder: Path) -> UserError:
    if isinstance(error, UserError):
        return error
    return UnavailableError(f"{folder}: a plan can't be loaded: {error}; try again, or {ON_THE_CPU}")


def _ready_plans(
    config: TensorRtEngine, bundle: Bundle, library: tensorrt.Library, gpu: Gpu, folder: Path, precision: str,
    rings: Sequence[Ring], wake: Handoff[str] | None,
) -> dict[Shape, PlanFile]:  # fmt: skip
    """Plans by picture shape, each built and loaded once by a child process, which measured how near the CPU it
    is.
    """
    plans = {}
    for shape in dict.fromkeys(ring.shape for ring in rings):
        wanted = wanted_plan(library, gpu, folder, bundle, precision, shape)
        plans[shape], _ = proven_plan(wanted, bundle, gpu, config.build_timeout_s, wake)
    notify(f"EXTEND_TIMEOUT_USEC={int(OPEN_S * 1e6)}")
    return plans


def outlook(config: TensorRtEngine, bundle: Bundle, shapes: Sequence[Shape]) -> str:
    """What a start would find, for `check`: GPU, library, precision, and which plans exist. Builds nothing."""
    library, gpu = tensorrt.library(), find(config.device)
    precision = precisions(config, bundle)[0]
    folder, said = plan_folder(Path(config.plans)), []
    for shape in dict.fromkeys(shapes):
        wanted = wanted_plan(library, gpu, folder, bundle, precision, shape)
        found = find_proven(wanted, gpu)
        if found is None and not os.access(folder, os.W_OK):
            raise UnavailableError(f"{folder}: a plan must be built, and this user may not write there")
        state = "to be built at the start" if found is None else f"proven within {found[1]}/255"
        said.append(f"plan for {shape.width}x{shape.height} {state}")
    return f"{library.name} {library.version} on {gpu.name}, {precision}, {', '.join(said)}"


class GpuSegmenter:
    """Judges one picture of any size after the other through the daemon's backend; keeps the last few sizes."""

    KEPT = 4

    def __init__(self, config: TensorRtEngine, bundle: Bundle) -> None:
        self._config, self._bundle = config, bundle
        self._open: dict[Shape, tuple[GpuBackend, Ring]] = {}
        atexit.register(self.close)

    def segment(self, image: U8) -> tuple[U8, U8]:
        """Judge an image uint8 [H, W, C]: scores uint8 [K, h, w] and peak uint8 [K], copies."""
        shape = Shape(*image.shape)
        kept = self._open.pop(shape, None)
        if kept is None:
            ring = create(1, shape, "replay")
            kept = open_gpu(self._config, self._bundle, [ring]), ring
        self._open[shape] = kept
        if len(self._open) > self.KEPT:
            self._close(next(iter(self._open)))
        return kept[0].segment(0, image)

    def close(self) -> None:
        """Let go of the GPU; at the latest when the program ends."""
        for shape in list(self._open):
            self._close(shape)

    def _close(self, shape: Shape) -> None:
        backend, ring = self._open.pop(shape)
        backend.close()
        backend.completed.close()
        os.close(ring.fd)

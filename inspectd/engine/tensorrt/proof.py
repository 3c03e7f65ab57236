"""A plan at work: loaded with what earlier runs learned, and compared with the CPU on the proof picture."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from inspectd.engine.backend import Gpu, score_layout
from inspectd.engine.bundle import Bundle, golden_difference
from inspectd.engine.tensorrt.api import Library, PlanError, TensorRtNetwork
from inspectd.engine.tensorrt.buffers import Network
from inspectd.engine.tensorrt.cuda import memory_free
from inspectd.engine.tensorrt.gpu import GpuBackend
from inspectd.engine.tensorrt.plans import PlanFile, machine_digest, proof_of, write_whole
from inspectd.runtime.ring import Ring
from inspectd.runtime.slots import Shape

log = structlog.get_logger()


def loader(
    library: Library, plans: Mapping[Shape, PlanFile], gpu: Gpu, folder: Path, bundle: Bundle
) -> Callable[[Shape], Network]:
    """Give a function that makes the network for pictures of one shape; it raises PlanError."""

    def load(shape: Shape) -> Network:
        plan = plans[shape]
        results = score_layout(shape, len(bundle.manifest.classes), bundle.manifest.stride)
        learned, keep = _runtime_cache(folder, plan, gpu)
        try:
            return TensorRtNetwork(library, plan.plan, plan.key.network_name, shape, results, learned, keep)
        except PlanError as error:
            size, free = len(plan.plan) >> 20, memory_free() >> 20
            raise PlanError(f"{error} (the plan has {size} MiB, the GPU {free} MiB free)") from None

    return load


def open_plans(
    library: Library,
    plans: Mapping[Shape, PlanFile],
    gpu: Gpu,
    folder: Path,
    bundle: Bundle,
    rings: Sequence[Ring],
) -> GpuBackend:
    """Open the backend that runs these plans; raises PlanError, UnavailableError or DeviceError."""
    load, manifest = loader(library, plans, gpu, folder, bundle), bundle.manifest
    precision = next(iter(plans.values())).key.precision
    name = f"{library.name} {library.version}, {precision}, {gpu.name}"
    return GpuBackend(gpu, load, rings, len(manifest.classes), manifest.stride, name)


def prove(backend: GpuBackend, camera: int, bundle: Bundle, plan: PlanFile) -> int:
    """Measure how far the GPU is from the CPU on the proof picture, in 1/255, by way of a camera's ring."""
    golden = proof_of(bundle, plan)
    runs = [backend.segment(camera, golden.image) for _ in range(backend.depth)]
    return max(golden_difference(golden, *scores, plan.key.precision) for scores in runs)


def _runtime_cache(folder: Path, plan: PlanFile, gpu: Gpu) -> tuple[bytes, Callable[[bytes], None]]:
    """Read what TensorRT-RTX compiled here before; gives it, and a function that keeps what it compiles now."""
    path = folder / f"{plan.key.digest}-{machine_digest(gpu)}.compiled"
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    content = data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else b""

    def keep(learned: bytes) -> None:
        if learned == content:
            return
        try:
            write_whole(path, hashlib.sha256(learned).digest() + learned)
        except OSError as error:
            log.warning("what TensorRT-RTX compiled can't be kept", path=str(path), reason=error.strerror)

    return content, keep

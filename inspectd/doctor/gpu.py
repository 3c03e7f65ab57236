"""`inspectd doctor gpu`: what the GPU of this machine does, and whether the pipeline gets it all. Run it first.

ok        as wanted, or only for information
warn      it works, and slower than it should
fail      it can't be used so; `remedy` says what to do
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from inspectd.engine.backend import U8, Gpu, score_layout
from inspectd.engine.bundle import Bundle
from inspectd.engine.tensorrt import api as tensorrt
from inspectd.engine.tensorrt.bare import Bare, bare, copy_ms, free_bytes
from inspectd.engine.tensorrt.buffers import Network
from inspectd.engine.tensorrt.cache import proven_plan
from inspectd.engine.tensorrt.cuda import find
from inspectd.engine.tensorrt.gpu import GpuBackend
from inspectd.engine.tensorrt.plans import plan_folder
from inspectd.engine.tensorrt.proof import loader, open_plans, prove
from inspectd.engine.tensorrt.start import precisions, wanted_plan
from inspectd.runtime.errors import ON_THE_CPU, DeviceError, UserError
from inspectd.runtime.frame import Frame
from inspectd.runtime.ring import Ring, create
from inspectd.runtime.slots import Shape
from inspectd.settings.engine import TensorRtEngine

SLOTS = 8
FRAMES = 500
"""Number of frames for the latency, one at a time."""
REPEATED = 200
COPY_MIB = 5
THROUGHPUT_S = 3.0
IDLE_FRAMES = 3
GAPS = [0.02 + 0.002 * (4 * n % 15) for n in range(15)]
"""Pauses between parts that come slowly, as shares of the idling: 0.2 to 0.5 s of 10. They meet the inferences
that keep the GPU warm at all moments."""
LEAST_PIXELS = 500_000
"""Smallest picture whose pipeline is measured by its share of the bare GPU, not by CPU time (`inspectd bench`)."""
GRACE_MS = 0.2
"""Most milliseconds that the pipeline may add to the steps themselves."""
LEAST_SHARE, LEAST_RING = 0.95, 0.9
SPREAD = 1.5
SLOWER = "the daemon goes on with one more copy"
CLOCKS = "keep the GPU's clocks up: sudo nvidia-smi -pm 1; sudo nvidia-smi -lgc MIN,MAX"
BUSY = "end what else uses CPU and GPU, and set the CPU's governor to performance"


class Figure(msgspec.Struct, frozen=True):
    """One thing found or measured; `remedy` is empty exactly when the status is ok."""

    check: str
    status: Literal["ok", "warn", "fail"]
    found: str
    value: float | None = None
    unit: str = ""
    wanted: str = ""
    remedy: str = ""


def gpu_figures(config: TensorRtEngine, bundle: Bundle, shape: Shape, idle_s: float) -> Iterator[Figure]:
    """Give each figure as soon as it is known; raises UnavailableError if there is no GPU or no driver at all."""
    gpu = find(config.device)
    yield from machine_figures(gpu)
    try:
        yield from copy_figures(gpu)
        library = tensorrt.library()
        yield _found("TensorRT", f"{library.name} {library.version}")
        with tempfile.TemporaryDirectory(prefix="inspectd-plans-") as folder:
            yield from _engine_figures(config, bundle, shape, idle_s, gpu, library, Path(folder))
    except (UserError, tensorrt.PlanError) as error:
        yield Figure("engine", "fail", str(error), remedy=ON_THE_CPU)


def _found(check: str, found: str) -> Figure:
    return Figure(check, "ok", found)


def _measured(check: str, value: float, unit: str) -> Figure:
    return Figure(check, "ok", f"{value:.4g} {unit}", round(value, 5), unit)


def _judged(check: str, value: float, unit: str, good: bool, wanted: str, remedy: str) -> Figure:
    shown = f"{value:.4g} {unit}".strip()
    return Figure(check, "ok" if good else "warn", shown, round(value, 5), unit, wanted, "" if good else remedy)


def machine_figures(gpu: Gpu) -> Iterator[Figure]:
    """Figures of the card, its driver and its link."""
    yield _found("GPU", f"{gpu.number}: {gpu.name}")
    yield _found("driver", gpu.driver)
    yield _found("compute capability", gpu.sm)
    yield _measured("memory", gpu.memory_bytes / 2**20, "MiB")
    yield _measured("memory free", free_bytes(gpu) / 2**20, "MiB")
    yield _link(Path("/sys/bus/pci/devices") / gpu.pci.lower())


def _link(folder: Path) -> Figure:
    """Judge the PCIe link by its width, which shows a wrong slot; an idle card may well have a lower speed."""
    try:
        now, most = ((folder / f"{x}_link_width").read_text().strip() for x in ("current", "max"))
        speed, best = ((folder / f"{x}_link_speed").read_text().strip() for x in ("current", "max"))
    except OSError as error:
        return _found("PCIe link", f"not told by this machine ({error.strerror})")
    found = f"x{now} of x{most}, {speed} of {best}"
    if now == most:
        return _found("PCIe link", found)
    return Figure("PCIe link", "warn", found, wanted=f"x{most}", remedy="put the card into a slot with all lanes")


def copy_figures(gpu: Gpu) -> Iterator[Figure]:
    """Bandwidth to the GPU from ordinary, from page-locked, and from a page-locked ring's memory."""
    size = COPY_MIB << 20
    ring = create(1, Shape(size // 4096, 4096, 1), "doctor")
    sources: dict[str, dict[str, U8]] = {
        "pageable": {"host": np.ones(size, np.uint8)},
        "pinned": {},
        "ring": {"host": ring.images[0], "register": ring.pages},
    }
    rates: dict[str, float] = {}
    for name, source in sources.items():
        try:
            rates[name] = size / copy_ms(gpu, size, REPEATED, **source) / 1e6
        except DeviceError as error:
            yield Figure(
                f"copy to the GPU, {name}", "fail", str(error), remedy=f"tell us of this machine; {SLOWER}"
            )
        else:
            yield _measured(f"copy to the GPU, {name}", rates[name], "GB/s")
    if rates.keys() >= {"ring", "pinned"}:
        share = rates["ring"] / rates["pinned"]
        wanted, remedy = f"{LEAST_RING} or more", f"the GPU does not read the ring's pages by itself; {SLOWER}"
        yield _judged("ring / pinned", share, "", share >= LEAST_RING, wanted, remedy)


def yardstick(config: TensorRtEngine, bundle: Bundle, shape: Shape) -> tuple[str, Callable[[], float]]:
    """Give, for `bench`, the precision and a function that measures the rate of the slowest of the bare steps."""
    gpu, library, folder = find(config.device), tensorrt.library(), plan_folder(Path(config.plans))
    precision = precisions(config, bundle)[0]
    wanted = wanted_plan(library, gpu, folder, bundle, precision, shape)
    plan, _ = proven_plan(wanted, bundle, gpu, config.build_timeout_s, None)
    load = loader(library, {shape: plan}, gpu, folder, bundle)
    results = score_layout(shape, len(bundle.manifest.classes), bundle.manifest.stride)
    return precision, lambda: bare(gpu, load, shape, results, REPEATED).limit_hz


def _engine_figures(
    config: TensorRtEngine, bundle: Bundle, shape: Shape, idle_s: float, gpu: Gpu, library: tensorrt.Library,
    folder: Path,
) -> Iterator[Figure]:  # fmt: skip
    """Figures of plan, first inference, and then the pipeline, in each precision that the bundle has."""
    for precision in (bundle.gpu_floats[0], *(["int8"] if bundle.int8_usable else [])):
        wanted = wanted_plan(library, gpu, folder, bundle, precision, shape)
        began_s = time.perf_counter()
        plan, _ = proven_plan(wanted, bundle, gpu, config.build_timeout_s, None)
        yield _measured(f"{precision}: plan built and proven", time.perf_counter() - began_s, "s")
        began_s = time.perf_counter()
        ring = create(SLOTS, shape, "doctor")
        backend = open_plans(library, {shape: plan}, gpu, folder, bundle, [ring])
        yield _measured(f"{precision}: plan opened as by a start", time.perf_counter() - began_s, "s")
        try:
            yield _agreement(precision, prove(backend, 0, bundle, plan), bundle)
            empty = folder / "nothing compiled yet"
            load = loader(library, {shape: plan}, gpu, empty, bundle)
            for figure in pipeline_figures(backend, ring, bundle, load, gpu, idle_s):
                yield msgspec.structs.replace(figure, check=f"{precision}: {figure.check}")
        finally:
            backend.close()


def _agreement(precision: str, difference: int, bundle: Bundle) -> Figure:
    allowed = bundle.allowed_difference(precision)
    check, wanted = f"{precision}: differs from the CPU", f"{allowed}/255 or less"
    if difference <= allowed:
        return Figure(check, "ok", f"{difference}/255", difference, "1/255", wanted)
    remedy = f"do not inspect with it: export the bundle again, or {ON_THE_CPU}"
    return Figure(check, "fail", f"{difference}/255", difference, "1/255", wanted, remedy)


def pipeline_figures(
    backend: GpuBackend, ring: Ring, bundle: Bundle, load: Callable[[Shape], Network], gpu: Gpu, idle_s: float
) -> Iterator[Figure]:
    """Figures of latency one at a time, after idling, and throughput, against the three steps alone."""
    results = score_layout(ring.shape, len(bundle.manifest.classes), bundle.manifest.stride)
    limits = bare(gpu, load, ring.shape, results, REPEATED)
    names = "plan loaded", "first inference", "copy in alone", "compute alone", "copy out alone"
    for name, took_ms in zip(names, limits, strict=True):
        yield _measured(name, took_ms, "ms")
    times_ms = [_one_ms(backend, n) for n in range(FRAMES)]
    yield from _latencies(times_ms, limits)
    median = statistics.median(times_ms)
    slowly_s, idle = [share * idle_s for share in GAPS], f"{idle_s:g} s of idling"
    for what, gaps_s in (("parts now and then", slowly_s), (idle, [idle_s] * IDLE_FRAMES)):
        worst = max(_after_ms(backend, gap_s) for gap_s in gaps_s)
        good = worst <= SPREAD * median
        yield _judged(f"latency, worst, after {what}", worst, "ms", good, f"{SPREAD} x the median", CLOCKS)
    rate = _throughput_hz(backend)
    yield _measured("throughput", rate, "frames/s")
    share, check = rate / limits.limit_hz, "share of the slowest step's rate"
    if ring.shape.height * ring.shape.width < LEAST_PIXELS:
        yield _measured(f"{check}, below 0.5 MPixel", share, "")
    else:
        yield _judged(check, share, "", share >= LEAST_SHARE, f"{LEAST_SHARE} or more", BUSY)


def _after_ms(backend: GpuBackend, gap_s: float) -> float:
    """Latency in ms of a frame after so long without one."""
    time.sleep(gap_s)
    return _one_ms(backend, 0)


def _latencies(times_ms: list[float], limits: Bare) -> Iterator[Figure]:
    median, p99 = statistics.median(times_ms), float(np.quantile(times_ms, 0.99))
    most = limits.latency_ms + GRACE_MS
    wanted = f"{most:.3f} ms or less: the three steps + {GRACE_MS}"
    yield _judged("latency, median", median, "ms", median <= most, wanted, BUSY)
    yield _judged("latency, p99", p99, "ms", p99 <= SPREAD * median, f"{SPREAD} x the median", BUSY)
    yield _measured("latency, worst", max(times_ms), "ms")


def _frame(n: int) -> Frame:
    frame = Frame(0, n, n, 0, 0, 0)
    frame.slot = n % SLOTS
    return frame


def _one_ms(backend: GpuBackend, n: int) -> float:
    """Milliseconds from the submission of a frame to its scores, as the engine thread has them."""
    began_s = time.perf_counter()
    backend.submit(_frame(n))
    backend.wait()
    return (time.perf_counter() - began_s) * 1e3


def _throughput_hz(backend: GpuBackend) -> float:
    """Frames per second with the backend always full."""
    began_s, number, flying = time.perf_counter(), 0, 0
    while time.perf_counter() - began_s < THROUGHPUT_S or flying:
        while flying < backend.depth and time.perf_counter() - began_s < THROUGHPUT_S:
            backend.submit(_frame(number))
            number, flying = number + 1, flying + 1
        flying -= backend.wait()
    return number / (time.perf_counter() - began_s)

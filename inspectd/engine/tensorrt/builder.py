"""The child process that builds a plan and proves it: it may take minutes, crash or hang, the daemon may not.

It reads a Request from stdin and answers with JSON lines on stdout: Step while it builds, at the end one Done or
Refused. It holds a lock beside the plan, so of two daemons that want the same plan one builds and the other waits.
"""

import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from inspectd.engine.bundle import Bundle, golden_difference, load_bundle
from inspectd.engine.tensorrt import api as tensorrt
from inspectd.engine.tensorrt.plans import (
    PlanFile,
    PlanFileError,
    PlanKey,
    proof_picture,
    read_plan,
    shows_defects,
    write_plan,
)
from inspectd.runtime.errors import BundleError, UserError
from inspectd.runtime.ring import create
from inspectd.runtime.slots import Shape
from inspectd.settings.engine import OpenVinoEngine

PR_SET_PDEATHSIG = 1
STEP_S = 0.5
"""Shortest time between two reports of a step, in seconds."""


class Request(msgspec.Struct, frozen=True):
    """What shall be built, and on which GPU it shall be proven; with `gpu` None it is only built."""

    bundle: str
    key: PlanKey
    path: str
    gpu: int | None


class Step(msgspec.Struct, frozen=True, tag=True):
    """Report of how far the builder is."""

    phase: str
    step: int
    steps: int


class Done(msgspec.Struct, frozen=True, tag=True):
    """Last answer: the plan is there."""

    plan_sha256: str
    built: bool
    """Whether this process built the plan; False if somebody else had."""
    difference: int | None
    """Difference of the GPU from the CPU on the proof picture, in 1/255; None if the plan was not proven."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Last answer: the plan can't be built or proven; with `final`, trying again won't help."""

    reason: str
    final: bool


Answer = Step | Done | Refused
Report = Callable[[Answer], None]


def main() -> None:
    """Entry point of `python -m inspectd.engine.tensorrt.builder`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody waits for an orphan
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever NVIDIA's libraries print is no answer
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    def report(answer: Answer) -> None:
        answers.write(msgspec.json.encode(answer) + b"\n")

    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        with _lock(request):
            report(_do(request, report))
    except (tensorrt.PlanError, UserError) as error:
        report(Refused(str(error), isinstance(error, (tensorrt.GraphError, BundleError))))
    except OSError as error:
        report(Refused(f"{Path(request.path).parent}: {error.strerror}", final=False))
    os._exit(0)  # the last word is said: a tidy way out can take long with a driver in the process


@contextmanager
def _lock(request: Request) -> Iterator[None]:
    """Hold a lock beside the plan, one process at a time; its death releases it. The folder may be read-only."""
    path = Path(request.path)
    try:
        fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    except OSError:
        if not path.exists():
            raise
        yield
        return
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield
    os.close(fd)


def _do(request: Request, report: Report) -> Done:
    path, bundle, library = Path(request.path), load_bundle(Path(request.bundle)), tensorrt.library()
    for left in path.parent.glob(f"{path.stem}*.part"):  # left by a builder that was killed while it wrote
        left.unlink(missing_ok=True)
    try:
        plan, built = read_plan(path, request.key), False
    except PlanFileError:
        with _current(request, library):
            plan, built = _build(request.key, bundle, library, report), True
        write_plan(path, plan)
    difference = None
    if request.gpu is not None:
        report(Step("proving it on the GPU", 1, 1))
        difference = _prove(request.gpu, bundle, library, plan, path.parent)
    return Done(plan.sha256, built, difference)


@contextmanager
def _current(request: Request, library: tensorrt.Library) -> Iterator[None]:
    """Make the wanted GPU the current one, on which TensorRT builds; TensorRT-RTX needs none."""
    if library.rtx or request.gpu is None:
        yield
        return
    from inspectd.engine.tensorrt import cuda  # pycuda: not where plans are built without a GPU

    context = cuda.Context(cuda.find(request.gpu))
    try:
        with context:
            yield
    finally:
        context.release()


def _build(key: PlanKey, bundle: Bundle, library: tensorrt.Library, report: Report) -> PlanFile:
    from inspectd.engine.openvino import Segmenter, thread_count  # the daemon's process need not load it

    last_s = 0.0

    def progress(phase: str, step: int, steps: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= STEP_S:
            last_s = time.monotonic()
            report(Step(phase, step, steps))

    shape = Shape(*key.shape)
    graph = bundle.graphs[key.precision]
    data = tensorrt.build(library, graph, key.network_name, shape, key.target, progress)
    report(Step("computing the proof picture on the CPU", 1, 1))
    cpu = Segmenter(bundle, thread_count(OpenVinoEngine()), "f32")
    for golden in bundle.golden:
        difference = golden_difference(golden, *cpu.segment(golden.image), "f32")
        if difference > bundle.allowed_difference("f32"):
            raise BundleError(
                f"{golden.name}: the CPU's scores differ by {difference}/255; export the bundle again"
            )
    scores, _ = cpu.segment(proof_picture(bundle, shape))
    if not shows_defects(bundle, scores):
        raise tensorrt.GraphError(
            f"no golden image shows a defect that can be seen in {shape.width}x{shape.height} px, so nothing "
            "could prove it; export the bundle again"
        )
    return PlanFile(key, data, scores)


def _prove(index: int, bundle: Bundle, library: tensorrt.Library, plan: PlanFile, folder: Path) -> int:
    from inspectd.engine.tensorrt.cuda import find  # pycuda: not where plans are only built
    from inspectd.engine.tensorrt.proof import open_plans, prove

    shape = Shape(*plan.key.shape)
    backend = open_plans(library, {shape: plan}, find(index), folder, bundle, [create(1, shape, "proof")])
    difference = prove(backend, 0, bundle, plan)
    backend.close()
    return difference


if __name__ == "__main__":
    main()

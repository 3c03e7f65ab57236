"""`python -m tests.engine.standin.daemon run -c config.toml`: the daemon with the network of the tests instead of
TensorRT, on whatever driver this process finds: the stand-in, or a real one.
"""

from collections.abc import Sequence

from inspectd.__main__ import main
from inspectd.config import TensorRtEngine
from inspectd.engine import cuda, start
from inspectd.engine.backend import results_of
from inspectd.engine.bundle import Bundle
from inspectd.engine.gpu import GpuBackend
from inspectd.handoff import Handoff
from inspectd.ring import Ring, Shape
from tests.engine.standin import Darkness


def open_darkness(
    config: TensorRtEngine, bundle: Bundle, rings: Sequence[Ring], wake: Handoff[str] | None = None
) -> GpuBackend:
    classes, stride = len(bundle.manifest.classes), bundle.manifest.stride

    def load(shape: Shape) -> Darkness:
        return Darkness(cuda.call, shape, results_of(shape, classes, stride))

    gpu = cuda.find(config.device)
    return GpuBackend(gpu, load, rings, classes, stride, f"stand-in engine, {gpu.name}")


if __name__ == "__main__":
    start.open_gpu = open_darkness
    main()

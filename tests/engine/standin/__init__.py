"""Stand-ins where there is no GPU, or none that TensorRT supports; see `standin.c` and `darkness.cu`.

`library` builds the stand-in `libcuda.so.1` and loads it into this process, for the real pycuda. `Darkness` is a
network made of two kernels: it runs on the stand-in, and from `darkness.ptx` on a real GPU.
"""

import atexit
import ctypes
import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspectd.engine.backend import ScoreLayout
from inspectd.engine.tensorrt.api import Library
from inspectd.runtime.slots import Shape

HERE = Path(__file__).parent
KINDS = ("device", "pinned", "registered", "streams", "events", "graphs", "execs", "contexts")
THREADS = 256


@functools.cache
def folder() -> Path:
    """The folder with the stand-in; skips the test where it can't be built."""
    spec = importlib.util.find_spec("pycuda")
    if spec is None or spec.origin is None:
        pytest.skip("there is no pycuda: `make venv` builds it, and says why it can't")
    if shutil.which("gcc") is None or shutil.which("nm") is None:
        pytest.skip("there is no compiler for the stand-in libcuda")
    (driver,) = Path(spec.origin).parent.glob("_driver*.so")
    made = Path(tempfile.mkdtemp(prefix="inspectd-standin-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    own = (HERE / "standin.c").read_text()
    symbols = subprocess.run(["nm", "-D", str(driver)], capture_output=True, text=True, check=True).stdout
    wanted = {line.split()[-1] for line in symbols.splitlines() if " U cu" in line}
    rest = "".join(f"int {name}(void) {{ return 801; }}\n" for name in sorted(wanted) if f" {name}(" not in own)
    (made / "rest.c").write_text(rest)  # what pycuda links with and nobody calls: CUDA_ERROR_NOT_SUPPORTED
    command = ["gcc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    command += ["-o", str(made / "libcuda.so.1"), str(HERE / "standin.c"), str(made / "rest.c"), "-lpthread"]
    subprocess.run(command, check=True)
    return made


class StandIn:
    """What tests may ask of the stand-in driver and do to it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.standin_live.restype = library.standin_calls.restype = ctypes.c_long
        library.standin_memory.argtypes = [ctypes.c_size_t]

    def live(self) -> dict[str, int]:
        """What is not given back, by kind."""
        counts = {kind: self._library.standin_live(i) for i, kind in enumerate(KINDS)}
        return {kind: count for kind, count in counts.items() if count}

    def calls(self, name: str) -> int:
        """How often a function was called."""
        return int(self._library.standin_calls(name.encode()))

    def fail(self, name: str, nth: int, code: int) -> None:
        """The n-th call of a function from now on fails; 700, 719 and 999 stay, -1 never returns."""
        self._library.standin_fail(name.encode(), nth, code)

    def eager(self) -> None:
        """Work is done when it is queued, no longer when it is waited for."""
        self._library.standin_eager(1)

    def memory(self, size: int) -> None:
        """So much memory the GPU has."""
        self._library.standin_memory(size)

    def devices(self, count: int) -> None:
        """So many GPUs there are."""
        self._library.standin_devices(count)

    def forget(self) -> None:
        """What was on a lost GPU is no leak."""
        self._library.standin_forget()

    def recover(self) -> None:
        """As new, but for what was not given back."""
        self._library.standin_recover()


def is_standin(library: ctypes.CDLL) -> bool:
    """Whether this is not NVIDIA's."""
    return hasattr(library, "standin_live")


@functools.cache
def library() -> StandIn:
    """The stand-in, loaded before pycuda looks for the driver; skips where a real driver is."""
    try:
        real = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return StandIn(ctypes.CDLL(str(folder() / "libcuda.so.1"), ctypes.RTLD_GLOBAL))
    if is_standin(real):
        return StandIn(real)
    pytest.skip("there is a real NVIDIA driver: `make test-gpu` runs the pipeline on it")


class Darkness:
    """The network of `tests/bundles.py` as CUDA kernels; no TensorRT."""

    device_bytes = 0

    def __init__(
        self, call: Callable[..., None], shape: Shape, results: ScoreLayout, scratch_bytes: int = 0
    ) -> None:
        self._call, self.scratch_bytes, self.warm = call, scratch_bytes, 0
        self._numbers = [ctypes.c_int(n) for n in (*shape, results.scores[0])]
        self._cells = results.scores[1] * results.scores[2]
        module = ctypes.c_void_p()
        call("cuModuleLoadData", ctypes.byref(module), (HERE / "darkness.ptx").read_bytes())
        self._functions = [ctypes.c_void_p(), ctypes.c_void_p()]
        for function, name in zip(self._functions, (b"darkness", b"peaks"), strict=True):
            call("cuModuleGetFunction", ctypes.byref(function), module, name)

    def use_scratch(self, address: int) -> None:
        self.scratch = address

    def enqueue(self, image: int, scores: int, peak: int, stream: int) -> None:
        values: list[Any] = [ctypes.c_uint64(address) for address in (image, scores, peak)]
        values += self._numbers
        arguments = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        classes = self._numbers[-1].value
        for function, blocks in zip(self._functions, (-(-self._cells // THREADS), classes), strict=True):
            self._call(
                "cuLaunchKernel",
                function,
                blocks,
                1,
                1,
                THREADS,
                1,
                1,
                0,
                ctypes.c_void_p(stream),
                arguments,
                None,
            )

    def warmed(self) -> None:
        self.warm += 1


class Planned(Darkness):
    """In the place of `TensorRtNetwork` on the stand-in driver: reads the plan's name and computes by itself."""

    def __init__(
        self, library: Library, plan: bytes, name: str, shape: Shape, results: ScoreLayout, cache: bytes,
        keep: Callable[[bytes], None],
    ) -> None:  # fmt: skip
        from inspectd.engine.tensorrt import cuda

        assert name.encode() in plan
        super().__init__(cuda.call, shape, results, scratch_bytes=4096)
        self._keep, self.learned = keep, cache

    def warmed(self) -> None:
        self._keep(self.learned or b"compiled")


def environment(**more: str) -> dict[str, str]:
    """Of a process that shall run on the stand-in driver and network."""
    site = HERE / "site"
    return {**os.environ, "LD_LIBRARY_PATH": str(folder()), "PYTHONPATH": str(site), **more}

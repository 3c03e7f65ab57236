"""CUDA in a dozen functions: pycuda, and by ctypes on the same handles what pycuda lacks or does wrong.

One thread owns everything: it makes the Context (of the primary context, which TensorRT uses too), and pycuda's
objects are made and freed nowhere else. A thread may queue work and wait for it after `enter`. Every fault is a
CudaError that names the call and CUDA's own word for it. Such an error stays: a context can't be repaired.
"""

import ctypes
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inspectd.engine.backend import Gpu
from inspectd.runtime.errors import ON_THE_CPU, DeviceError, UnavailableError

os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as `nvidia-smi -L` counts, not the fastest first
try:
    import pycuda.driver as driver
except ModuleNotFoundError as error:
    raise UnavailableError(
        f"the GPU engine needs the package {error.name}: install inspectd[gpu] or inspectd[rtx] (docs/gpu.md), "
        f"or {ON_THE_CPU}"
    ) from None
except ImportError as error:  # pycuda is there, libcuda.so.1 is not, or lacks something
    raise UnavailableError(
        f"there is no usable NVIDIA driver ({error}): install one and look whether `nvidia-smi` lists the GPU, "
        f"or {ON_THE_CPU}"
    ) from None

U8 = npt.NDArray[np.uint8]
REMEDY = f"look whether `nvidia-smi` lists it, or {ON_THE_CPU}"
DRIVER_VERSION = Path("/sys/module/nvidia/version")
OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
CODES = range(1, 1000)
PORTABLE = 1  # CU_MEMHOSTREGISTER_PORTABLE
CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do does not spoil the capture
_cuda = ctypes.CDLL("libcuda.so.1")  # the one that pycuda has loaded


class CudaError(DeviceError):
    """A call of CUDA that failed; `name` is CUDA's word for it, such as CUDA_ERROR_ILLEGAL_ADDRESS."""

    def __init__(self, call: str, name: str, text: str) -> None:
        self.name = name
        super().__init__(f"{name} in {call}: {text}; `dmesg` and `inspectd doctor gpu` may tell why")


def find(index: int) -> Gpu:
    """Describe a GPU before it is used; raises UnavailableError if there is no such GPU."""
    try:
        driver.init()
        count = driver.Device.count()
    except driver.Error as error:
        raise UnavailableError(f"the NVIDIA driver finds no GPU ({error}): {REMEDY}") from None
    if index >= count:
        raise UnavailableError(f"there is no GPU {index}, the NVIDIA driver finds {count}: {REMEDY}")
    with translated():
        device = driver.Device(index)
        number, (major, minor) = driver.get_driver_version(), device.compute_capability()
        version = f"CUDA {number // 1000}.{number % 1000 // 10}"
        with suppress(OSError):  # only CUDA's version is given where the kernel's module can't be asked
            version = f"{DRIVER_VERSION.read_text('ascii').strip()}, {version}"
        return Gpu(index, device.name(), f"sm{major}{minor}", version, device.pci_bus_id(), device.total_memory())


class Context:
    """A GPU's primary context, held from the making to `release`.

    pycuda's objects are made and freed inside `with`, in the thread that made the context.

    Not longer: pycuda ends the process (abort) if a thread ends while its context stack is not empty.
    """

    def __init__(self, gpu: Gpu) -> None:
        _keep(gpu.number)
        with translated():
            self._held = driver.Device(gpu.number).retain_primary_context()
        self.handle = int(self._held.handle)

    def __enter__(self) -> None:
        with translated():
            self._held.push()

    def __exit__(self, *_: object) -> None:
        with suppress(driver.Error):  # fails on a lost GPU
            driver.Context.pop()

    def release(self) -> None:
        """Let go of the context in this thread; the context itself stays, see `_keep`."""
        with suppress(driver.Error):
            self._held.detach()


@functools.cache
def _keep(number: int) -> None:
    """Keep the primary context as long as the process lives: libraries remember what they made in it."""
    call("cuDevicePrimaryCtxRetain", ctypes.byref(ctypes.c_void_p()), number)


def enter(handle: int) -> None:
    """Make a context current in this thread, so that it may queue work and wait for it."""
    call("cuCtxSetCurrent", ctypes.c_void_p(handle))  # pycuda's push allows only the thread that made it


@contextmanager
def translated() -> Iterator[None]:
    """Turn pycuda's exceptions into CudaError."""
    try:
        yield
    except driver.Error as error:
        routine, _, text = str(error).partition(" failed: ")
        raise CudaError(routine, _names().get(text.partition(" - ")[0], "CUDA_ERROR"), text) from None


def call(name: str, *arguments: Any) -> None:
    """Call a function of the driver by ctypes; raises CudaError."""
    if code := getattr(_cuda, name)(*arguments):
        raise CudaError(name, _word("cuGetErrorName", code), _word("cuGetErrorString", code))


def _word(function: str, code: int) -> str:
    word = ctypes.c_char_p()
    getattr(_cuda, function)(code, ctypes.byref(word))
    return word.value.decode() if word.value else f"error {code}"


@functools.cache
def _names() -> dict[str, str]:
    """CUDA's names for its errors by their sentences: pycuda gives only the sentence."""
    return {_word("cuGetErrorString", code): _word("cuGetErrorName", code) for code in CODES}


def memory_free() -> int:
    """Bytes of GPU memory that are free."""
    with translated():
        return int(driver.mem_get_info()[0])


def allocate(size: int) -> Any:
    """Allocate GPU memory; `int()` of it is its address, `.free()` gives it back."""
    with translated():
        return driver.mem_alloc(size)


def pinned(shape: tuple[int, ...]) -> U8:
    """Allocate host memory uint8 that the GPU writes by itself; freed with its last view, in the owner thread."""
    with translated():
        return np.asarray(driver.pagelocked_empty(shape, np.uint8))


def register(pages: U8) -> None:
    """Page-lock memory that is there, so that the GPU reads it without the CPU."""
    # Not pycuda's register_host_memory: it crashes with NumPy 2 (inducer/pycuda#459).
    call("cuMemHostRegister_v2", ctypes.c_void_p(pages.ctypes.data), ctypes.c_size_t(pages.nbytes), PORTABLE)


def unregister(pages: U8) -> None:
    """Undo `register`."""
    call("cuMemHostUnregister", ctypes.c_void_p(pages.ctypes.data))


def stream() -> Any:
    """Make a stream: a queue of work of its own."""
    with translated():
        return driver.Stream(1)  # CU_STREAM_NON_BLOCKING: nobody's default stream waits for it


def event(timing: bool = False) -> Any:
    """Make an event: a mark in a queue; whoever waits for it sleeps."""
    flags = driver.event_flags
    with translated():
        return driver.Event(flags.BLOCKING_SYNC | (0 if timing else flags.DISABLE_TIMING))


def copy_in(address: int, source: U8, stream: Any) -> None:
    """Queue a copy from host memory to the GPU."""
    driver.memcpy_htod_async(address, source, stream)


def copy_out(target: U8, address: int, stream: Any) -> None:
    """Queue a copy from the GPU to host memory."""
    driver.memcpy_dtoh_async(target, address, stream)


class CudaGraph:
    """Work of one stream, recorded once and launched by one call. By ctypes, as pycuda has no graphs."""

    def __init__(self, stream: Any, record: Callable[[], None]) -> None:
        graph, self._launchable = ctypes.c_void_p(), ctypes.c_void_p()
        call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream.handle), CAPTURE_THREAD_LOCAL)
        try:
            try:
                record()
            finally:
                call("cuStreamEndCapture", ctypes.c_void_p(stream.handle), ctypes.byref(graph))
            call("cuGraphInstantiateWithFlags", ctypes.byref(self._launchable), graph, ctypes.c_ulonglong(0))
        finally:
            if graph:
                call("cuGraphDestroy", graph)
        self._handle = ctypes.c_void_p(stream.handle)

    def launch(self) -> None:
        """Queue the work once more, in the same stream."""
        call("cuGraphLaunch", self._launchable, self._handle)

    def free(self) -> None:
        """Give the graph back."""
        call("cuGraphExecDestroy", self._launchable)

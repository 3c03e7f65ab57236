"""The pipeline on a GPU; the kernels of tests/engine/standin/darkness.cu stand in for TensorRT's network."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import structlog

from inspectd.engine.backend import score_layout
from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.runtime.ring import Ring, create
from inspectd.runtime.slots import Shape
from tests.bundles import STRIDE, darkness, write_bundle
from tests.engine.standin import Darkness
from tests.engine.tensorrt.test_gpu import CLASSES, finish, picture, right
from tests.gpu import REHEARSED
from tests.makers import frame

pytestmark = [pytest.mark.gpu, pytest.mark.alone]
SHAPES = Shape(64, 96, 3), Shape(1025, 1283, 1), Shape(64, 96, 3)
BIG = Shape(64, 96, 1) if REHEARSED else Shape(2048, 2448, 1)
SLOTS, FRAMES = 6, 60 if REHEARSED else 600
IDLE_S = 0.3 if REHEARSED else 10.0
WRITE = """
import mmap, sys
pages = mmap.mmap(int(sys.argv[1]), 0)
pages[4096 : 4096 + int(sys.argv[2])] = b"\\x07" * int(sys.argv[2])
"""


def opened(card: Any, rings: list[Ring], classes: int = CLASSES) -> Any:
    from inspectd.engine.tensorrt import cuda
    from inspectd.engine.tensorrt.gpu import GpuBackend

    def load(shape: Shape) -> Darkness:
        return Darkness(cuda.call, shape, score_layout(shape, classes, STRIDE))

    return GpuBackend(card, load, rings, classes, STRIDE, "stand-in engine")


@pytest.fixture
def rings() -> Iterator[list[Ring]]:
    made = [create(SLOTS, shape, "test") for shape in SHAPES]
    yield made
    for ring in made:
        os.close(ring.fd)


def test_the_gpu_reads_what_another_process_writes_into_a_sealed_ring(card: Any) -> None:
    """The design rests on it: the camera process fills the very pages that the GPU reads."""
    ring = create(1, Shape(64, 64, 1), "test")
    with structlog.testing.capture_logs() as lines:
        backend = opened(card, [ring], 1)
    assert lines == []  # none that it can't be page-locked
    subprocess.run([sys.executable, "-c", WRITE, str(ring.fd), "4096"], check=True, pass_fds=[ring.fd])
    one = frame(1, slot=0)
    backend.submit(one)
    finish(backend, 1)
    assert set(backend.scores(one)[0].ravel().tolist()) == {255 - 7}
    backend.close()
    os.close(ring.fd)


def test_each_frame_gets_its_own_scores(card: Any, rings: list[Ring]) -> None:
    backend = opened(card, rings)
    images = {
        (camera, slot): picture(SHAPES[camera], 10 * camera + slot) for camera in range(3) for slot in range(6)
    }
    for (camera, slot), image in images.items():
        rings[camera].images[slot][...] = image
    for start in range(0, FRAMES, backend.depth):
        group = [frame(n, n % 3, slot=n // 3 % SLOTS) for n in range(start, start + backend.depth)]
        for one in group:
            backend.submit(one)
        done = finish(backend, len(group))
        assert done == group and not any(one.failure for one in done)
        if start % 30 == 0:
            assert all(right(backend, one, images[one.camera, one.slot]) for one in group)
    backend.close()


def test_a_slot_may_be_filled_anew_as_soon_as_its_frame_is_done(card: Any, rings: list[Ring]) -> None:
    backend = opened(card, rings)
    flying: list[tuple[Any, np.ndarray]] = []
    for number in range(FRAMES):
        sent = frame(number, 0, slot=number % 4)
        image = picture(SHAPES[0], number)
        rings[0].images[sent.slot][...] = image
        flying.append((sent, image))
        backend.submit(sent)
        if len(flying) == backend.depth:
            for one in finish(backend, 1):
                first, wanted = flying.pop(0)
                assert one is first and right(backend, one, wanted)
                rings[0].images[one.slot][...] = 0
    finish(backend, len(flying))
    backend.close()


def test_the_pipeline_gets_what_the_gpu_can_give(card: Any, shown: Any, tmp_path: Any) -> None:
    """Figures of 5 MPixel, with the stand-in engine: what is around the network, not the network."""
    from inspectd.doctor.gpu import machine_figures, pipeline_figures
    from inspectd.engine.tensorrt import cuda

    bundle: Bundle = load_bundle(write_bundle(tmp_path / "toy", channels=1))
    ring = create(8, BIG, "test")
    for slot, image in enumerate(ring.images):
        image[...] = picture(BIG, slot)
    backend = opened(card, [ring], 1)

    def load(shape: Shape) -> Darkness:
        return Darkness(cuda.call, shape, score_layout(shape, 1, STRIDE))

    for figure in (*machine_figures(card), *pipeline_figures(backend, ring, bundle, load, card, IDLE_S)):
        shown(
            f"{figure.check}: {figure.found}" + (f"  ({figure.status}: {figure.wanted})" if figure.wanted else "")
        )
    assert backend.fault is None
    backend.close()
    os.close(ring.fd)


BREAK = """
import ctypes, sys
from inspectd.engine.tensorrt import cuda
from tests.engine.standin import Darkness
from tests.gpu.test_pipeline import opened
from tests.makers import frame
from tests.engine.tensorrt.test_gpu import finish
from inspectd.runtime.errors import DeviceError
from inspectd.runtime.ring import Shape, create

ring = create(4, Shape(64, 64, 1), "test")
backend = opened(cuda.find(0), [ring], 1)
for buffers in backend._all:  # from now on the network writes to an address that is none
    buffers.graph, buffers.addresses = None, (buffers.addresses[0], 4096, 8192)
sent = [frame(n, slot=n) for n in range(3)]
begun = []
for one in sent:
    try:
        backend.submit(one)
        begun.append(one)
    except DeviceError:
        break
done = finish(backend, len(begun))
assert done == begun and all("CUDA_ERROR_ILLEGAL_ADDRESS" in one.failure for one in done)
try:
    backend.submit(frame(9, slot=0))
except DeviceError as error:
    print(error)
backend.close()
"""


def test_an_illegal_address_ends_every_frame_in_flight_and_the_process_cleanly(card: Any) -> None:
    done = subprocess.run([sys.executable, "-c", BREAK], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in done.stdout


def test_an_idle_gpu_computes_now_and_then_and_the_next_frame_is_right(card: Any, rings: list[Ring]) -> None:
    backend = opened(card, rings)
    rings[0].images[0][...] = picture(SHAPES[0], 1)
    time.sleep(1)
    one = frame(1, slot=0)
    backend.submit(one)
    finish(backend, 1)
    assert np.array_equal(backend.scores(one)[0], darkness(rings[0].images[0], CLASSES))
    backend.close()

"""The GPU's pipeline: the real pycuda on the stand-in driver, whose work happens only when it is waited for."""

import contextlib
import os
import resource
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from inspectd.engine.backend import ScoreLayout, score_layout
from inspectd.runtime.errors import DeviceError, UnavailableError
from inspectd.runtime.frame import Frame
from inspectd.runtime.ring import Ring, create
from inspectd.runtime.slots import Shape
from tests.bundles import STRIDE, darkness
from tests.engine import standin
from tests.engine.standin import Darkness, StandIn
from tests.makers import examples, frame

if TYPE_CHECKING:
    from inspectd.engine.tensorrt.gpu import GpuBackend

SHAPES = Shape(64, 96, 3), Shape(65, 67, 3), Shape(64, 96, 3)
CLASSES, SLOTS = 2, 6
FATAL = [700, 719, 999]
PER_FRAME = ["cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuEventRecord", "cuStreamWaitEvent", "cuGraphLaunch"]


@pytest.fixture
def driver() -> Iterator[StandIn]:
    made = standin.library()
    made.recover()
    from inspectd.engine.tensorrt import cuda

    cuda._keep(0)  # the process holds the primary context for good
    before = made.live()
    yield made
    made.recover()
    assert made.live() == before  # nothing leaks, whatever the test did


@pytest.fixture
def rings() -> Iterator[list[Ring]]:
    made = [create(SLOTS, shape, "test") for shape in SHAPES]
    for camera, ring in enumerate(made):
        for slot, image in enumerate(ring.images):
            image[...] = picture(ring.shape, 100 * camera + slot)
    yield made
    for ring in made:
        os.close(ring.fd)


def picture(shape: Shape, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def open_backend(rings: list[Ring], networks: list[Darkness] | None = None, scratch: int = 512) -> "GpuBackend":
    from inspectd.engine.tensorrt import cuda
    from inspectd.engine.tensorrt.gpu import GpuBackend

    def load(shape: Shape) -> Darkness:
        made = Darkness(cuda.call, shape, score_layout(shape, CLASSES, STRIDE), scratch)
        if networks is not None:
            networks.append(made)
        return made

    return GpuBackend(cuda.find(0), load, rings, CLASSES, STRIDE, "stand-in")


@contextlib.contextmanager
def backend_for(rings: list[Ring]) -> "Iterator[GpuBackend]":
    made = open_backend(rings)
    try:
        yield made
    finally:
        made.close()


def finish(backend: "GpuBackend", count: int) -> list[Frame]:
    """Wait for `count` completions or more, on the descriptor as the engine thread does."""
    done: list[Frame] = []
    until = time.monotonic() + 10
    while len(done) < count and time.monotonic() < until:
        select.select([backend.completed], [], [], 1)
        for one in backend.completed.drain():
            backend.finish(one)
            done.append(one)
    assert len(done) >= count
    return done


def test_it_is_waited_for_beyond_a_thousand_descriptors(driver: StandIn, rings: list[Ring]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with backend_for(rings) as backend:
            assert backend.completed.fileno() >= 1024
            image = picture(SHAPES[0], 3)
            assert np.array_equal(backend.segment(0, image)[0], darkness(image, CLASSES))
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def right(backend: "GpuBackend", one: Frame, image: np.ndarray) -> bool:
    scores, peak = backend.scores(one)
    wanted = darkness(image, CLASSES)
    return np.array_equal(scores, wanted) and peak.tolist() == wanted.max(axis=(1, 2)).tolist()


def test_the_stand_in_does_nothing_before_it_is_waited_for(driver: StandIn) -> None:
    """Else it would hide who looks too early."""
    from inspectd.engine.tensorrt import cuda

    context = cuda.Context(cuda.find(0))
    with context:
        stream, memory, host = cuda.stream(), cuda.allocate(4096), cuda.pinned((4096,))
        host[...] = 1
        cuda.copy_in(int(memory), host, stream)
        host[...] = 2  # too early: the copy has not happened
        back = cuda.pinned((4096,))
        back[...] = 3
        cuda.copy_out(back, int(memory), stream)
        assert back[0] == 3
        stream.synchronize()
        assert back[0] == 2
        memory.free()
        del stream, host, back
    context.release()


@pytest.mark.parametrize("eager", [False, True])
def test_each_frame_gets_its_own_scores(driver: StandIn, rings: list[Ring], eager: bool) -> None:
    if eager:
        driver.eager()
    with backend_for(rings) as backend:
        assert (backend.depth, backend.description, backend.fault) == (3, "stand-in", None)
        frames = [frame(n, n % 3, slot=n // 3 % SLOTS) for n in range(3 * SLOTS)]
        for start in range(0, len(frames), 3):
            group = frames[start : start + 3]
            for one in group:
                backend.submit(one)
            assert finish(backend, 3) == group  # in the order of their start
        for one in frames:  # all of them, after all inferences: each slot has its own memory for scores
            assert right(backend, one, rings[one.camera].images[one.slot]) and one.failure == ""


@examples(25)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), max_size=40), st.booleans())
def test_any_order_of_frames_and_waits(choices: list[tuple[bool, int]], eager: bool) -> None:
    """Slots are filled anew as soon as their frame has come back, as a camera does."""
    driver = standin.library()
    driver.recover()
    made = [create(SLOTS, shape, "test") for shape in SHAPES]
    if eager:
        driver.eager()
    with backend_for(made) as backend:
        flying: list[tuple[Frame, np.ndarray]] = []
        for number, (wait, camera) in enumerate(choices):
            if flying and (wait or len(flying) == backend.depth):
                for one in finish(backend, 1):
                    first, image = flying.pop(0)
                    assert one is first and right(backend, one, image)
                    made[one.camera].images[one.slot][...] = 0
            sent = frame(number, camera, slot=number % SLOTS)
            image = made[camera].images[sent.slot]
            image[...] = picture(SHAPES[camera], number)
            flying.append((sent, image.copy()))
            backend.submit(sent)
        finish(backend, len(flying))
    for ring in made:
        os.close(ring.fd)


def test_after_the_opening_nothing_is_allocated_and_nothing_waits_for_all(
    driver: StandIn, rings: list[Ring]
) -> None:
    never = ["cuMemAlloc_v2", "cuMemHostAlloc", "cuMemHostRegister_v2", "cuEventCreate", "cuStreamCreate"]
    never += ["cuStreamSynchronize", "cuCtxSynchronize", "cuGraphInstantiateWithFlags", "cuLaunchKernel"]
    with backend_for(rings) as backend:
        before = {name: driver.calls(name) for name in (*never, "cuGraphLaunch", "cuEventSynchronize")}
        for number in range(12):
            backend.submit(frame(number, 0, slot=number % SLOTS))
            finish(backend, 1)
        after = {name: driver.calls(name) for name in before}
    assert {name: after[name] for name in never} == {name: before[name] for name in never}
    assert after["cuGraphLaunch"] - before["cuGraphLaunch"] >= 12
    assert after["cuEventSynchronize"] - before["cuEventSynchronize"] >= 12


def test_one_graph_per_set_of_buffers_and_shared_scratch(driver: StandIn, rings: list[Ring]) -> None:
    before, networks = driver.live(), list[Darkness]()
    backend = open_backend(rings, networks)
    assert len(networks) == 2  # two shapes
    assert len({network.scratch for network in networks}) == 1
    assert [network.warm for network in networks] == [1, 1]
    live = driver.live()
    assert live["execs"] - before.get("execs", 0) == 6
    assert live["registered"] - before.get("registered", 0) == 3
    backend.close()


def test_an_idle_gpu_is_kept_warm_and_frames_go_on(
    driver: StandIn, rings: list[Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspectd.engine.tensorrt import gpu

    monkeypatch.setattr(gpu, "KEEP_WARM_S", 0.01)
    with backend_for(rings) as backend:
        before = driver.calls("cuGraphLaunch")
        until(lambda: driver.calls("cuGraphLaunch") > before + 5)
        for number in range(SLOTS):
            one = frame(number, 1, slot=number)
            backend.submit(one)
            finish(backend, 1)
            assert right(backend, one, rings[1].images[number])
            time.sleep(0.015)


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_the_engine_thread_may_be_another_than_the_one_that_opened(driver: StandIn, rings: list[Ring]) -> None:
    with backend_for(rings) as backend:
        one = frame(1, 0, slot=2)
        thread = threading.Thread(target=backend.submit, args=(one,))
        thread.start()
        thread.join()
        finish(backend, 1)
        assert right(backend, one, rings[0].images[2])


@pytest.mark.parametrize("code", FATAL)
@pytest.mark.parametrize("name", PER_FRAME)
def test_a_fault_while_queueing_is_raised_and_stays(
    driver: StandIn, rings: list[Ring], name: str, code: int
) -> None:
    backend = open_backend(rings)
    first = frame(0, 0, slot=0)
    backend.submit(first)
    driver.fail(name, 1, code)
    with pytest.raises(DeviceError, match=f"CUDA_ERROR_.* in {name.removesuffix('_v2')}"):
        backend.submit(frame(1, 0, slot=1))
    assert backend.fault is not None
    with pytest.raises(DeviceError):
        backend.submit(frame(2, 0, slot=2))
    assert finish(backend, 1) == [first]  # what was in flight comes back: failed, or done just before
    assert "CUDA_ERROR_" in first.failure or right(backend, first, rings[0].images[0])
    gone(backend, driver)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_fault_while_waiting_fails_every_frame_in_flight(driver: StandIn, rings: list[Ring], nth: int) -> None:
    backend = open_backend(rings)
    driver.fail("cuEventSynchronize", nth, 700)
    frames = [frame(n, 0, slot=n) for n in range(3)]
    for one in frames:
        with contextlib.suppress(DeviceError):
            backend.submit(one)
    begun = [one for one in frames if one in backend._busy or one.failure]
    done = finish(backend, len(begun))
    assert done == begun
    failed = [one for one in done if one.failure]
    assert len(failed) >= 1 and failed == done[-len(failed) :]
    assert all("CUDA_ERROR_ILLEGAL_ADDRESS" in one.failure for one in failed)
    assert all(right(backend, one, rings[0].images[one.slot]) for one in done if not one.failure)
    gone(backend, driver)


def gone(backend: "GpuBackend", driver: StandIn) -> None:
    """Close a backend whose GPU is lost: nothing hangs, and the context is let go; the rest goes with it."""
    backend.close()
    driver.recover()
    driver.forget()


def test_a_gpu_that_fails_while_idle_is_noticed(
    driver: StandIn, rings: list[Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspectd.engine.tensorrt import gpu

    monkeypatch.setattr(gpu, "KEEP_WARM_S", 0.01)
    backend = open_backend(rings)
    driver.fail("cuGraphLaunch", 1, 719)
    until(lambda: backend.fault is not None)
    assert "CUDA_ERROR_LAUNCH_FAILED" in str(backend.fault)
    with pytest.raises(DeviceError):
        backend.submit(frame(1, 0, slot=0))
    gone(backend, driver)


def test_a_gpu_that_never_answers_is_lost_too(
    driver: StandIn, rings: list[Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspectd.engine.tensorrt import gpu

    monkeypatch.setattr(gpu, "HANG_S", 0.3)
    monkeypatch.setattr(gpu, "LOST_S", 0.1)
    backend = open_backend(rings)
    time.sleep(0.5)
    assert backend.fault is None  # idle is no hang
    driver.fail("cuEventSynchronize", 1, -1)
    backend.submit(frame(1, 0, slot=0))
    until(lambda: backend.fault is not None)
    assert "has finished nothing for 0.3 s" in str(backend.fault)
    with pytest.raises(DeviceError):
        backend.submit(frame(2, 0, slot=1))
    gone(backend, driver)


def test_a_gpu_that_hangs_while_idle_or_is_waited_for_is_lost_too(
    driver: StandIn, rings: list[Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspectd.engine.tensorrt import gpu

    for name, value in (("HANG_S", 0.3), ("LOST_S", 0.1), ("KEEP_WARM_S", 0.01)):
        monkeypatch.setattr(gpu, name, value)
    idle = open_backend(rings)
    driver.fail("cuEventSynchronize", 1, -1)
    until(lambda: idle.fault is not None)
    monkeypatch.setattr(gpu, "KEEP_WARM_S", 60)
    waited = open_backend(rings[:1])
    driver.fail("cuEventSynchronize", 1, -1)
    with pytest.raises(DeviceError, match="has finished nothing"):
        waited.segment(0, picture(SHAPES[0], 1))
    for backend in (idle, waited):
        backend.close()
    driver.recover()
    driver.forget()


def test_an_answer_that_waits_is_no_hang(
    driver: StandIn, rings: list[Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine thread was not run for long, as on a paused computer."""
    from inspectd.engine.tensorrt import gpu

    monkeypatch.setattr(gpu, "HANG_S", 0.2)
    with backend_for(rings) as backend:
        backend.submit(frame(1, 0, slot=0))
        until(lambda: len(backend.completed) == 1)
        time.sleep(0.4)
        finish(backend, 1)
        assert backend.fault is None


def test_out_of_memory_at_the_opening_says_how_much_is_needed_and_free(driver: StandIn, rings: list[Ring]) -> None:
    driver.memory(5 << 20)
    with pytest.raises(UnavailableError) as caught:
        open_backend(rings, scratch=20 << 20)
    said = str(caught.value)
    assert "this line needs 20 MiB, 5 of 5 MiB are free now" in said and "nvidia-smi" in said


@pytest.mark.parametrize(
    "name", ["cuMemAlloc_v2", "cuStreamCreate", "cuEventCreate", "cuGraphInstantiateWithFlags"]
)
def test_an_opening_that_fails_leaves_nothing_behind(driver: StandIn, rings: list[Ring], name: str) -> None:
    """A fault that does not stay: the GPU can still be used, by the next precision or the next size."""
    refused = 0
    for nth in (1, 2, 3, 5, 7):
        driver.fail(name, nth, 801)
        try:
            open_backend(rings).close()
        except (DeviceError, UnavailableError):
            refused += 1
    assert refused or name == "cuGraphInstantiateWithFlags"  # without a graph it goes on
    driver.recover()
    open_backend(rings).close()


def test_memory_that_can_not_be_page_locked_is_of_this_computer(driver: StandIn, rings: list[Ring]) -> None:
    driver.fail("cuMemHostAlloc", 2, 2)
    with pytest.raises(UnavailableError, match="this computer has no 4 KiB of memory that can be page-locked"):
        open_backend(rings)


def test_a_network_that_refuses_to_be_captured_goes_on_without_a_graph(
    driver: StandIn, rings: list[Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT may say no by its return value, the capture being fine for the driver."""
    calls = 0
    enqueue = Darkness.enqueue

    def moody(self: Darkness, *addresses: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise DeviceError("not in a capture")
        enqueue(self, *addresses)

    monkeypatch.setattr(Darkness, "enqueue", moody)
    with structlog.testing.capture_logs() as lines, backend_for(rings) as backend:
        assert [line["reason"] for line in lines] == ["not in a capture"]
        image = picture(SHAPES[0], 3)
        assert np.array_equal(backend.segment(0, image)[0], darkness(image, CLASSES))


def test_without_cuda_graphs_it_goes_on_and_says_so(driver: StandIn, rings: list[Ring]) -> None:
    for name, code in (("cuStreamBeginCapture_v2", 801), ("cuStreamEndCapture", 901)):
        driver.fail(name, 1, code)
        with structlog.testing.capture_logs() as lines, backend_for(rings) as backend:
            assert [line["log_level"] for line in lines] == ["warning"] and "no CUDA graph" in lines[0]["event"]
            frames = [frame(n, 0, slot=n) for n in range(3)]
            for one in frames:
                backend.submit(one)
            finish(backend, 3)
            assert all(right(backend, one, rings[0].images[one.slot]) for one in frames)


def test_where_a_ring_cannot_be_page_locked_it_goes_on_and_says_so(driver: StandIn, rings: list[Ring]) -> None:
    driver.fail("cuMemHostRegister_v2", 2, 801)
    with structlog.testing.capture_logs() as lines, backend_for(rings) as backend:
        assert [line["log_level"] for line in lines] == ["warning"] and "page-locked" in lines[0]["event"]
        one = frame(1, 1, slot=4)
        backend.submit(one)
        finish(backend, 1)
        assert right(backend, one, rings[1].images[4])


def test_an_opening_that_fails_half_way_is_an_exception_here(driver: StandIn, rings: list[Ring]) -> None:
    for name in ("cuStreamCreate", "cuMemAlloc_v2", "cuMemHostAlloc", "cuStreamSynchronize", "cuEventCreate"):
        driver.fail(name, 1, 700)
        with pytest.raises(DeviceError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
            open_backend(rings)
        driver.recover()
        driver.forget()


def test_one_picture_by_way_of_the_ring(driver: StandIn, rings: list[Ring]) -> None:
    with backend_for(rings) as backend:
        image = picture(SHAPES[1], 7)
        scores, peak = backend.segment(1, image)
        before = scores.copy()
        backend.segment(1, 255 - image)
        assert np.array_equal(scores, before)  # a copy
        assert (
            np.array_equal(scores, darkness(image, CLASSES)) and peak.tolist() == scores.max(axis=(1, 2)).tolist()
        )


def test_the_daemon_reckons_with_as_many_frames_as_the_backend_takes() -> None:
    from inspectd.engine import in_flight, openvino
    from inspectd.engine.tensorrt.gpu import DEPTH
    from inspectd.settings.engine import OpenVinoEngine, TensorRtEngine

    assert in_flight(TensorRtEngine()) == DEPTH
    assert in_flight(OpenVinoEngine()) == openvino.DEPTH


def test_results_lie_in_one_memory_without_overlap() -> None:
    results = ScoreLayout((3, 7, 11))
    memory = np.zeros(results.nbytes, np.uint8)
    scores, peak = results.views(memory)
    scores[...], peak[...] = 1, 2
    assert (memory == 1).sum() == 3 * 7 * 11 and (memory == 2).sum() == 3
    assert results.peak_at % 256 == 0

"""`inspectd bench acquire`: from the trigger to the frame in the ring, and frames per second into it.

The real camera process on a simulated camera; what reads the frames here gives each slot straight back.
"""

import select
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from inspectd.acquire.protocol import Job
from inspectd.acquire.simcam import sim
from inspectd.acquire.simcam.world import Rig, camera_path, producer
from inspectd.acquire.source import Source
from inspectd.acquire.supervisor import spawn
from inspectd.bench.countdown import Countdown
from inspectd.runtime.books import Ledger
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Ended, Frame
from inspectd.runtime.image_files import write_png
from inspectd.runtime.ring import create
from inspectd.runtime.slots import Shape
from inspectd.settings.camera import SimCamera

SLOTS = 8
TRIGGERS, TRIGGER_S = 300, 0.02
EXPOSURE_US = 20.0
RATE_HZ, RATE_S = 500.0, 6.0
START_S = 30.0


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from the trigger on the camera's line to the frame in the ring."""

    width: int
    height: int
    frames: int
    exposure_ms: float
    """Exposure time of the camera in ms, which is part of every figure."""
    p50_ms: float
    p99_ms: float
    max_ms: float


class Rate(msgspec.Struct, frozen=True):
    """Frames per second into the ring."""

    width: int
    height: int
    asked_hz: float
    reached_hz: float
    frames: int
    missing: int
    """Number of triggers without a frame, whatever the reason."""


def bench_acquire(json: bool) -> None:
    """Print both measurements."""
    if producer() is None:
        raise UserError("simcam was not built: install inspectd with a C compiler, then this can be measured")
    countdown = Countdown(2)
    for measure, what in ((_latency, "from trigger to ring, 2448x2048"), (_rate, "frames per second, 640x480")):
        countdown.begin(what)
        result = measure()
        print(msgspec.json.encode(result).decode() if json else _text(result), flush=True)


def _text(result: Latency | Rate) -> str:
    size = f"{result.width}x{result.height} mono"
    if isinstance(result, Latency):
        return (
            f"{size}: trigger -> frame in the ring p50 {result.p50_ms:.3f} ms, p99 {result.p99_ms:.3f}, max "
            f"{result.max_ms:.3f}, {result.exposure_ms:.2f} ms of it exposure ({result.frames} frames)"
        )
    return f"{size}: {result.reached_hz:.1f} of {result.asked_hz:.0f} frames/s, {result.missing} missing"


def _latency() -> Latency:
    """Measure the latency with 5 MPixel and a trigger every 20 ms."""
    with _camera(2448, 2048, "line") as (source, rig):
        took_ms = []
        for _ in range(TRIGGERS):
            began_ns = now_ns()
            rig.pulse()
            frame = _next_frame(source, 1.0)
            if frame is None:
                raise UserError("a trigger brought no frame within 1 s: is the machine too busy? Run it again")
            took_ms.append((frame.ring_ns - began_ns) / 1e6)
            source.give_back(frame.slot)
            time.sleep(TRIGGER_S)
    return Latency(
        2448, 2048, len(took_ms), EXPOSURE_US / 1e3, round(statistics.median(took_ms), 4),
        round(float(np.percentile(took_ms, 99)), 4), round(max(took_ms), 4),
    )  # fmt: skip


def _rate() -> Rate:
    """Measure the rate with 0.3 MPixel in free run."""
    with _camera(640, 480, "free_run") as (source, _):
        frames = missing = began_ns = newest_ns = 0
        while not began_ns or newest_ns - began_ns < RATE_S * 1e9:
            for item in _read(source, 1.0):
                if isinstance(item, Frame):
                    source.give_back(item.slot)
                    frames, newest_ns = frames + 1, item.ring_ns
                    began_ns = began_ns or newest_ns
                else:
                    missing += 1
    return Rate(640, 480, RATE_HZ, round((frames - 1) * 1e9 / (newest_ns - began_ns), 2), frames, missing)


@contextmanager
def _camera(width: int, height: int, trigger: Literal["line", "free_run"]) -> Iterator[tuple[Source, Rig]]:
    with tempfile.TemporaryDirectory(prefix="inspectd-") as folder:
        rng = np.random.default_rng(0)
        for index in range(4):
            write_png(Path(folder) / f"{index}.png", rng.integers(0, 255, (height, width), np.uint8))
        config = SimCamera(
            name="bench", width=width, height=height, folder=folder, part_id="counter", trigger=trigger,
            acquisition_frame_rate_hz=RATE_HZ if trigger == "free_run" else None,
        )  # fmt: skip
        ring = create(SLOTS, Shape(height, width, 1), "bench")
        job = Job(config, folder, {"ExposureTime": EXPOSURE_US}, (0, 0, width, height), 1, SLOTS, state_dir=folder)
        source = Source(0, job, ring, Ledger(1), int(60e9), 0)
        process, sock = spawn(source, 2)
        source.attach(sock)
        try:
            _until(source, lambda: source.state != "dead")
            with Rig(camera_path(sim.sim_folder(Path(folder)), "bench")) as rig:
                yield source, rig
        finally:
            process.kill()
            process.wait()


def _until(source: Source, holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + START_S
    while not holds():
        if time.monotonic() > end_s:
            raise UserError(f"the simulated camera does not stream: {source.detail}")
        for item in _read(source, 0.1):
            if isinstance(item, Frame):
                source.give_back(item.slot)


def _read(source: Source, timeout_s: float) -> Iterator[object]:
    if source.fileno() < 0:
        raise UserError(f"the simulated camera's process ended: {source.detail}")
    poll = select.poll()
    poll.register(source.fileno(), select.POLLIN)
    poll.poll(timeout_s * 1e3)
    yield from source.read()


def _next_frame(source: Source, timeout_s: float) -> Frame | None:
    end_s = time.monotonic() + timeout_s
    while (left_s := end_s - time.monotonic()) > 0:
        for item in _read(source, left_s):
            if isinstance(item, Frame):
                return item
            assert isinstance(item, Ended)
            raise UserError(f"a trigger brought no frame: {item.judgement.reason} {item.judgement.detail}")
    return None

"""`inspectd bench throughput`: frames in the ring -> results out, against the bare engine, in one run.

Both sides get the same pictures in the same ring slots, the same graph, precision, threads and requests in
flight. The daemon's side is the real pipeline (engine, judge, journal, ZeroMQ) with a subscriber in another
process; only the camera is left out: a slot that comes back is at once a new frame.
"""

import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import assert_never

import msgspec
import numpy as np

from inspectd.bench.countdown import Countdown
from inspectd.bench.counter import Counter
from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.engine.openvino import DEPTH, Segmenter, open_segmenter, precision_of, thread_count
from inspectd.pipeline import STAGES, build
from inspectd.publish.control import make_link
from inspectd.publish.journal.writer import Journal, boot_id
from inspectd.runtime.books import Ledger, Losses
from inspectd.runtime.clock import ClockView, now_ns, utc_of
from inspectd.runtime.errors import ConfigError
from inspectd.runtime.frame import Ended, Frame
from inspectd.runtime.image_files import U8, image_files, read_image
from inspectd.runtime.progress import Progress
from inspectd.runtime.ring import Ring, create
from inspectd.runtime.slots import Shape
from inspectd.settings.camera import FolderCamera, SimCamera
from inspectd.settings.config import Settings
from inspectd.settings.engine import EngineConfig, OpenVinoEngine, TensorRtEngine
from inspectd.settings.publish import Publish
from inspectd.steer.backends import Backends
from inspectd.steer.setup import open_setup

SLOTS = 8
WARM_UP_S = 0.5
DEADLINE_MS = 60_000.0


class Ratio(msgspec.Struct, frozen=True):
    """Figures of one picture size: medians over the rounds, rates in frames per second."""

    width: int
    height: int
    precision: str
    threads: int
    bare_hz: float
    daemon_hz: float
    ratio: float
    ratios: list[float]
    received: int
    """Number of results that the subscriber in the other process got."""
    missing: int


class RingSource:
    """A stand-in for the camera: every slot holds a picture, and is a new frame as soon as it is given back."""

    name, state, detail, newest_ns, process_starts = "bench", "streaming", "frames in the ring", 0, 0
    losses, clock = Losses(), ClockView()
    due_ns = None

    def __init__(self, ring: Ring, ledger: Ledger) -> None:
        self.finished = False
        self.shape = ring.shape
        self._ledger = ledger
        self._ready = deque(range(ring.count))
        self._wake = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._number = 0

    def overdue(self) -> Iterator[Ended]:
        """Nothing: it has no triggers."""
        yield from ()

    def fileno(self) -> int:
        """File descriptor that is readable when slots came back."""
        return self._wake

    def read(self) -> Iterator[Frame | Ended]:
        """Give a new frame for each slot that is free."""
        os.eventfd_read(self._wake)
        while self._ready and not self.finished:
            self._number += 1
            now = now_ns()
            frame = Frame(0, self._number, self._number, now, utc_of(now), now + int(DEADLINE_MS * 1e6))
            frame.slot, frame.ring_ns = self._ready.popleft(), now
            self._ledger.trigger(0, None)
            yield frame

    def give_back(self, slot: int) -> None:
        """Make the slot the next frame; its picture stays."""
        self._ready.append(slot)
        os.eventfd_write(self._wake, 1)

    @property
    def setups(self) -> Set[int]:
        """The only setup."""
        return {1}

    def switch(self, setup: int, deadline_ns: int, from_part_id: int) -> int:
        """Never called: there is one setup."""
        raise NotImplementedError

    def stop(self) -> None:
        """Give no new frames from now on."""
        self.finished = True
        os.eventfd_write(self._wake, 1)


def bench_throughput(settings: Settings, seconds: float, rounds: int, json: bool) -> None:
    """Print one line per picture size: the camera's own, and a mosaic of 2 x 2 pictures."""
    camera = settings.config.camera[0]
    if not isinstance(camera, FolderCamera | SimCamera):
        raise ConfigError("bench takes its pictures from the first camera: that must be one of kind sim or folder")
    bundle = load_bundle(settings.recipe.model_dir)
    pictures = _pictures(settings.base / camera.folder, bundle)
    countdown = Countdown(2 * rounds)
    for images in (pictures, [_mosaic(pictures, i) for i in range(SLOTS)]):
        result = _measure(settings, bundle, images, seconds, rounds, countdown)
        print(msgspec.json.encode(result).decode() if json else _text(result), flush=True)


def _text(result: Ratio) -> str:
    megapixel = result.width * result.height / 1e6
    return (
        f"{result.width}x{result.height} ({megapixel:.2f} MPixel), {result.precision}, "
        f"{result.threads} engine thread(s): bare engine {result.bare_hz:.1f} Hz, "
        f"frames in the ring -> results out {result.daemon_hz:.1f} Hz, ratio {result.ratio:.3f} "
        f"(rounds {', '.join(f'{r:.3f}' for r in result.ratios)}); "
        f"subscriber received {result.received}, missing {result.missing}"
    )


def _pictures(folder: Path, bundle: Bundle) -> list[U8]:
    """Read the first pictures of the folder that have the first one's shape."""
    images: list[U8] = []
    for path in image_files(folder) if folder.is_dir() else []:
        try:
            image = read_image(path)
        except ValueError:
            continue
        if image.shape[2] == bundle.manifest.channels and image.shape == (images or [image])[0].shape:
            images.append(image)
    if not images:
        raise ConfigError(f"{folder}: holds no image with {bundle.manifest.channels} channels")
    return [images[i % len(images)] for i in range(max(len(images), 4))]


def _mosaic(pictures: list[U8], i: int) -> U8:
    a, b, c, d = (pictures[(i + k) % len(pictures)] for k in range(4))
    return np.vstack([np.hstack([a, b]), np.hstack([c, d])])


def _measure(
    settings: Settings, bundle: Bundle, images: list[U8], seconds: float, rounds: int, countdown: Countdown
) -> Ratio:
    shape = Shape(*images[0].shape)
    ring = create(SLOTS, shape, "bench")
    for slot in range(SLOTS):
        ring.images[slot][...] = images[slot % len(images)]
    precision, threads, bare_hz = _yardstick(settings.config.engine, bundle, ring, seconds)
    bare, daemon, received, missing = [], [], 0, 0
    for number in range(1, rounds + 1):
        countdown.begin(f"{shape.width}x{shape.height}, round {number}: the bare engine, then the daemon")
        bare.append(bare_hz())
        rate, got, lost = _daemon_hz(settings, bundle, ring, seconds)
        daemon.append(rate)
        received, missing = received + got, missing + lost
    ratios = [round(d / b, 4) for d, b in zip(daemon, bare, strict=True)]
    return Ratio(
        shape.width, shape.height, precision, threads,
        round(statistics.median(bare), 2), round(statistics.median(daemon), 2),
        round(statistics.median(ratios), 4), ratios, received, missing,
    )  # fmt: skip


def _yardstick(
    engine: EngineConfig, bundle: Bundle, ring: Ring, seconds: float
) -> tuple[str, int, Callable[[], float]]:
    """Precision and threads of the bare engine, and the function that measures its rate."""
    match engine:
        case OpenVinoEngine():
            segmenter = open_segmenter(bundle, thread_count(engine), engine.precision)
            precision = precision_of(segmenter.compile(ring.shape))
            return precision, segmenter.threads, lambda: _bare_hz(segmenter, ring, seconds)
        case TensorRtEngine():
            from inspectd.doctor.gpu import yardstick

            precision, limit_hz = yardstick(engine, bundle, ring.shape)
            return precision, 1, limit_hz
        case _:
            assert_never(engine)


def _bare_hz(segmenter: Segmenter, ring: Ring, seconds: float) -> float:
    """Measure OpenVINO's own queue over the ring's pictures, with nothing else around it."""
    import openvino as ov  # not before engine/openvino.py, which silences its telemetry

    queue = ov.AsyncInferQueue(segmenter.compile(ring.shape), DEPTH)
    tensors = [ov.Tensor(image[None], shared_memory=True) for image in ring.images]

    def run(for_s: float) -> float:
        start, frames = time.perf_counter(), 0
        while time.perf_counter() - start < for_s:
            queue.start_async({"image": tensors[frames % SLOTS]}, share_inputs=True)
            frames += 1
        queue.wait_all()
        return frames / (time.perf_counter() - start)

    run(WARM_UP_S)
    return run(seconds)


def _daemon_hz(settings: Settings, bundle: Bundle, ring: Ring, seconds: float) -> tuple[float, int, int]:
    """Measure the rate of results out of the real pipeline, and what a subscriber received and missed."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.state_dir) as folder:
        endpoint = f"ipc://{folder}/results"
        publish = Publish(results=endpoint, images=f"{folder}/images")
        camera = msgspec.structs.replace(
            settings.config.camera[0], width=ring.shape.width, height=ring.shape.height
        )
        recipe = msgspec.structs.replace(settings.recipe.recipe, camera={})
        config = msgspec.structs.replace(settings.config, publish=publish, camera=[camera])
        loaded = settings.recipe._replace(recipe=recipe)
        settings = settings._replace(config=config, recipe=loaded, recipes=(loaded,))
        ledger, journal = Ledger(1), Journal(Path(folder) / "journal", config.journal, boot_id())
        source = RingSource(ring, ledger)
        state = lambda: ("Halted" if source.finished else "ContinuousExecution", "bench")  # noqa: E731
        backends = Backends()
        setup = open_setup(settings, bundle, [ring], backends)
        pipeline = build(
            config, setup.for_stages, [source], [ring], journal, ledger, Progress(STAGES), state, source.stop,
            make_link(), backends.retire, backends.close,
        )  # fmt: skip
        subscriber = Counter(endpoint)
        for stage in pipeline.stages:
            stage.start()
        try:
            subscriber.wait_until_it_hears()
            time.sleep(WARM_UP_S)
            start, before = time.perf_counter(), pipeline.publisher.published
            time.sleep(seconds)
            rate = (pipeline.publisher.published - before) / (time.perf_counter() - start)
        finally:  # an interrupted bench, too, ends its threads: the engine's would crash on the way out
            source.stop()
            for stage in pipeline.stages:
                stage.join()
            journal.close()
        for stage in pipeline.stages:
            if stage.error is not None:
                raise stage.error
        return rate, *subscriber.result()

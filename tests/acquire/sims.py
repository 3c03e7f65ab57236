"""Simulated GenICam cameras for tests: simcam's producer, and the real harvesters on top."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from inspectd.acquire.camera import Gap
from inspectd.acquire.genicam.genicam import Genicam
from inspectd.acquire.protocol import Job, Triggered
from inspectd.acquire.simcam import sim, world
from inspectd.runtime.books import Losses
from inspectd.runtime.image_files import U8, write_png
from inspectd.settings.camera import SimCamera

needs_simcam = pytest.mark.skipif(world.producer() is None, reason="simcam was not built (no C compiler)")
WIDTH, HEIGHT = 96, 64


def picture(index: int, channels: int = 1) -> U8:
    """Image `index`: grey level 10 * (index + 1), its index in the first pixel."""
    image = np.full((HEIGHT, WIDTH, channels), 10 * (index + 1) % 256, np.uint8)
    image[0, 0] = index
    return image


class Sim:
    """One simulated camera of `images` pictures, and the Genicam object on it."""

    def __init__(
        self, folder: Path, images: int = 5, channels: int = 1, timestamps: str = "ns", **config: object
    ) -> None:
        self.folder, self.channels = folder, channels
        pictures = folder / "pictures"
        pictures.mkdir(exist_ok=True)
        for i in range(images):
            write_png(pictures / f"{i:03}.png", picture(i, channels))
        files = sorted(pictures.iterdir())
        world.make_camera(folder, "cam", files, (HEIGHT, WIDTH, channels), "SIM-cam", timestamps)
        settings = {"trigger": "line", "part_id": "counter"} | config
        self.config = SimCamera(name="cam", width=WIDTH, height=HEIGHT, folder="pictures", **settings)  # type: ignore[arg-type]
        self.rig = world.Rig(world.camera_path(folder, "cam"))
        self.losses = Losses()
        self.told: list[Triggered] = []

    def job(self, **changes: object) -> Job:
        rect = 0, 0, WIDTH, HEIGHT
        return Job(self.config, str(self.folder), {}, rect, self.channels, 4, **changes)  # type: ignore[arg-type]

    def camera(self, **changes: object) -> Genicam:
        """Not yet open; the producer looks for its cameras in the folder that the environment names."""
        producer = world.producer()
        assert producer is not None
        config = sim.as_genicam(self.config, producer)
        return Genicam(config, self.job(**changes), self.folder, self.told.append, self.losses)

    def close(self) -> None:
        self.rig.close()


@contextmanager
def running(sim: Sim, **changes: object) -> Iterator[Genicam]:
    """The camera, acquiring."""
    camera = sim.camera(**changes)
    try:
        camera.open()
        camera.start()
        yield camera
    finally:
        camera.close()


def take(camera: Genicam, timeout_s: float = 2.0) -> tuple[int, int | str]:
    """The next frame's count, and the index that its picture shows or what is wrong with it; or a gap."""
    found = None
    for _ in range(int(timeout_s / 0.05)):
        if (found := camera.wait(0.05)) is not None:
            break
    if isinstance(found, Gap):
        return found.frame_id, "gap"
    assert found is not None, "nothing came"
    if found.reason is not None:
        camera.read(None)
        return found.frame_id, found.detail
    image = np.zeros((HEIGHT, WIDTH, camera._job.channels), np.uint8)
    trouble = camera.read(image)
    return found.frame_id, trouble or int(image[0, 0, 0])

"""Images of a folder as a camera."""

import itertools
import mmap
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspectd.acquire import open_camera
from inspectd.acquire.camera import EndOfImagesError
from inspectd.acquire.folder import BUFFERS, Folder
from inspectd.acquire.protocol import Job
from inspectd.acquire.survey import Opening, ask
from inspectd.runtime.books import Losses
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import CameraError
from inspectd.runtime.image_files import write_png
from inspectd.settings.camera import FolderCamera

Make = Callable[..., Folder]


class Counter:
    """Somebody else's trigger counter."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8))
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), 8)

    def set(self, value: int) -> None:
        struct.pack_into("=Q", self._map, 0, value)

    def close(self) -> None:
        self._map.close()
        self._file.close()


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    made = Counter(tmp_path / "line0")
    yield made
    made.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A folder camera whose image n is of grey level 10 n."""
    opened: list[Folder] = []

    def made(
        images: int = 3, rect: tuple[int, int, int, int] = (0, 0, 70, 64), born_ns: int = 0, **config: Any
    ) -> Folder:
        folder = tmp_path / "parts"
        folder.mkdir(exist_ok=True)
        for n in range(1, images + 1):
            write_png(folder / f"{n}.png", np.full((64, 70, 1), 10 * n, np.uint8))
        camera = FolderCamera(name="top", width=70, height=64, folder="parts", **config)
        job = Job(camera, str(tmp_path), {}, rect, 1, 8, born_ns)
        opened.append(Folder(camera, job, tmp_path))
        return opened[-1]

    yield made
    for camera in opened:
        camera.close()


def level(camera: Folder) -> int:
    """Grey level of the exposure that `wait` has just told of."""
    image = np.zeros((64, 70, 1), np.uint8)
    assert camera.read(image) == ""
    assert image.min() == image.max()
    return int(image[0, 0, 0])


def test_images_come_in_name_order_for_ever(make: Make, counter: Counter) -> None:
    camera = make(trigger_counter="line0")
    camera.open()
    assert camera.device == "folder parts"
    assert camera.start().counted == 0
    for n in range(1, 8):
        looked = now_ns()
        assert camera.wait(0) is None
        counter.set(n)
        exposure = camera.wait(1)
        assert exposure is not None
        assert exposure.frame_id == n
        assert looked <= exposure.trigger_ns <= now_ns()
        assert level(camera) == 10 * ((n - 1) % 3 + 1)


def test_without_a_trigger_there_is_no_exposure(make: Make, counter: Counter) -> None:
    camera = make(trigger_counter="line0")
    camera.open()
    camera.start()
    began = time.monotonic()
    assert camera.wait(0.05) is None
    assert time.monotonic() - began >= 0.05


def test_triggers_counted_before_the_start_are_told(make: Make, counter: Counter) -> None:
    counter.set(41)
    camera = make(trigger_counter="line0")
    camera.open()
    assert camera.start().counted == 41
    counter.set(42)
    exposure = camera.wait(1)
    assert exposure is not None
    assert exposure.frame_id == 42
    assert level(camera) == 30


def test_of_too_many_waiting_exposures_the_newest_are_kept(make: Make, counter: Counter) -> None:
    camera = make(trigger_counter="line0")
    camera.open()
    camera.start()
    counter.set(100)
    ids = [exposure.frame_id for exposure in iter(lambda: camera.wait(0), None)]
    assert ids == list(range(100 - BUFFERS + 1, 101))


def test_a_part_never_seems_fresher_than_it_is(make: Make, counter: Counter) -> None:
    """The process slept while the triggers came: they are taken for as old as the last look without them."""
    camera = make(trigger_counter="line0")
    camera.open()
    camera.start()
    assert camera.wait(0) is None
    looked = now_ns()
    counter.set(2)
    time.sleep(0.05)
    for n in (1, 2):
        exposure = camera.wait(1)
        assert exposure is not None
        assert (exposure.frame_id, exposure.trigger_ns <= looked) == (n, True)


def test_the_rate_goes_on_while_the_process_is_dead(make: Make) -> None:
    camera = make(born_ns=now_ns() - 20_000_000, acquisition_frame_rate_hz=1000)
    camera.open()
    counted, born_ns, *_ = camera.start()
    assert counted is not None
    assert born_ns == camera._job.born_ns
    assert counted >= 20
    exposures = [camera.wait(1) for _ in range(5)]
    ids = [exposure.frame_id for exposure in exposures if exposure]
    assert len(ids) == 5
    assert ids[0] > counted
    assert ids == sorted(set(ids))
    assert all(e is not None and e.trigger_ns == born_ns + e.frame_id * 1_000_000 for e in exposures)


def test_without_a_loop_every_image_comes_once(make: Make) -> None:
    camera = make(loop=False, acquisition_frame_rate_hz=10000)
    camera.open()
    first = camera.start().counted
    assert first == 0  # its clock begins with its first start
    levels = []
    with pytest.raises(EndOfImagesError):
        for n in itertools.count(1):
            exposure = camera.wait(1)
            assert exposure is not None
            assert exposure.frame_id == first + n
            levels.append(level(camera))
    assert sorted(levels) == [10, 20, 30]


def test_after_stop_come_the_exposures_before_it_and_then_none(make: Make, counter: Counter) -> None:
    camera = make(trigger_counter="line0")
    camera.open()
    camera.start()
    counter.set(3)
    camera.stop()
    counter.set(9)
    ids = [exposure.frame_id for exposure in iter(lambda: camera.wait(1), None)]
    assert ids == [1, 2, 3]
    assert camera.wait(5) is None  # at once


def test_only_the_rectangle_goes_into_the_slot(make: Make, counter: Counter, tmp_path: Path) -> None:
    camera = make(images=0, rect=(3, 5, 64, 59), trigger_counter="line0")
    picture = np.random.default_rng(0).integers(0, 255, (64, 70, 1), np.uint8)
    write_png(tmp_path / "parts/1.png", picture)
    camera.open()
    camera.start()
    counter.set(1)
    assert camera.wait(1)
    image = np.zeros((59, 64, 1), np.uint8)
    assert camera.read(image) == ""
    assert np.array_equal(image, picture[5:64, 3:67])


def test_an_unusable_picture_says_why_and_the_next_one_comes(make: Make, counter: Counter, tmp_path: Path) -> None:
    camera = make(trigger_counter="line0")
    whole = (tmp_path / "parts/1.png").read_bytes()
    (tmp_path / "parts/1.png").write_bytes(whole[:-20])
    write_png(tmp_path / "parts/2.png", np.zeros((64, 71, 1), np.uint8))
    camera.open()
    camera.start()
    counter.set(3)
    image = np.zeros((64, 70, 1), np.uint8)
    said = []
    for _ in range(3):
        assert camera.wait(1)
        said.append(camera.read(image))
    assert said == [
        "1.png: is cut off or not what its name says",
        "2.png: is 71x64, the camera is configured for 70x64",
        "",
    ]


def test_a_dropped_exposure_touches_nothing(make: Make, counter: Counter) -> None:
    camera = make(trigger_counter="line0")
    camera.open()
    camera.start()
    counter.set(2)
    assert camera.wait(1)
    assert camera.read(None) == ""
    assert camera.wait(1)
    assert level(camera) == 20


def test_a_missing_folder_and_an_empty_one(make: Make, tmp_path: Path) -> None:
    camera = make(images=0)
    with pytest.raises(CameraError, match="holds no PNG, JPEG, BMP, TIFF or WebP image"):
        camera.open()
    (tmp_path / "parts").rmdir()
    with pytest.raises(CameraError, match=r"parts can't be read: No such file or directory"):
        camera.open()


@pytest.mark.parametrize("content", [None, b"", b"1234567"])
def test_a_trigger_counter_that_is_none(make: Make, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "line0").write_bytes(content)
    with pytest.raises(CameraError, match="line0 must be a file of 8 bytes"):
        make(trigger_counter="line0").open()


def test_open_camera_and_probe(make: Make, tmp_path: Path) -> None:
    job = make()._job
    assert isinstance(open_camera(job, lambda _: None, Losses()), Folder)
    assert isinstance(job.config, FolderCamera)
    assert ask(Opening(job)) == [{"device": "folder parts", "caveats": []}]
    assert ask(Opening(job, features=True)) == []

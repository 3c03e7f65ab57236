"""What a simulated camera delivers under a plan, read through harvesters: exactly what was asked for."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from inspectd.acquire.genicam.buffers import picture as picture_of
from inspectd.acquire.genicam.gentl import Session
from inspectd.acquire.protocol import Job
from inspectd.acquire.simcam.faults import Effect
from inspectd.acquire.simcam.sim import open_sim
from inspectd.acquire.simcam.world import FOLDER_VARIABLE, Rig, camera_path, make_camera, producer
from inspectd.runtime.books import Losses
from inspectd.runtime.errors import CameraError
from inspectd.runtime.image_files import write_png
from inspectd.settings.camera import SimCamera
from tests.acquire.sims import HEIGHT, WIDTH, needs_simcam, picture
from tests.makers import disk_for

pytestmark = needs_simcam
PICTURES, SIZE, TRIGGERS = 200, 64, 300
WRONG_ID = 2**64 - 1
PLANNED = [effect for effect in Effect if effect is not Effect.UNPLUGGED]
UNCERTAIN = Effect.SHORT | Effect.INCOMPLETE
"""Of these not the whole picture is there."""


class Shown(NamedTuple):
    """A delivered frame, as the host sees it."""

    frame_id: int
    """0 where it is not available."""
    counter: int | None
    picture: int | None
    """Index of the picture, by its lowest line; None: a part of it, or another one's below."""
    is_complete: bool


class Camera:
    """An open camera whose pictures have their index in every pixel."""

    def __init__(self, folder: Path) -> None:
        files = []
        for i in range(PICTURES):
            files.append(folder / f"{i:03}.png")
            write_png(files[-1], np.full((SIZE, SIZE, 1), i, np.uint8))
        make_camera(folder, "cam", files, (SIZE, SIZE, 1), "SIM-cam")
        self.rig = Rig(camera_path(folder, "cam"))
        found = producer()
        assert found is not None
        self.session = Session([found], {"serial": "SIM-cam"})
        for name, value in (("TriggerMode", "On"), ("TriggerSource", "Line0"), ("ChunkModeActive", True)):
            self.session.features.set(name, value)
        self.session.features.set("ExposureTime", 10.0)
        self.session.start(16)

    def take(self) -> Shown | None:
        """The next frame; None if none comes within half a second."""
        delivered = self.session.wait(0.5)
        if delivered is None:
            return None
        lines = delivered.raw.delivered_image_height
        picture = None
        if delivered.is_complete and lines == SIZE:
            _, width, height, data = picture_of(delivered.raw)
            seen = set(data[: width * height].tolist())
            assert len(seen) == 1
            (picture,) = seen
        has_chunks = delivered.raw.is_containing_chunk_data()
        counter = self.session.chunk(delivered, "ChunkCounterValue") if has_chunks else None
        shown = Shown(delivered.frame_id or 0, counter, picture, delivered.is_complete)
        self.session.requeue(delivered)
        return shown

    def close(self) -> None:
        self.session.close()
        self.rig.close()


@pytest.fixture
def camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Camera]:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    held = Camera(tmp_path)
    yield held
    held.close()


class Oracle:
    """What comes of each trigger, worked out from what was planned."""

    def __init__(self) -> None:
        self.frames = self.number = 0
        self.held: Shown | None = None

    def trigger(self, effects: Effect) -> list[Shown]:
        """The frames that are delivered by one more trigger, in order."""
        self.number += 1
        if Effect.MISSED in effects:
            return []
        delivered = []
        if Effect.STRAY_BEFORE in effects:
            delivered += self._send(self._stray(self.number - 1), Effect(0))
        self.frames += 1
        if Effect.DROPPED not in effects:
            delivered += self._send(self._own(effects), effects)
        if Effect.STRAY_AFTER in effects:
            delivered += self._send(self._stray(self.number), Effect(0))
        return delivered

    def _own(self, effects: Effect) -> Shown:
        frame_id = WRONG_ID if Effect.WRONG_ID in effects else self.frames
        picture = (self.number - 1 - (Effect.IDENTICAL in effects)) % PICTURES
        return Shown(
            0 if Effect.NO_ID in effects else frame_id,
            None if Effect.NO_CHUNKS in effects else self.number,
            None if effects & UNCERTAIN else picture,
            not effects & (Effect.INCOMPLETE | Effect.SHORT),
        )

    def _stray(self, counter: int) -> Shown:
        self.frames += 1
        return Shown(self.frames, counter, (self.number - 1 + (PICTURES // 2 | 1)) % PICTURES, True)

    def _send(self, frame: Shown, effects: Effect) -> list[Shown]:
        late, self.held = self.held, None
        delivered = []
        for _ in range(1 + (Effect.TWICE in effects)):
            if Effect.SWAPPED in effects and late is None and self.held is None:
                self.held = frame
            else:
                delivered.append(frame)
        return delivered + ([late] if late is not None else [])


def test_a_plan_is_kept_to_the_letter(camera: Camera) -> None:
    dice = random.Random(16)
    oracle = Oracle()
    camera.rig.faults.wrong_id = WRONG_ID
    for number in range(1, TRIGGERS + 1):
        effects = Effect(0)
        for effect in dice.sample(PLANNED, dice.choice((0, 0, 1, 1, 2, 3))):
            effects |= effect
        camera.rig.plan(number, effects)
        assert camera.rig.pulse() == number
        for wanted in oracle.trigger(effects):
            assert camera.take() == wanted, (number, effects)
    camera.session.features.execute("AcquisitionStop")
    assert [camera.take(), camera.take()] == [oracle.held, None]


def test_what_was_planned_is_over(camera: Camera) -> None:
    camera.rig.plan(2, Effect.DROPPED)
    camera.rig.heal()
    for number in (1, 2):
        camera.rig.pulse()
        assert camera.take() == Shown(number, number, number - 1, True)


def test_padded_lines_and_absent_ids_through_harvesters(camera: Camera) -> None:
    camera.session.halt()
    camera.rig.faults.pad_lines(8)
    camera.rig.faults.id_kind = 2
    camera.session.start(4)
    camera.rig.pulse()
    delivered = camera.session.wait(5.0)
    assert delivered is not None and delivered.frame_id is None and delivered.raw.padding_x == 8
    assert delivered.raw.size_filled >= (SIZE + 8) * SIZE
    camera.session.requeue(delivered)


def test_a_camera_that_finds_no_room_is_one_sentence_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    write_png(tmp_path / "pictures/0.png", picture(0))
    config = SimCamera(name="cam", width=WIDTH, height=HEIGHT, folder="pictures")
    job = Job(config, str(tmp_path), {}, (0, 0, WIDTH, HEIGHT), 1, 4, state_dir=str(tmp_path / "state"))
    with disk_for(1000), pytest.raises(CameraError, match=r"state/simcam: File too large; make room there"):
        open_sim(config, job, tmp_path, lambda _: None, Losses(), None)
    assert list((tmp_path / "state/simcam").iterdir()) == []

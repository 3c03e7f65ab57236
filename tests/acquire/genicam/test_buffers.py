"""What a buffer says of itself: whether it holds a whole picture, whose chunk data it carries."""

from collections.abc import Callable

import numpy as np
import pytest

from inspectd.acquire.camera import Exposure
from inspectd.acquire.genicam.genicam import Genicam
from inspectd.acquire.simcam.faults import Effect, ShortTells
from tests.acquire.sims import HEIGHT, WIDTH, Sim, needs_simcam, running, take

pytestmark = needs_simcam
Make = Callable[..., Sim]


def shown(camera: Genicam) -> tuple[Exposure, str]:
    """The next frame, and why its picture is unusable."""
    found = None
    for _ in range(40):
        if (found := camera.wait(0.05)) is not None:
            break
    assert isinstance(found, Exposure)
    return found, found.detail or camera.read(np.zeros((HEIGHT, WIDTH, 1), np.uint8))


@pytest.mark.parametrize("part_id", ["frame_id", "counter"])
@pytest.mark.parametrize("tells", ShortTells)
def test_a_frame_that_is_short_is_no_picture_though_it_says_it_is_complete(
    make: Make, tells: ShortTells, part_id: str
) -> None:
    """Its lower half is an older part's."""
    sim = make(part_id=part_id)
    sim.rig.faults.short_tells = tells
    with running(sim) as camera:
        sim.rig.next(Effect.SHORT)
        sim.rig.pulse(2)
        why = shown(camera)[1]
        if tells is ShortTells.SIZE:
            assert why.startswith("only ") and why.endswith(f" bytes of the picture's {WIDTH * HEIGHT} arrived")
        else:
            assert why == f"only {HEIGHT // 2} of the picture's {HEIGHT} lines arrived"
        assert take(camera) == (2, 1)
        assert sim.losses.incomplete == 1


@pytest.mark.parametrize("pixel_format", ["Mono8", "Mono12"])
@pytest.mark.parametrize("part_id", ["frame_id", "counter"])
def test_padded_lines_are_told_or_show_by_their_size_and_are_no_picture(
    make: Make, part_id: str, pixel_format: str
) -> None:
    sim = make(part_id=part_id, pixel_format=pixel_format)
    for padding, is_told in ((4, 1), (4, 0), (2, 0)):
        sim.rig.faults.padding, sim.rig.faults.padding_is_told = padding, is_told
        with running(sim) as camera:
            sim.rig.pulse()
            why = shown(camera)[1]
            assert "choose a width without padding" in why and ("pads its lines (4 bytes)" in why) == bool(is_told)
    sim.rig.heal()
    with running(sim) as camera:
        sim.rig.pulse()
        assert shown(camera)[1] == ""


@pytest.mark.parametrize("part_id", ["counter", "encoder"])
def test_nothing_of_another_buffer_is_ever_read(make: Make, part_id: str) -> None:
    """Few buffers, used again oldest first, and a burst: what was filled last holds a part that comes later."""
    sim = make(part_id=part_id, num_buffers=3)
    sim.rig.faults.oldest_first = 1
    with running(sim) as camera:
        for n in range(1, 4):
            sim.rig.pulse()
            assert take(camera)[1] == (n - 1) % 5
        sim.rig.next(Effect.NO_CHUNKS, 2)
        sim.rig.pulse()
        assert "carries no chunk" in shown(camera)[1]
        assert camera.wait(0.05) is None  # all three are the producer's again
        sim.rig.pulse(3)
        found = [shown(camera) for _ in range(3)]
        assert "carries no chunk" in found[0][1] and [why for _, why in found[1:]] == ["", ""]
        if part_id == "counter":
            assert [frame.frame_id for frame, _ in found] == [5, 6, 7]
        else:
            assert [frame.part_id for frame, _ in found] == [0, 600, 700]


def test_chunks_are_let_go_of_with_their_buffer(make: Make) -> None:
    sim = make()
    with running(sim) as camera:
        sim.rig.pulse()
        delivered = camera._session.wait(2.0)
        assert delivered is not None
        assert camera._session.chunk(delivered, "ChunkCounterValue") == 1
        camera._session.requeue(delivered)
        assert camera._features.get("ChunkCounterValue", fresh=True) is None


def test_a_frame_without_an_id_or_a_time_says_none(make: Make) -> None:
    sim = make(timestamps="zero")
    with running(sim) as camera:
        sim.rig.next(Effect.NO_ID)
        sim.rig.pulse()
        delivered = camera._session.wait(2.0)
        assert delivered is not None and delivered.is_complete and delivered.shortfall == ""
        assert (delivered.frame_id, delivered.device_time) == (None, None)
        camera._session.requeue(delivered)

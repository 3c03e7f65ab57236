"""The GenICam camera through the real harvesters: on simcam's producer, which does on command what cameras do."""

import fcntl
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inspectd.acquire.camera import Exposure, Gap, StalledError
from inspectd.acquire.protocol import EXIT_TO_RESTART
from inspectd.acquire.simcam import world
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import CameraError
from tests.acquire.sims import HEIGHT, WIDTH, Sim, needs_simcam, running, take

pytestmark = needs_simcam
Make = Callable[..., Sim]


def test_each_trigger_is_its_own_picture_and_count(make: Make) -> None:
    sim = make()
    camera = sim.camera()
    try:
        camera.open()
        assert camera.start().counted == 0
        for n in range(1, 13):
            sim.rig.pulse()
            assert take(camera) == (n, (n - 1) % 5)
        sim.rig.pulse(6)
        assert [take(camera) for _ in range(6)] == [(n, (n - 1) % 5) for n in range(13, 19)]
    finally:
        camera.close()


def test_triggers_while_nobody_has_it_open_are_counted(make: Make) -> None:
    sim = make()
    for already in (0, 7):
        camera = sim.camera()
        camera.open()
        assert camera.start().counted == already
        sim.rig.pulse(3)
        assert [take(camera)[0] for _ in range(3)] == [already + n for n in (1, 2, 3)]
        camera.close()
        sim.rig.pulse(4)


def test_a_dropped_frame_shows_in_the_next_ones_count(make: Make) -> None:
    sim = make()
    with running(sim) as camera:
        sim.rig.pulse()
        assert take(camera)[0] == 1
        sim.rig.drop(2)
        sim.rig.pulse(3)
        assert take(camera) == (4, 3)
        camera.clock_view()
        assert (sim.losses.frame_id_gaps, sim.losses.stream_lost) == (2, 2)


def test_a_dropped_frame_that_nothing_follows_is_given_up(make: Make) -> None:
    sim = make()
    with running(sim) as camera:
        sim.rig.drop(2)
        sim.rig.pulse(2)
        assert take(camera) == (2, "gap")
        sim.rig.pulse()
        assert take(camera) == (3, 2)
        assert sim.losses.timeouts == 1


def test_an_incomplete_frame_has_its_count_and_no_picture(make: Make) -> None:
    sim = make()
    with running(sim) as camera:
        sim.rig.incomplete(1)
        sim.rig.pulse(2)
        assert take(camera) == (1, "only a part of the frame arrived")
        assert take(camera) == (2, 1)
        assert sim.losses.incomplete == 1


def test_an_incomplete_frame_after_a_gap_that_was_told(make: Make) -> None:
    """Its chunk can't be trusted: it is counted by frame ids, from the newest frame that came."""
    sim = make()
    with running(sim) as camera:
        sim.rig.pulse()
        assert take(camera)[0] == 1
        sim.rig.drop(1)
        sim.rig.pulse()
        assert take(camera) == (2, "gap")
        sim.rig.incomplete(1)
        sim.rig.pulse(2)
        assert take(camera) == (3, "only a part of the frame arrived")
        assert take(camera) == (4, 3)


def test_a_starved_producer_counts_underruns(make: Make) -> None:
    sim = make()
    with running(sim) as camera:
        sim.rig.starve(1.0)
        sim.rig.pulse(3)
        time.sleep(1.1)
        sim.rig.pulse()
        assert take(camera) == (4, 3)
        camera.clock_view()
        assert sim.losses.underrun == 3


def test_a_camera_that_falls_silent_is_started_anew(make: Make) -> None:
    sim = make()
    with running(sim) as camera:
        sim.rig.fall_silent()
        sim.rig.pulse(2)
        assert take(camera) == (2, "gap")
        sim.rig.pulse()
        assert take(camera) == (3, "gap")
        with pytest.raises(StalledError, match="triggers are counted, but no frames come"):
            camera.wait(0.05)
        sim.rig.pulse()
        assert camera.restart().counted == 4
        sim.rig.pulse()
        assert take(camera) == (5, 4)


@pytest.mark.parametrize("power", [True, False])
def test_when_the_clock_of_a_camera_began_tells_whether_it_was_off(make: Make, power: bool) -> None:
    sim = make()
    with running(sim) as camera:
        sim.rig.pulse()
        take(camera)
        seen_ns = now_ns()
        time.sleep(0.02)  # clocks are compared to some microseconds
        sim.rig.unplug(0.0, power=power)
    camera = sim.camera()
    try:
        camera.open()
        assert (camera.start().booted_ns > seen_ns) is power
    finally:
        camera.close()


def test_free_run_that_falls_silent_is_noticed_without_a_counter(make: Make) -> None:
    sim = make(trigger="free_run", part_id="frame_id", acquisition_frame_rate_hz=50.0)
    camera = sim.camera()
    try:
        camera.open()
        assert camera.start().counted is None
        assert [take(camera)[0] for _ in range(3)] == [1, 2, 3]
        sim.rig.fall_silent()
        with pytest.raises(StalledError, match="has sent no frame for 1"):
            for _ in range(60):
                if camera.wait(0.05) is not None:
                    camera.read(None)
        camera.restart()
        assert take(camera)[0] == 1
    finally:
        camera.close()


def test_an_idle_camera_is_not_dead(make: Make) -> None:
    sim = make()
    with running(sim) as camera:
        until_ns = now_ns() + int(1.5e9)
        while now_ns() < until_ns:
            assert camera.wait(0.1) is None


@pytest.mark.alone
def test_unplugged_it_is_lost_within_a_second_and_comes_back_as_it_was(make: Make) -> None:
    sim = make()
    camera = sim.camera()
    camera.open()
    camera.start()
    sim.rig.pulse()
    assert take(camera)[0] == 1
    sim.rig.unplug(2.0)
    began_ns = now_ns()
    with pytest.raises(CameraError, match="does not answer"):
        while now_ns() < began_ns + int(1.9e9):
            camera.wait(0.1)
    assert now_ns() - began_ns < 1.2e9
    camera.close()
    sim.rig.pulse(2)
    with pytest.raises(CameraError, match="no camera with serial 'SIM-cam'; the producer lists no camera at all"):
        again = sim.camera()
        try:
            again.open()
        finally:
            again.close()
    time.sleep(max(0.0, 2.05 - (now_ns() - began_ns) / 1e9))
    back = sim.camera()
    try:
        back.open()
        assert back.start().counted == 3
        sim.rig.pulse()
        assert take(back) == (4, 3)
    finally:
        back.close()


def test_another_camera_in_its_place_is_refused(make: Make) -> None:
    sim = make()
    camera = sim.camera(serial="SIM-0815")
    try:
        with pytest.raises(CameraError, match="another camera answers: serial SIM-cam, it was SIM-0815"):
            camera.open()
    finally:
        camera.close()


def test_software_triggers_are_told_before_they_are_sent_and_come_one_by_one(make: Make) -> None:
    sim = make(trigger="software", part_id="frame_id", acquisition_frame_rate_hz=100.0)
    camera = sim.camera(sent=40)
    try:
        camera.open()
        assert camera.start().counted == 40
        assert [take(camera)[0] for _ in range(20)] == list(range(41, 61))
        assert [t.sent for t in sim.told] == list(range(41, 61))
    finally:
        camera.close()


def test_a_software_trigger_without_a_frame_is_a_gap_and_a_new_start(make: Make) -> None:
    sim = make(trigger="software", part_id="frame_id", acquisition_frame_rate_hz=100.0)
    with running(sim) as camera:
        assert take(camera) == (1, 0)
        sim.rig.drop(1)
        assert take(camera) == (2, "gap")
        with pytest.raises(StalledError):
            camera.wait(0.05)
        assert camera.restart().counted == 2
        assert take(camera) == (3, 2)


def test_the_encoder_is_the_part_id_and_frame_ids_count(make: Make) -> None:
    sim = make(part_id="encoder")
    sim.rig.pulse(0)
    camera = sim.camera()
    try:
        camera.open()
        assert camera.start().counted is None
        sim.rig.pulse()
        found = camera.wait(1.0)
        assert isinstance(found, Exposure) and (found.frame_id, found.part_id) == (1, 100)
        camera.read(None)
        sim.rig.drop(1)
        sim.rig.pulse(2)
        found = camera.wait(1.0)
        assert isinstance(found, Exposure) and (found.frame_id, found.part_id) == (3, 300)
        camera.read(None)
    finally:
        camera.close()


@pytest.mark.parametrize("timestamps", ["ns", "ticks", "absent"])
@pytest.mark.alone
def test_when_a_frame_was_exposed(make: Make, timestamps: str) -> None:
    sim = make(timestamps=timestamps)
    with running(sim) as camera:
        for _ in range(3):
            pulsed_ns = now_ns()
            sim.rig.pulse()
            time.sleep(0.05)
            found = camera.wait(1.0)
            assert isinstance(found, Exposure)
            assert (found.device_ns > 0) == (timestamps != "absent")
            early_ns = 100_000 if timestamps != "absent" else 500_000_000  # absent: as old as the last look
            assert pulsed_ns - early_ns < found.trigger_ns < pulsed_ns + 20_000_000
            camera.read(None)
        view = camera.clock_view()
        assert (view.uncertainty_ns is not None) or timestamps == "absent"


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
@pytest.mark.alone
def test_a_clock_that_jumps_is_noticed_and_read_anew(make: Make, seconds: float) -> None:
    sim = make()
    with running(sim) as camera:
        for _ in range(3):
            sim.rig.pulse()
            found = camera.wait(1.0)
            assert isinstance(found, Exposure) and abs(now_ns() - found.trigger_ns) < 300_000_000
            camera.read(None)
            if found.frame_id == 1:
                sim.rig.jump_clock(seconds)
        assert sim.losses.clock_jumps == 1


@pytest.mark.parametrize("pixel_format", ["Mono8", "Mono12", "Mono12p"])
def test_deep_and_packed_formats_show_the_same_picture(make: Make, pixel_format: str) -> None:
    sim = make(pixel_format=pixel_format)
    with running(sim) as camera:
        for n in range(5):
            sim.rig.pulse()
            assert camera.wait(1.0) is not None
            image = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
            assert camera.read(image) == ""
            assert image[0, 0, 0] == n and (image[1:] == 10 * (n + 1)).all()


@pytest.mark.parametrize("pixel_format", ["RGB8", "BayerRG8"])
def test_colour_formats_show_the_same_picture(make: Make, pixel_format: str) -> None:
    sim = make(channels=3, pixel_format=pixel_format)
    with running(sim) as camera:
        sim.rig.pulse()
        assert camera.wait(1.0) is not None
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        assert camera.read(image) == "" and (image[4:, 4:] == 10).all()


@pytest.mark.parametrize(
    ("channels", "pixel_format", "said"),
    [
        (3, "Mono8", "it sends Mono8, which is made RGB, as the model wants (grey thrice)"),
        (3, "Mono12p", "it sends Mono12p, which is made RGB, as the model wants (grey thrice)"),
        (1, "RGB8", "it sends RGB8, which is made grey, as the model wants (the luminance)"),
        (1, "BayerRG8", "it sends BayerRG8, which is made grey, as the model wants (the luminance)"),
        (1, "", ""),
    ],
)
def test_what_a_camera_sends_becomes_what_the_model_wants(
    make: Make, channels: int, pixel_format: str, said: str
) -> None:
    sim = make(channels=channels, pixel_format=pixel_format)
    with running(sim) as camera:
        sim.rig.pulse()
        assert camera.wait(1.0) is not None
        image = np.zeros((HEIGHT, WIDTH, channels), np.uint8)
        assert camera.read(image) == "" and (image[4:, 4:] == 10).all()
        assert [caveat for caveat in camera.caveats() if "model" in caveat] == [said] * bool(said)


@pytest.mark.parametrize(
    ("config", "features", "said"),
    [
        ({}, {"ExposureTime": 5.0}, "feature ExposureTime: 5.0 was refused (allowed 10.0 to 1000000.0)"),
        ({}, {"ExposureTme": 50.0}, "feature ExposureTme: the camera has no such feature"),
        ({}, {"SensorWidth": 5}, "feature SensorWidth: 5 was refused"),
        ({}, {"TriggerSource": "Line7"}, "feature TriggerSource: 'Line7' was refused (allowed Software, Line0)"),
        ({"trigger_source": "Line3"}, {}, "feature TriggerSource: 'Line3' was refused"),
        ({"pixel_format": "YUV422_8"}, {}, "pixel format YUV422_8 can't be converted; allowed are RGB8"),
    ],
)
def test_what_can_not_be_set_is_named(make: Make, config: dict, features: dict, said: str) -> None:
    sim = make(**config)
    camera = sim.camera()
    camera._job = sim.job()
    camera._job.features.update(features)
    try:
        with pytest.raises(CameraError) as refused:
            camera.open()
        assert said in str(refused.value) and "\n" not in str(refused.value)
    finally:
        camera.close()


def test_a_frame_that_does_not_say_whose_it_is_shows_no_part(make: Make) -> None:
    """Here the recipe switches off what `part_id` needs."""
    sim = make()
    camera = sim.camera()
    camera._job.features["ChunkModeActive"] = False
    try:
        camera.open()
        camera.start()
        sim.rig.pulse()
        assert take(camera) == (1, "the frame carries no chunk CounterValue: it can't be told which part it shows")
    finally:
        camera.close()


def test_a_camera_in_use_is_said_to_be(make: Make, tmp_path: Path) -> None:
    """The lock on its file is what simcam holds an open camera by."""
    camera = make().camera()
    with world.camera_path(tmp_path, "cam").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            with pytest.raises(CameraError, match=r"the camera SIM-cam can't be opened \(in use\)"):
                camera.open()
        finally:
            camera.close()


def test_at_the_stop_what_was_triggered_before_is_still_told(make: Make) -> None:
    sim = make()
    with running(sim) as camera:
        sim.rig.drop(1)
        sim.rig.pulse(3)
        time.sleep(0.1)
        camera.stop()
        assert [take(camera)[0] for _ in range(2)] == [2, 3]
        assert camera.wait(0.1) is None


def test_frames_that_never_come_are_told_at_the_stop(make: Make) -> None:
    sim = make()
    with running(sim) as camera:
        sim.rig.drop(2)
        sim.rig.pulse(2)
        time.sleep(0.1)
        camera.stop()
        found = camera.wait(0.1)
        assert isinstance(found, Gap) and found.frame_id == 2
        assert camera.wait(0.1) is None


def test_the_exit_code_that_asks_for_a_new_process_is_no_other_ones() -> None:
    assert EXIT_TO_RESTART not in (0, 1, 2, 69, 78)

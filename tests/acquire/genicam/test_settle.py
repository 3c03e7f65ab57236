"""Features of config and recipe, set on cameras that remember others and depend on each other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from msgspec import structs

from inspectd.acquire.genicam.features import Features
from inspectd.acquire.genicam.genicam import Genicam
from inspectd.acquire.genicam.gentl import Session
from inspectd.acquire.simcam import world
from inspectd.runtime.errors import CameraError
from inspectd.settings.recipe import Feature
from tests.acquire.sims import HEIGHT, WIDTH, Sim, needs_simcam, take

pytestmark = needs_simcam
Make = Callable[..., Sim]


@contextmanager
def left_as(sim: Sim) -> Iterator[Features]:
    """The camera's features in the hands of somebody who leaves it with other values."""
    producer = world.producer()
    assert producer is not None
    session = Session([producer], {"serial": "SIM-cam"})
    try:
        yield session.features
    finally:
        session.close()


@contextmanager
def opened(sim: Sim, features: dict[str, Feature] | None = None) -> Iterator[Genicam]:
    """The camera with the recipe's features set."""
    camera = sim.camera()
    camera._job.features.update(features or {})
    try:
        camera.open()
        yield camera
    finally:
        camera.close()


def refused(sim: Sim, features: dict[str, Feature]) -> str:
    with pytest.raises(CameraError) as error, opened(sim, features):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def narrow(sim: Sim) -> None:
    """Let the config want only 64 pixels of each line."""
    sim.config = structs.replace(sim.config, width=64)
    plain = sim.job
    sim.job = lambda **changes: structs.replace(plain(**changes), rect=(0, 0, 64, HEIGHT))  # type: ignore[method-assign]


def test_an_offset_that_the_camera_remembers_is_not_in_the_way(make: Make) -> None:
    sim = make()
    with left_as(sim) as features:
        features.set("Width", 64)
        features.set("OffsetX", 20)
    with opened(sim) as camera:
        assert (camera._features.get("Width"), camera._features.get("OffsetX")) == (WIDTH, 0)
        camera.start()
        sim.rig.pulse()
        assert take(camera) == (1, 0)


def test_an_offset_that_leaves_room_stays(make: Make) -> None:
    sim = make()
    narrow(sim)
    with left_as(sim) as features:
        features.set("Width", 70)
        features.set("OffsetX", 20)
    with opened(sim) as camera:
        assert (camera._features.get("Width"), camera._features.get("OffsetX")) == (64, 20)
    with opened(sim, {"OffsetX": 32}) as camera:
        assert camera._features.get("OffsetX") == 32
    said = refused(sim, {"OffsetX": 33})
    assert said.startswith("feature OffsetX: 33 was refused (allowed 0 to 32)")


def test_the_rate_comes_after_the_exposure_that_bounds_it(make: Make) -> None:
    sim = make(trigger="free_run", part_id="frame_id", acquisition_frame_rate_hz=50.0)
    with left_as(sim) as features:
        features.set("ExposureTime", 1e6)
    with opened(sim, {"ExposureTime": 100.0}) as camera:
        assert camera._features.get("AcquisitionFrameRate") == 50.0
    said = refused(sim, {"ExposureTime": 40_000.0})
    assert said.startswith("feature AcquisitionFrameRate: 50.0 was refused (allowed 0.1 to 25.0)")


def test_recipes_that_name_features_in_an_order_that_does_not_work(make: Make) -> None:
    sim = make(trigger="free_run", part_id="frame_id")
    with left_as(sim) as features:
        features.set("ExposureTime", 1e6)
    with opened(sim, {"AcquisitionFrameRate": 50.0, "ExposureTime": 100.0}) as camera:
        assert camera._features.get("AcquisitionFrameRate") == 50.0


@pytest.mark.parametrize("busy_s", [0.0, 0.3])
def test_a_user_set_is_loaded_and_waited_for(make: Make, busy_s: float) -> None:
    sim = make()
    with left_as(sim) as features:
        features.set("Gain", 7.0)
        features.set("Width", 64)
        features.set("TriggerMode", "On")
        features.set("UserSetSelector", "UserSet1")
        features.execute("UserSetSave", 1.0)
        features.set("Gain", 3.0)
        features.set("UserSetSelector", "Default")
    sim.rig.nodes.slow_command(busy_s)
    with opened(sim, {"ExposureTime": 200.0, "UserSetSelector": "UserSet1", "UserSetLoad": True}) as camera:
        found = [camera._features.get(name) for name in ("Gain", "Width", "ExposureTime")]
        assert found == [7.0, WIDTH, 200.0]  # what config and recipe say is set after it


def test_a_command_that_is_never_done_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspectd.acquire.genicam.features.COMMAND_S", 0.2)
    sim = make()
    sim.rig.nodes.slow_command(60.0)
    assert refused(sim, {"UserSetLoad": True}) == "command UserSetLoad: it was not done within 0.2 s"


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"UserSetLoad": 1}, "feature UserSetLoad: it is a command: `true` executes it, 1 means nothing"),
        ({"TriggerSoftware": False}, "feature TriggerSoftware: it is a command: `true` executes it"),
        ({"Root": 1}, "feature Root: it has no value that could be set"),
        ({"Device": 1}, "feature Device: it has no value that could be set"),
        ({"connect": True}, "feature connect: the camera has no such feature"),
        ({"device_name": "x"}, "feature device_name: the camera has no such feature"),
        (
            {"BlackLevel": "high"},
            "feature BlackLevel: 'high' was refused (allowed 0.0 to 64.0 in steps of 0.5): it ",
        ),
        ({"TriggerMode": 1}, "feature TriggerMode: 1 was refused (allowed Off, On): it takes one of its names"),
        ({"ChunkModeActive": 1}, "feature ChunkModeActive: 1 was refused: it takes true or false"),
        ({"Width": 64.5}, "feature Width: 64.5 was refused (allowed 64 to 96): it takes a whole number"),
        ({"Width": True}, "feature Width: True was refused (allowed 64 to 96): it takes a whole number"),
    ],
)
def test_only_values_of_the_nodes_kind_are_written(make: Make, features: dict[str, Feature], said: str) -> None:
    assert said in refused(make(), features)


def test_a_software_trigger_among_the_features_is_executed(make: Make) -> None:
    """It means nothing while nobody acquires; but it is sent, not put beside the node."""
    with opened(make(), {"TriggerSoftware": True}):
        pass


def test_whole_numbers_with_and_without_a_point(make: Make) -> None:
    sim = make()
    with opened(sim, {"Width": 96.0, "ExposureTime": 500, "Gain": 3}) as camera:
        found = [camera._features.get(name) for name in ("Width", "ExposureTime", "Gain")]
        assert found == [96, 500.0, 3.0]


@pytest.mark.parametrize("asked", [500, 500.0])
def test_a_camera_that_rounds_a_little_is_believed_and_said_to_once(
    make: Make, asked: Feature, capsys: pytest.CaptureFixture[str]
) -> None:
    sim = make()
    sim.rig.nodes.round_exposure(9.8)
    for _ in range(2):
        with opened(sim, {"ExposureTime": asked}) as camera:
            assert camera._features.get("ExposureTime") == pytest.approx(499.8)
    assert capsys.readouterr().out.count("the camera rounds a feature") == 1


def test_a_camera_that_rounds_within_the_step_it_tells_is_believed(make: Make) -> None:
    with opened(make(), {"BlackLevel": 1.3}) as camera:
        assert camera._features.get("BlackLevel") == 1.0


def test_a_camera_that_rounds_far_is_refused(make: Make) -> None:
    sim = make()
    sim.rig.nodes.round_exposure(300.0)
    said = refused(sim, {"ExposureTime": 500})
    assert said.startswith(
        "feature ExposureTime: 500 was asked, the camera took 300.0 (allowed 10.0 to 1000000.0)"
    )


def test_a_size_beside_the_grid_is_refused_with_the_grid(make: Make) -> None:
    sim = make()
    sim.rig.nodes.step_sizes(16)
    assert refused(sim, {"OffsetX": 3}).startswith(
        "feature OffsetX: 3 was refused (allowed 0 to 0 in steps of 16)"
    )


def test_a_frame_trigger_of_another_name_is_taken(make: Make) -> None:
    sim = make()
    sim.rig.nodes.miss("FrameStart")
    with opened(sim) as camera:
        assert camera._features.get("TriggerSelector") == "ExposureStart"
        camera.start()
        sim.rig.pulse()
        assert take(camera) == (1, 0)


def test_without_a_trigger_for_single_frames_one_sentence_says_so(make: Make) -> None:
    sim = make()
    sim.rig.nodes.miss("FrameStart ExposureStart")
    said = refused(sim, {})
    assert said.startswith(
        "trigger = 'line': the camera's TriggerSelector has AcquisitionStart, none that starts one"
    )
    with opened(sim, {"TriggerSelector": "AcquisitionStart"}) as camera:
        assert camera._features.get("TriggerMode") == "On"


def test_free_run_needs_no_trigger(make: Make) -> None:
    sim = make(trigger="free_run", part_id="frame_id")
    sim.rig.nodes.miss("FrameStart ExposureStart TriggerMode")
    with opened(sim) as camera:
        camera.start()
        assert take(camera)[0] == 1


def test_a_feature_that_is_not_there_now_is_named(make: Make) -> None:
    sim = make()
    sim.rig.nodes.withhold("TriggerMode")
    assert refused(sim, {}).startswith("feature TriggerMode: 'Off' was refused (allowed Off, On)")
    sim.rig.nodes.miss("TriggerMode")
    assert refused(sim, {}) == "trigger = 'line': the camera has no TriggerMode"

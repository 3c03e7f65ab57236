"""Finding the camera that is meant, and how long it may be silent."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from inspectd.acquire.camera import Exposure
from inspectd.acquire.genicam.devices import Device, chosen, list_devices
from inspectd.acquire.genicam.gentl import Session
from inspectd.acquire.genicam.opening import longest_silence_s
from inspectd.acquire.protocol import Job
from inspectd.acquire.simcam import world
from inspectd.acquire.simcam.faults import Listed
from inspectd.acquire.survey import Listing, Opening, ask
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import CameraError
from tests.acquire.sims import Sim, needs_simcam, running, take

pytestmark = needs_simcam
Make = Callable[..., Sim]


def test_an_exposure_of_a_second_is_no_silence(make: Make) -> None:
    """The rate that the camera shows is not that of its frames."""
    sim = make(trigger="free_run", part_id="frame_id")
    camera = sim.camera()
    camera._job.features["ExposureTime"] = 1e6
    try:
        camera.open()
        assert longest_silence_s(camera._config, camera._features) == 5.0
        camera.start()
        until_ns, frames = now_ns() + int(20e9), 0
        while frames < 2 and now_ns() < until_ns:
            if isinstance(camera.wait(0.25), Exposure):
                camera.read(None)
                frames += 1
        assert frames == 2 and sim.losses.timeouts == 0
    finally:
        camera.close()


def test_a_camera_that_is_listed_twice_is_one(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    sim = make()
    sim.rig.faults.listed = Listed.TWICE
    producer = world.producer()
    assert producer is not None
    entries = list_devices([producer])
    assert [device.serial for device in entries] == ["SIM-cam", "SIM-cam"]
    for _ in range(2):
        with running(sim) as camera:
            sim.rig.pulse()
            assert take(camera)[1] != "gap"
    said = capsys.readouterr().out
    assert said.count("the camera is listed several times") == 1 and f"chosen={entries[0].interface}" in said


def test_a_camera_that_two_producers_list_is_one(make: Make, tmp_path: Path) -> None:
    sim = make()
    producer = world.producer()
    assert producer is not None
    copies = [tmp_path / name for name in ("a.cti", "b.cti")]
    for copy in copies:
        shutil.copy(producer, copy)
    session = Session(copies, {"serial": "SIM-cam"})
    try:
        assert len(session._harvester.device_info_list) == 2
        session.start(4)
    finally:
        session.close()
    sim.close()


def test_the_interface_can_be_named(make: Make) -> None:
    sim = make()
    producer = world.producer()
    assert producer is not None
    (name,) = [device.interface for device in list_devices([producer])]
    for interface, fits in ((name, True), ("eth7", False)):
        camera = sim.camera()
        camera._config = structs.replace(camera._config, interface=interface)
        try:
            if fits:
                camera.open()
            else:
                with pytest.raises(CameraError, match="no camera with serial 'SIM-cam' interface 'eth7'"):
                    camera.open()
        finally:
            camera.close()


def test_the_entry_that_can_be_opened_is_taken() -> None:
    def entry(access: str, interface: str, serial: str = "1") -> Device:
        return Device("id", "vendor", "model", serial, "", access, interface)

    assert chosen([entry("no access", "a"), entry("read/write", "b")]) == 1
    assert chosen([entry("in use", "a"), entry("unknown", "b"), entry("read/write", "c")]) == 2
    assert chosen([entry("in use", "a"), entry("no access", "b")]) == 0
    assert chosen([entry("in use", "a")]) == 0
    assert chosen([]) is None
    assert chosen([entry("read/write", "a"), entry("read/write", "b", "2")]) is None
    assert chosen([entry("read/write", "a", ""), entry("read/write", "b", "")]) is None


def test_names_that_are_no_utf8_are_shown_escaped(make: Make) -> None:
    sim = make()
    sim.rig.memory.user_id = b"caf\xe9 1\n"
    sim.rig.faults.vendor = b"Fabrik M\xfcller"
    producer = world.producer()
    assert producer is not None
    (row,) = ask(Listing([str(producer)], str(sim.folder)))
    assert (row["vendor"], row["user_id"]) == ("Fabrik M\\xfcller", "caf\\xe9 1\\n")
    job: Job = structs.replace(sim.job(), state_dir=str(sim.folder))
    with running(sim) as camera:
        assert camera.device == "Fabrik M\\xfcller simcam SIM-cam"
        assert camera._features.get("DeviceUserID") == "caf\\xe9 1\\n"
        job = structs.replace(job, config=camera._config)
    assert ask(Opening(job)) == [{"device": "Fabrik M\\xfcller simcam SIM-cam", "caveats": []}]
    shown = {row["name"]: row["value"] for row in ask(Opening(job, features=True))}
    assert shown["DeviceUserID"] == "caf\\xe9 1\\n"

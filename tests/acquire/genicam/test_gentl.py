"""What we rely on in harvesters and genicam, private attributes included; and viky, a producer not of ours."""

import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import genicam
import numpy as np
import pytest

from inspectd.acquire.genicam.buffers import picture
from inspectd.acquire.genicam.devices import list_devices
from inspectd.acquire.genicam.gentl import Session
from inspectd.acquire.genicam.producers import producers
from inspectd.acquire.simcam import world
from inspectd.runtime.errors import CameraError
from tests.acquire.sims import Sim, needs_simcam

VIKY = Path(genicam.__file__).parent / "viky.cti"


@pytest.fixture
def viky() -> Iterator[Session]:
    session = Session([VIKY], {"serial": "0"})
    yield session
    session.close()


def test_the_versions_whose_private_attributes_are_used() -> None:
    assert (version("harvesters"), version("genicam")) == ("1.4.3", "1.6.0")


def test_private_attributes_are_still_there(viky: Session) -> None:
    acquirer = viky._acquirer
    assert acquirer is not None
    assert len(acquirer._new_buffer_event_monitor_dict) == 1 and len(acquirer._data_streams) == 1
    assert int(viky._monitor.handle) > 0
    viky.start(4)
    assert len(acquirer._announced_buffers) == 4
    assert all(int(raw._handle) > 0 for raw in acquirer._announced_buffers)
    assert callable(acquirer._update_chunk_data)
    assert callable(acquirer._chunk_adapter.detach_buffer) and isinstance(acquirer._has_attached_chunk, bool)
    assert acquirer in viky._harvester._ias and acquirer._finalizer.alive
    harvester = viky._harvester
    viky.close()
    assert acquirer not in harvester._ias and not acquirer._finalizer.alive


def test_viky_streams(viky: Session) -> None:
    viky.features.set("PixelFormat", "Mono8")
    viky.start(8)
    ids = []
    while len(ids) < 20:
        delivered = viky.wait(1.0)
        assert delivered is not None and delivered.is_complete and delivered.device_time is None
        name, width, height, data = picture(delivered.raw)
        assert (name, width, height) == ("Mono8", 400, 400) and data.size >= 160_000
        assert data[: width * height].any()
        ids.append(delivered.frame_id)
        viky.requeue(delivered)
    assert ids == list(range(ids[0], ids[0] + 20))


@pytest.mark.alone
def test_other_threads_run_while_one_waits_for_a_buffer(viky: Session) -> None:
    """At 1 Hz harvesters' own wait would hold Python's lock nearly all the time."""
    viky.features.set("AcquisitionFrameRate", 1.0)
    viky.start(4)
    waiting = threading.Thread(target=viky.wait, args=(0.5,))
    waiting.start()
    ticks = 0
    while waiting.is_alive():
        time.sleep(0.001)
        ticks += 1
    assert ticks > 50


@pytest.mark.parametrize(
    ("feature", "value", "payload"),
    [("ComponentEnable", True, "multi-part"), ("GenDCStreamingMode", "On", "gendc")],
)
def test_payloads_that_are_no_single_image_are_refused(
    viky: Session, feature: str, value: object, payload: str
) -> None:
    if feature == "ComponentEnable":
        viky.features.set("ComponentSelector", "Range")
    viky.features.set(feature, value)  # type: ignore[arg-type]
    viky.start(4)
    delivered = viky.wait(1.0)
    assert delivered is not None
    with pytest.raises(CameraError, match=f"the camera sends {payload} payload, single images are wanted"):
        picture(delivered.raw)
    viky.requeue(delivered)


def test_without_the_producers_own_function_a_buffer_is_looked_for(viky: Session) -> None:
    viky._event_get_data = None
    viky.start(4)
    ids = []
    while len(ids) < 5:
        delivered = viky.wait(1.0)
        assert delivered is not None
        ids.append(delivered.frame_id)
        viky.requeue(delivered)
    assert ids == list(range(ids[0], ids[0] + 5))


@needs_simcam
def test_looking_for_a_buffer_finds_incomplete_ones_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(world.FOLDER_VARIABLE, str(tmp_path))
    sim = Sim(tmp_path)
    producer = world.producer()
    assert producer is not None
    session = Session([producer], {"serial": "SIM-cam"})
    try:
        session._event_get_data = None
        session.features.set("TriggerMode", "On")
        session.features.set("TriggerSource", "Line0")
        session.start(4)
        assert session.wait(0.05) is None
        sim.rig.incomplete(1)
        sim.rig.pulse(2)
        found = [session.wait(1.0) for _ in range(2)]
        assert [(d.frame_id, d.is_complete) for d in found if d] == [(1, False), (2, True)]
    finally:
        session.close()
        sim.close()


def test_viky_lists_its_three_cameras() -> None:
    assert [(d.model, d.serial) for d in list_devices([VIKY])] == [("Viky", "0"), ("Viky", "1"), ("Viky", "2")]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"serial": "9"}, "no camera with serial '9'; the producer lists the serials '0', '1', '2'"),
        (
            {"vendor": "MVTec Software GmbH", "model": "Viky"},
            "3 cameras have vendor 'MVTec Software GmbH' model 'Viky'",
        ),
    ],
)
def test_not_exactly_one(wanted: dict[str, str], said: str) -> None:
    listed = list_devices([VIKY])[0]
    with pytest.raises(CameraError, match=said.replace("MVTec Software GmbH", listed.vendor)):
        Session([VIKY], {key: listed.vendor if key == "vendor" else value for key, value in wanted.items()})


def test_a_file_that_is_no_producer_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.cti"
    text.write_text("no library")
    with pytest.raises(CameraError, match=r"text\.cti is not a GenTL producer that can be loaded"):
        list_devices([text])
    library = next(Path(np.__file__).parent.rglob("_multiarray_umath*.so"))
    with pytest.raises(CameraError, match="is not a GenTL producer that can be loaded"):
        list_devices([library])


def test_where_producers_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENICAM_GENTL64_PATH", "")
    with pytest.raises(CameraError, match=r"set `cti` to the vendor's \.cti file, or GENICAM_GENTL64_PATH"):
        producers("", tmp_path)
    monkeypatch.setenv("GENICAM_GENTL64_PATH", f"{tmp_path / 'none'}:{tmp_path}")
    (tmp_path / "b.cti").touch()
    (tmp_path / "a.cti").touch()
    assert [path.name for path in producers("", tmp_path)] == ["a.cti", "b.cti"]
    with pytest.raises(CameraError, match=r"c\.cti does not exist; check `cti`"):
        producers("c.cti", tmp_path)

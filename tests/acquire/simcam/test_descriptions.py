"""Each GenTL module describes itself to GenApi: every description loads, and every node that can be read is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from genicam import genapi
from harvesters._private.core.port import ConcretePort
from harvesters.core import Harvester, ImageAcquirer

from inspectd.acquire.simcam import world
from tests.acquire.sims import HEIGHT, WIDTH, Sim, needs_simcam

pytestmark = needs_simcam
ABSENT = genapi.EAccessMode.NI, genapi.EAccessMode.NA
PICTURE, CHUNKS = WIDTH * HEIGHT, 5 * 8
SYSTEM = {
    "TLID": "simcam", "TLVendorName": "inspectd", "TLModelName": "simcam", "TLVersion": "1.0", "TLType": "Custom",
    "GenTLVersionMajor": 1, "GenTLVersionMinor": 6, "InterfaceSelector": 0, "InterfaceID": "simcam",
}  # fmt: skip
INTERFACE = {
    "InterfaceID": "simcam", "InterfaceType": "Custom", "InterfaceTLVersionMajor": 1, "InterfaceTLVersionMinor": 0,
    "DeviceSelector": 0, "DeviceID": "cam", "DeviceVendorName": "inspectd", "DeviceModelName": "simcam",
    "DeviceSerialNumber": "SIM-cam", "DeviceUserID": "cam", "DeviceTLVersionMajor": 1, "DeviceTLVersionMinor": 0,
    "DeviceAccessStatus": "Busy",
}  # fmt: skip
DEVICE = {
    "DeviceID": "cam", "DeviceVendorName": "inspectd", "DeviceModelName": "simcam", "DeviceType": "Custom",
    "DeviceSerialNumber": "SIM-cam", "DeviceUserID": "cam", "DeviceAccessStatus": "OpenReadWrite",
    "DeviceTimestampFrequency": 1_000_000_000, "StreamSelector": 0, "StreamID": "stream0",
}  # fmt: skip
STREAM = {
    "StreamID": "stream0", "StreamType": "Custom", "StreamAnnouncedBufferCount": 0,
    "StreamBufferHandlingMode": "OldestFirst", "StreamAnnounceBufferMinimum": 1, "StreamIsGrabbing": False,
    "PayloadSize": PICTURE,
}  # fmt: skip
REMOTE = {
    "DeviceVendorName": "inspectd", "DeviceModelName": "simcam", "DeviceVersion": "1.0", "DeviceID": "cam",
    "DeviceSerialNumber": "SIM-cam", "DeviceTLType": "Custom", "DeviceSFNCVersionMajor": 2, "Width": WIDTH,
    "WidthMax": WIDTH, "HeightMax": HEIGHT, "SensorWidth": WIDTH, "SensorHeight": HEIGHT, "PixelFormat": "Mono8",
    "PayloadSize": PICTURE, "AcquisitionMode": "Continuous",
}  # fmt: skip
"""Values of nodes that the standards of names (SFNC, GenTL SFNC) demand, where they are known beforehand."""
COMMANDS = {"system": "InterfaceUpdateList", "interface": "DeviceUpdateList"}
VALUES = {"system": SYSTEM, "interface": INTERFACE, "device": DEVICE, "stream": STREAM, "remote": REMOTE}
MODULES = {
    "system": ("TLSystem", "TLPort"), "interface": ("TLInterface", "InterfacePort"),
    "device": ("TLDevice", "DevicePort"), "stream": ("TLDataStream", "StreamPort"), "remote": ("Device", "Device"),
}  # fmt: skip


@pytest.fixture
def acquirer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageAcquirer]:
    monkeypatch.setenv(world.FOLDER_VARIABLE, str(tmp_path))
    sim, harvester = Sim(tmp_path), Harvester()
    harvester.add_file(str(world.producer()))
    harvester.update()
    acquirer = harvester.create(0)
    yield acquirer
    acquirer.destroy()
    harvester.reset()
    sim.close()


def module_of(acquirer: ImageAcquirer, name: str) -> Any:
    modules = {
        "system": acquirer.system, "interface": acquirer.interface, "device": acquirer.device,
        "stream": acquirer.data_streams[0], "remote": acquirer.remote_device,
    }  # fmt: skip
    return modules[name]


def description(port: Any) -> str:
    """The XML in the port, read piece by piece as a host with small packets would."""
    url = port.url_info_list[0].url
    assert url.startswith("Local:")
    address, length = (int(number, 16) for number in url.split(";")[1:])
    text = b""
    while len(text) < length:
        text += port.read(address + len(text), min(536, length - len(text)))[1]
    return text.decode()


def is_readable(node: Any) -> bool:
    return node.get_access_mode() in (genapi.EAccessMode.RO, genapi.EAccessMode.RW) and hasattr(node, "value")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_names_itself_and_its_port(acquirer: ImageAcquirer, name: str) -> None:
    port = module_of(acquirer, name).port
    assert (port.module, port.name) == MODULES[name]
    assert f'<Port Name="{port.name}"/>' in description(port)


@pytest.mark.parametrize("name", MODULES)
def test_every_node_that_can_be_read_is_read(acquirer: ImageAcquirer, name: str) -> None:
    port = module_of(acquirer, name).port
    text, node_map = description(port), genapi.NodeMap()
    node_map.load_xml_from_string(text)
    node_map.connect(concrete := ConcretePort(port), port.name)
    nodes = {node.attrib["Name"]: node_map.get_node(node.attrib["Name"]) for node in ElementTree.fromstring(text)}
    values = {
        node_name: node.value for node_name, node in nodes.items() if is_readable(node)
    }  # none of these may fail
    assert {node_name: values.get(node_name) for node_name in VALUES[name]} == VALUES[name]
    absent = {node_name for node_name, node in nodes.items() if node.get_access_mode() in ABSENT}
    assert {node_name for node_name in absent if "Chunk" not in node_name} == set()
    del concrete


@pytest.mark.parametrize("name", MODULES)
def test_the_host_has_the_same_node_map(acquirer: ImageAcquirer, name: str) -> None:
    node_map = module_of(acquirer, name).node_map
    found = {node: getattr(node_map, node).value for node in VALUES[name]}
    assert found == VALUES[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_list_is_updated_through_its_port(acquirer: ImageAcquirer, name: str) -> None:
    nodes = module_of(acquirer, name).node_map
    getattr(nodes, COMMANDS[name]).execute()
    selector = nodes.InterfaceSelector if name == "system" else nodes.DeviceSelector
    assert (selector.min, selector.max) == (0, 0)
    with pytest.raises(genapi.GenericException):
        selector.value = 1


def test_the_interface_shows_the_camera_that_is_selected(acquirer: ImageAcquirer, tmp_path: Path) -> None:
    pictures = sorted((tmp_path / "pictures").iterdir())
    world.make_camera(tmp_path, "other", pictures, (HEIGHT, WIDTH, 1), "SIM-other")
    nodes = acquirer.interface.node_map
    assert nodes.DeviceSelector.max == 0
    nodes.DeviceUpdateList.execute()
    assert nodes.DeviceSelector.max == 1
    nodes.DeviceSelector.value = 1
    assert (nodes.DeviceID.value, nodes.DeviceAccessStatus.value) == ("other", "ReadWrite")
    for file in tmp_path.glob("*.camera"):
        file.unlink()
    nodes.DeviceUpdateList.execute()
    assert nodes.DeviceID.get_access_mode() == genapi.EAccessMode.NA
    assert nodes.DeviceSelector.get_access_mode() == genapi.EAccessMode.NA


def test_width_and_height_have_limits(acquirer: ImageAcquirer) -> None:
    nodes = acquirer.remote_device.node_map
    assert (nodes.Width.min, nodes.Width.max, nodes.Width.inc) == (64, WIDTH, 1)
    assert (nodes.Height.min, nodes.Height.max, nodes.Height.inc) == (64, HEIGHT, 1)
    with pytest.raises(genapi.OutOfRangeException):
        nodes.Width.value = WIDTH + 1


@pytest.mark.parametrize("has_chunks", [False, True])
def test_sizes_are_told_with_the_chunks(acquirer: ImageAcquirer, has_chunks: bool) -> None:
    wanted = PICTURE + has_chunks * CHUNKS
    nodes, stream = acquirer.remote_device.node_map, acquirer.data_streams[0]
    nodes.ChunkModeActive.value = has_chunks
    nodes.AcquisitionFrameRate.value = 100.0
    assert (nodes.PayloadSize.value, stream.payload_size, stream.node_map.PayloadSize.value) == (wanted,) * 3
    acquirer.start()
    with acquirer.fetch(timeout=30.0) as buffer:
        raw = buffer.module
        assert (raw.size_filled, raw.data_size, raw.num_chunks) == (wanted, wanted, 5 * has_chunks)
    acquirer.stop()

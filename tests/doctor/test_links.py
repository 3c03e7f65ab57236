"""What open cameras say of themselves, on links of known speed."""

from typing import Any

import pytest

from inspectd.doctor.camera import Told
from inspectd.doctor.finding import Finding
from inspectd.doctor.gige import GigeAnswers, GigeCamera
from inspectd.doctor.opened import OpenedCamera
from tests.doctor.machine import CAMERA, ROUTE_HEAD, Machine, route

IP = 0xC0A80514  # 192.168.5.20
GIGE: dict[str, Any] = {
    "PayloadSize": 5_000_000,
    "AcquisitionFrameRate": 50.0,
    "GevCurrentIPAddress": IP,
    "GevCurrentSubnetMask": 0xFFFFFF00,
    "GevCurrentIPConfigurationPersistentIP": True,
    "GevSCPSPacketSize": 9000,
    "GevSCPD": 0,
    "GevTimestampTickFrequency": 125_000_000,
}
USB = {"PayloadSize": 5_000_000, "DeviceSerialNumber": "4103123456"}


def camera(name: str = "top", rate_hz: float | None = 10.0, **features: Any) -> OpenedCamera:
    """A GigE camera whose pictures have 5 MB; None takes a feature away."""
    kept = {key: value for key, value in (GIGE | features).items() if value is not None}
    return OpenedCamera(name, kept, rate_hz=rate_hz)


def found(machine: Machine, *cameras: OpenedCamera) -> dict[str, Finding]:
    """What is said beyond what is said without them."""
    before = machine.findings()
    return {check: f for check, f in machine.findings(opened=cameras).items() if check not in before}


def test_one_camera_that_fits(machine: Machine) -> None:
    findings = found(machine, camera())
    assert {check: (f.status, f.found) for check, f in findings.items()} == {
        "camera top": ("ok", "opened, 5 MB a picture, 10 a second"),
        "camera top packet size": ("ok", "9000 bytes, eth1 takes 9000"),
        "camera top packet delay": ("ok", "0 ticks, 0.0 us"),
        "eth1 load": ("ok", "50.4 MB/s by top"),
        "camera top IP persistence": ("ok", "persistent"),
    }


def test_a_camera_that_can_not_be_opened(machine: Machine) -> None:
    (finding,) = found(machine, OpenedCamera("top", trouble="no camera with serial 17")).values()
    assert (finding.status, finding.found) == ("warn", "no camera with serial 17")
    assert "inspectd cameras" in finding.remedy


def test_a_simulated_camera_has_no_link(machine: Machine) -> None:
    simulated = OpenedCamera("top", {"PayloadSize": 1000}, rate_hz=10.0, is_simulated=True)
    assert set(found(machine, simulated)) == {"camera top"}


@pytest.mark.parametrize(
    ("mtu", "size", "status", "advised"),
    [
        (9000, 576, "warn", 9000),
        (9000, 1500, "warn", 9000),
        (9000, 8192, "ok", 9000),
        (9000, 9000, "ok", 9000),
        (1500, 576, "warn", 1496),
        (1500, 1440, "ok", 1496),
        (1500, 1500, "ok", 1496),
        (1500, 9000, "warn", 1496),
    ],
)
def test_packet_size_against_the_mtu(machine: Machine, mtu: int, size: int, status: str, advised: int) -> None:
    machine.write("sys/class/net/eth1/mtu", f"{mtu}\n")
    finding = found(machine, camera(GevSCPSPacketSize=size))["camera top packet size"]
    assert (finding.status, finding.found) == (status, f"{size} bytes, eth1 takes {mtu}")
    assert finding.wanted.startswith(f"about {advised} bytes")
    wanted = f"GevSCPSPacketSize = {advised} under [camera.top.features] of the recipe"
    assert finding.remedy == (wanted if status == "warn" else "")


def test_a_camera_is_not_asked_for_more_than_it_has(machine: Machine) -> None:
    limited = OpenedCamera("top", GIGE | {"GevSCPSPacketSize": 1500}, {"GevSCPSPacketSize": 1500.0}, 10.0)
    assert found(machine, limited)["camera top packet size"].status == "ok"


def test_packet_size_by_its_newer_name(machine: Machine) -> None:
    newer = camera(GevSCPSPacketSize=None, DeviceStreamChannelPacketSize=1500)
    assert found(machine, newer)["camera top packet size"].remedy.startswith(
        "DeviceStreamChannelPacketSize = 9000 "
    )


def test_cameras_that_share_a_link_keep_apart(machine: Machine) -> None:
    left, right = camera("left"), camera("right", GevCurrentIPAddress=IP + 1)
    finding = found(machine, left, right)["camera left packet delay"]
    assert finding.status == "warn" and "2 cameras share eth1" in finding.wanted
    assert finding.remedy.startswith("GevSCPD = 9038 ")  # a packet of 9,038 bytes lasts 72.3 us, or 9,038 ticks
    apart = [camera(c.name, **(c.features | {"GevSCPD": 9038})) for c in (left, right)]
    findings = found(machine, *apart)
    assert {f.status for f in findings.values()} == {"ok"}
    assert findings["eth1 load"].found == "100.8 MB/s by left, right"


def test_cameras_that_hold_themselves_back_need_no_delay(machine: Machine) -> None:
    held: dict[str, Any] = {"DeviceLinkThroughputLimitMode": "On", "DeviceLinkThroughputLimit": 55_000_000}
    findings = found(machine, camera("left", **held), camera("right", GevCurrentIPAddress=IP + 1, **held))
    assert {f.status for f in findings.values()} == {"ok"}


def test_slower_cameras_on_a_faster_link_need_no_delay(machine: Machine) -> None:
    machine.write("sys/class/net/eth1/speed", "10000\n")
    slow = [camera(name, GevCurrentIPAddress=IP + n, GevLinkSpeed=1000) for n, name in enumerate(("a", "b", "c"))]
    assert {f.status for f in found(machine, *slow).values()} == {"ok"}


def test_a_delay_that_leaves_no_time_for_the_pictures(machine: Machine) -> None:
    finding = found(machine, camera(rate_hz=20.0, GevSCPD=10_000))["camera top packet delay"]
    assert (finding.status, finding.found) == ("warn", "10000 ticks, 80.0 us")
    assert finding.wanted == "at most 8.4 us: else pictures don't get through"
    assert finding.remedy.startswith("GevSCPD = 1046 ")
    cured = found(machine, camera(rate_hz=20.0, GevSCPD=1046))
    assert cured["camera top packet delay"].status == "ok"


def test_a_delay_in_ticks_of_unknown_length(machine: Machine) -> None:
    finding = found(machine, camera(GevTimestampTickFrequency=None))["camera top packet delay"]
    assert (finding.status, finding.found) == ("skipped", "0 ticks of unknown length")


def test_more_than_a_link_carries(machine: Machine) -> None:
    findings = found(
        machine, camera("left", 15.0, GevSCPD=9038), camera("right", 10.0, GevCurrentIPAddress=IP + 1)
    )
    finding = findings["eth1 load"]
    assert (finding.status, finding.found) == ("warn", "126.0 MB/s by left, right")
    assert finding.wanted.startswith("112 MB/s or less")


def test_small_packets_load_a_link_more(machine: Machine) -> None:
    found_small = found(machine, camera(rate_hz=20.0, GevSCPSPacketSize=576))["eth1 load"]
    assert (found_small.status, found_small.found) == ("warn", "113.7 MB/s by top")
    assert found(machine, camera(rate_hz=20.0))["eth1 load"].status == "ok"


def test_each_link_has_its_own_load(machine: Machine) -> None:
    machine.interface("eth2")
    machine.write("proc/net/route", ROUTE_HEAD + route("eth1", "0005A8C0") + route("eth2", "0006A8C0"))
    findings = found(machine, camera("left", 20.0), camera("right", 20.0, GevCurrentIPAddress=0xC0A80614))
    assert findings["eth1 load"].status == findings["eth2 load"].status == "ok"


def test_a_rate_that_is_not_known(machine: Machine) -> None:
    finding = found(machine, camera(rate_hz=None))["eth1 load"]
    assert finding.status == "skipped" and "the rate of top is not known" in finding.found
    assert finding.remedy == "keep top below 22.3 pictures a second"


def test_in_free_run_the_camera_knows_its_rate(machine: Machine) -> None:
    free = OpenedCamera("top", GIGE | {"ResultingFrameRate": 7.0}, is_free_run=True)
    assert found(machine, free)["camera top"].found == "opened, 5 MB a picture, 7 a second"
    assert found(machine, free)["eth1 load"].status == "ok"


def test_a_throughput_limit_below_the_rate(machine: Machine) -> None:
    limited = camera(DeviceLinkThroughputLimitMode="On", DeviceLinkThroughputLimit=40_000_000)
    finding = found(machine, limited)["camera top throughput limit"]
    assert (finding.status, finding.found) == ("warn", "40.0 MB/s")
    assert finding.remedy.startswith("DeviceLinkThroughputLimit = 56")
    off = camera(DeviceLinkThroughputLimitMode="Off", DeviceLinkThroughputLimit=40_000_000)
    assert "camera top throughput limit" not in found(machine, off)


def test_an_address_of_no_interface(machine: Machine) -> None:
    finding = found(machine, camera(GevCurrentIPAddress=0x0A070001))["camera top link"]
    assert (finding.status, finding.found) == ("warn", "10.7.0.1, in the network of no interface")


def test_an_address_that_changes_is_told_once(machine: Machine) -> None:
    changing = camera(GevCurrentIPConfigurationPersistentIP=False, GevCurrentIPConfigurationDHCP=True)
    finding = found(machine, changing)["camera top IP persistence"]
    assert (finding.status, finding.found) == ("warn", "from DHCP")
    answered = GigeCamera("eth1", "192.168.5.20", "255.255.255.0", "Acme X5 17", False, True)
    findings = machine.findings(Told(answers=GigeAnswers((answered,))), [changing])
    assert [check for check in findings if "persistence" in check] == ["GigE Acme X5 17 IP persistence"]


def test_a_usb_camera_by_its_serial_number(machine: Machine) -> None:
    findings = found(machine, OpenedCamera("top", USB, rate_hz=60.0))
    assert findings["USB 2-1 load"].status == "ok" and findings["USB 2-1 load"].found == "300.0 MB/s by top"
    assert found(machine, OpenedCamera("top", USB, rate_hz=80.0))["USB 2-1 load"].status == "warn"
    other = OpenedCamera("top", USB | {"DeviceSerialNumber": "1"}, rate_hz=60.0)
    assert found(machine, other)["camera top link"].status == "skipped"


def test_usb_cameras_behind_a_hub_share_its_port(machine: Machine) -> None:
    hub = f"{CAMERA}/2-1.4"
    for name, text in (("serial", "77"), ("speed", "5000"), ("busnum", "2"), ("devnum", "9")):
        machine.write(f"{hub}/{name}", text + "\n")
    for name, text in (("bInterfaceClass", "ef"), ("bInterfaceSubClass", "05")):
        machine.write(f"{hub}/2-1.4:1.0/{name}", text + "\n")
    devices = machine.root / "sys/bus/usb/devices"
    (devices / "2-1.4").symlink_to(machine.root / hub)
    (devices / "2-1.4:1.0").symlink_to(machine.root / hub / "2-1.4:1.0")
    pair = [
        OpenedCamera(n, USB | {"DeviceSerialNumber": s}, rate_hz=40.0)
        for n, s in (("a", "4103123456"), ("b", "77"))
    ]
    assert found(machine, *pair)["USB 2-1 load"].found == "400.0 MB/s by a, b"


@pytest.mark.parametrize("value", [None, 0, -1, "", "x", 1 << 40, 2.5, True, [], float("nan")])
@pytest.mark.parametrize("feature", [*GIGE, "DeviceLinkThroughputLimit", "GevLinkSpeed", "DeviceLinkSpeed"])
def test_odd_values_raise_nothing(machine: Machine, feature: str, value: Any) -> None:
    found(machine, camera("left", **{feature: value}), camera("right", GevCurrentIPAddress=IP + 1))

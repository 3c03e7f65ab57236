"""A computer with a GigE and a USB3 camera where all is well, as a tree of the files that its kernel shows."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from inspectd.doctor.camera import NOT_ASKED, Told, camera_findings
from inspectd.doctor.finding import Finding
from inspectd.doctor.opened import OpenedCamera

NOBODY = 65534
PCI = "sys/devices/pci0000:00/0000:00"
CAMERA = f"{PCI}:14.0/usb2/2-1"
NODE = "dev/bus/usb/002/003"
POLICY = "sys/devices/system/cpu/cpufreq/policy{}/scaling_governor"
IDLE = "sys/devices/system/cpu/cpu{}/cpuidle/state{}"
MISSED = ("rx_missed_errors", "rx_fifo_errors", "rx_over_errors")
DAMAGED = ("rx_crc_errors", "rx_frame_errors", "rx_length_errors")
ROUTE_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
UDP_NAMES = (
    "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors"
)
SNMP = (
    "Ip: Forwarding DefaultTTL InReceives\nIp: 1 64 20519\n"
    f"Udp: {UDP_NAMES}\n"
    "Udp: 1093 2 {errors} 1107 {no_room} 7 {damaged} 12 0\n"
    f"UdpLite: {UDP_NAMES}\n"
    "UdpLite: 0 0 0 0 0 0 0 0 0\n"
)
SOFTNET = (
    "0003f547 00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n"
    "00041ab2 {dropped} 00000003 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n"
)


def route(name: str, network: str, mask: str = "00FFFFFF", gateway: str = "00000000", flags: str = "0001") -> str:
    """A line of /proc/net/route, whose bytes are as a little-endian computer shows them."""
    return f"{name}\t{network}\t{gateway}\t{flags}\t0\t0\t100\t{mask}\t0\t0\t0\n"


def idle(name: str, latency_us: int, disable: int = 0) -> dict[str, str]:
    """Files of an idle state."""
    return {"name": f"{name}\n", "latency": f"{latency_us}\n", "disable": f"{disable}\n"}


KERNEL = {
    "sys/class/net/bonding_masters": "\n",  # the one file among folders, there since the module bonding is loaded
    f"{PCI}:1f.6/net/eth1/type": "1\n",
    f"{PCI}:1f.6/net/eth1/flags": "0x1003\n",
    f"{PCI}:1f.6/net/eth1/mtu": "9000\n",
    f"{PCI}:1f.6/net/eth1/speed": "1000\n",
    **{f"{PCI}:1f.6/net/eth1/statistics/{name}": "0\n" for name in (*MISSED, *DAMAGED)},
    "sys/devices/virtual/net/lo/type": "772\n",
    "sys/devices/virtual/net/lo/flags": "0x9\n",
    "sys/devices/virtual/net/lo/mtu": "65536\n",
    "proc/sys/net/ipv4/conf/all/rp_filter": "0\n",
    "proc/sys/net/ipv4/conf/eth1/rp_filter": "2\n",
    "proc/sys/net/core/rmem_max": "33554432\n",
    "proc/sys/net/core/rmem_default": "16777216\n",
    "proc/sys/net/core/netdev_max_backlog": "10000\n",
    "proc/net/route": ROUTE_HEAD + route("eth1", "0005A8C0"),
    "proc/net/snmp": SNMP.format(errors=0, no_room=0, damaged=0),
    "proc/net/softnet_stat": SOFTNET.format(dropped="00000000"),
    "sys/module/usbcore/parameters/usbfs_memory_mb": "1000\n",
    f"{CAMERA}/busnum": "2\n",
    f"{CAMERA}/devnum": "3\n",
    f"{CAMERA}/speed": "5000\n",
    f"{CAMERA}/serial": "4103123456\n",
    f"{CAMERA}/power/control": "on\n",
    f"{CAMERA}/power/autosuspend_delay_ms": "2000\n",
    f"{CAMERA}/2-1:1.0/bInterfaceClass": "ef\n",  # control
    f"{CAMERA}/2-1:1.0/bInterfaceSubClass": "05\n",
    f"{CAMERA}/2-1:1.2/bInterfaceClass": "ef\n",  # streaming
    f"{CAMERA}/2-1:1.2/bInterfaceSubClass": "05\n",
    f"{PCI}:14.0/usb2/2-0:1.0/bInterfaceClass": "09\n",  # a hub
    f"{PCI}:14.0/usb2/2-0:1.0/bInterfaceSubClass": "00\n",
    f"{PCI}:14.0/usb1/1-3/1-3:1.0/bInterfaceClass": "0e\n",  # a webcam
    f"{PCI}:14.0/usb1/1-3/1-3:1.0/bInterfaceSubClass": "01\n",
    NODE: "",
    POLICY.format(0): "performance\n",
    POLICY.format(1): "performance\n",
    **{f"{IDLE.format(cpu, 0)}/{name}": text for cpu in (0, 1) for name, text in idle("POLL", 0).items()},
    **{f"{IDLE.format(cpu, 1)}/{name}": text for cpu in (0, 1) for name, text in idle("C1_ACPI", 1).items()},
}
LINKS = {
    "sys/class/net/eth1": f"{PCI}:1f.6/net/eth1",
    f"{PCI}:1f.6/net/eth1/device": f"{PCI}:1f.6",
    "sys/class/net/lo": "sys/devices/virtual/net/lo",
    "sys/bus/usb/devices/usb2": f"{PCI}:14.0/usb2",
    "sys/bus/usb/devices/2-0:1.0": f"{PCI}:14.0/usb2/2-0:1.0",
    "sys/bus/usb/devices/2-1": CAMERA,
    "sys/bus/usb/devices/2-1:1.0": f"{CAMERA}/2-1:1.0",
    "sys/bus/usb/devices/2-1:1.2": f"{CAMERA}/2-1:1.2",
    "sys/bus/usb/devices/1-3:1.0": f"{PCI}:14.0/usb1/1-3/1-3:1.0",
}


class Machine:
    """A computer with a GigE and a USB3 camera where all is well."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in KERNEL.items():
            self.write(name, text)
        for name, target in LINKS.items():
            link = root / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(root / target, link.parent))

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def interface(self, name: str, has_card: bool = True, **files: str) -> None:
        """An Ethernet interface that is up, with MTU 9000; other files as named."""
        for file, text in ({"type": "1", "flags": "0x1003", "mtu": "9000", "speed": "1000"} | files).items():
            self.write(f"sys/class/net/{name}/{file}", text + "\n")
        for counter in (*MISSED, *DAMAGED):
            self.write(f"sys/class/net/{name}/statistics/{counter}", "0\n")
        self.write(f"proc/sys/net/ipv4/conf/{name}/rp_filter", "0\n")
        if has_card:
            (self.root / "sys/class/net" / name / "device").symlink_to("../../../0000:00:1f.7")

    def findings(self, told: Told = NOT_ASKED, opened: Sequence[OpenedCamera] = ()) -> dict[str, Finding]:
        findings = camera_findings(self.root, told, opened)
        assert_well_formed(findings)
        assert len({finding.check for finding in findings}) == len(findings)
        return {finding.check: finding for finding in findings}


def assert_well_formed(findings: list[Finding]) -> None:
    for finding in findings:
        assert finding.check and finding.found and finding.wanted, finding
        assert (finding.remedy == "") == (finding.status == "ok"), finding
    assert msgspec.json.decode(msgspec.json.encode(findings), type=list[Finding]) == findings


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom permissions hold back; root gives up its power for the time being."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)

"""`inspectd doctor camera`: which settings of this computer break GigE and USB3 cameras, and what cures each.

    ok        as wanted, or only for information
    warn      frames may get lost; or it matters only where a camera hangs, which can't be seen from here
    fail      a camera that is plugged in, or the producer that is configured, can't be used
    skipped   there is nothing to check, or it can't be read

Permissions, limits and environment are those of who asks: ask as the user that runs the daemon.
"""

import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from typing import Literal

import msgspec

Status = Literal["ok", "warn", "fail", "skipped"]


class Finding(msgspec.Struct, frozen=True):
    """One setting, as it is and as it should be; `remedy` is empty exactly when the status is ok."""

    check: str
    status: Status
    found: str
    wanted: str
    remedy: str = ""


LEAST_MTU_BYTES = 9000  # what the camera vendors call jumbo frames
LEAST_GIGE_MBIT_PER_S, LEAST_USB3_MBIT_PER_S = 1000, 5000
LEAST_USBFS_MB = 1000  # Teledyne FLIR's advice; the kernel's own 16 MB hold three pictures of 5 MPixel
LEAST_SYSCTLS = (
    ("net.core.rmem_max", 32 << 20, "bytes"),  # what a producer may ask for its socket: six such pictures
    ("net.core.rmem_default", 16 << 20, "bytes"),  # what it gets if it does not ask; as the next one from Balluff
    ("net.core.netdev_max_backlog", 10_000, "packets"),
)
USB3_VISION = {"bInterfaceClass": "ef", "bInterfaceSubClass": "05"}
ARPHRD_ETHER, IFF_UP = "1", 0x1
PRODUCERS = "GENICAM_GENTL64_PATH"
GRUB = "in GRUB_CMDLINE_LINUX of /etc/default/grub, then sudo update-grub"
UDEV_REMEDY = (
    """sudo groupadd -rf inspectd; sudo usermod -aG inspectd $USER; echo 'SUBSYSTEM=="usb", """
    """ENV{DEVTYPE}=="usb_device", ENV{ID_USB_INTERFACES}=="*:ef0500:*", MODE="0660", GROUP="inspectd"' | sudo """
    "tee /etc/udev/rules.d/70-u3v.rules; sudo udevadm control --reload; sudo udevadm trigger -s usb; log in again"
)
CONTAINER_REMEDY = "run the container with -v /dev/bus/usb:/dev/bus/usb --device-cgroup-rule='c 189:* rmw'"


def camera_findings(root: Path = Path("/")) -> list[Finding]:
    """Check all settings of the computer whose file system begins at `root`. Never raises."""
    return [*_network(root), *_usb(root), _governor(root), *_limits(), *_producers(root)]


def _judged(check: str, good: bool, found: str, wanted: str, remedy: str, bad: Status = "warn") -> Finding:
    return Finding(check, "ok" if good else bad, found, wanted, "" if good else remedy)


def _number(check: str, good: Callable[[int], bool], unit: str, wanted: str, remedy: str, *paths: Path) -> Finding:
    """Judge the number in a file; of several files, the greatest one."""
    try:
        value = max(int(path.read_text(encoding="ascii")) for path in paths)
    except (OSError, ValueError) as error:
        reason, files = getattr(error, "strerror", "no number"), " ".join(quote(str(path)) for path in paths)
        return Finding(check, "skipped", f"{files}: {reason}", wanted, f"on the host: sudo cat {files}")
    return _judged(check, good(value), f"{value} {unit}".rstrip(), wanted, remedy)


def _at_least(check: str, least: int, unit: str, path: Path, remedy: str, note: str = "") -> Finding:
    return _number(check, lambda value: value >= least, unit, f"{least} {unit} or more{note}", remedy, path)


def _text(path: Path) -> str:
    """Text of the file; empty if it can't be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _entries(folder: Path) -> list[Path]:
    """Entries of the folder; none if it can't be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _sysctl_remedy(assignment: str) -> str:
    said = quote(assignment)
    return f"sudo sysctl -w {said}; to keep it: echo {said} | sudo tee -a /etc/sysctl.d/90-inspectd.conf"


def _is_up(interface: Path) -> bool:
    """Whether it is an Ethernet interface (neither loopback nor tunnel) and is not switched off."""
    try:
        flags = int(_text(interface / "flags"), 16)
    except ValueError:
        flags = IFF_UP  # better to check one too many than to be silent
    return bool(flags & IFF_UP) and _text(interface / "type") == ARPHRD_ETHER


def _network(root: Path) -> Iterator[Finding]:
    folder, note = root / "sys/class/net", "; matters only where a GigE camera hangs"
    interfaces = [entry for entry in _entries(folder) if _is_up(entry)]
    if not interfaces:
        remedy = "sudo ip link set dev NAME up; the names: ip link"
        yield Finding("Ethernet", "skipped", f"none is up in {folder}", f"an interface{note}", remedy)
    for interface in interfaces:
        name, said = interface.name, quote(interface.name)
        keep = f"MTUBytes={LEAST_MTU_BYTES} under [Link] of its systemd .network file, or mtu in netplan"
        remedy = f"sudo ip link set dev {said} mtu {LEAST_MTU_BYTES}; to keep it: {keep}"
        yield _at_least(f"{name} MTU", LEAST_MTU_BYTES, "bytes", interface / "mtu", remedy, note)
        if _text(interface / "speed").isdecimal():  # else it has no link, or is virtual and has no speed
            remedy = f"take a Cat 6 cable and a gigabit port, then: sudo ethtool -s {said} autoneg on"
            yield _at_least(f"{name} speed", LEAST_GIGE_MBIT_PER_S, "Mbit/s", interface / "speed", remedy, note)
        # The kernel obeys the greater one. Slashes in the remedy, as the name of a VLAN interface has a dot.
        paths = [root / "proc/sys/net/ipv4/conf" / scope / "rp_filter" for scope in ("all", name)]
        remedy, wanted = _sysctl_remedy(f"net/ipv4/conf/{name}/rp_filter=2"), f"0 or 2{note}"
        yield _number(f"{name} rp_filter", lambda value: value != 1, "", wanted, remedy, *paths)
    for key, least, unit in LEAST_SYSCTLS:
        remedy = _sysctl_remedy(f"{key}={least}")
        yield _at_least(key, least, unit, root / "proc/sys" / key.replace(".", "/"), remedy)


def _usb(root: Path) -> Iterator[Finding]:
    folder = root / "sys/bus/usb/devices"
    interfaces = [e for e in _entries(folder) if all(_text(e / name) == is_ for name, is_ in USB3_VISION.items())]
    devices = sorted({folder / interface.name.partition(":")[0] for interface in interfaces})
    if not devices:
        remedy = "plug the camera in, and look whether `lsusb` shows it"
        yield Finding("USB3 camera", "skipped", f"none in {folder}", "one, where USB3 cameras are used", remedy)
    for device in devices:
        remedy = "plug it into a USB3 port of the computer itself, with a USB3 cable"
        yield _at_least(f"USB {device.name} speed", LEAST_USB3_MBIT_PER_S, "Mbit/s", device / "speed", remedy)
        yield _usb_permission(root, device)
    path, parameter = root / "sys/module/usbcore/parameters/usbfs_memory_mb", "usbcore.usbfs_memory_mb"
    remedy = f"echo {LEAST_USBFS_MB} | sudo tee {path}; to keep it: {parameter}={LEAST_USBFS_MB} {GRUB}"
    wanted = f"{LEAST_USBFS_MB} MB or more, or 0 (no limit)"
    yield _number(parameter, lambda mb: not 0 < mb < LEAST_USBFS_MB, "MB", wanted, remedy, path)


def _usb_permission(root: Path, device: Path) -> Finding:
    check, wanted = f"USB {device.name} permission", "a device that this user may read and write"
    numbers = [_text(device / name) for name in ("busnum", "devnum")]
    if not all(number.isdecimal() for number in numbers):
        return Finding(check, "skipped", f"{device} has no number", wanted, "plug it out and in, then ask again")
    node = root.joinpath("dev/bus/usb", *(number.zfill(3) for number in numbers))
    usable = os.access(node, os.R_OK | os.W_OK, effective_ids=True)
    if usable or os.access(node, os.F_OK, effective_ids=True):
        return _judged(check, usable, str(node), wanted, UDEV_REMEDY, "fail")
    return Finding(check, "fail", f"{node} does not exist", wanted, CONTAINER_REMEDY)


def _governor(root: Path) -> Finding:
    policies = _entries(root / "sys/devices/system/cpu/cpufreq")
    governors = Counter(filter(None, (_text(policy / "scaling_governor") for policy in policies)))
    check, wanted = "CPU governor", "performance on all cores"
    if not governors:
        remedy = "set the BIOS, or the host of this virtual machine, to maximum performance"
        return Finding(check, "skipped", "the frequency can't be set from here", wanted, remedy)
    found = ", ".join(f"{name} on {count}" for name, count in sorted(governors.items()))
    remedy = "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor; to keep it: "
    remedy += f"cpufreq.default_governor=performance {GRUB}"
    return _judged(check, set(governors) == {"performance"}, found, wanted, remedy)


def _limits() -> Iterator[Finding]:
    for name, setting in (("RLIMIT_RTPRIO", "LimitRTPRIO=80"), ("RLIMIT_MEMLOCK", "LimitMEMLOCK=infinity")):
        soft, hard = resource.getrlimit(getattr(resource, name))
        wanted = f"for information: a producer with real-time threads wants {setting} in the systemd unit"
        yield Finding(name, "ok", f"soft {soft}, hard {hard}".replace("-1", "unlimited"), wanted)


def _producers(root: Path) -> Iterator[Finding]:
    folders = [folder for folder in os.environ.get(PRODUCERS, "").split(os.pathsep) if folder]
    wanted = "a folder with .cti files that this user may read"
    if not folders:
        remedy = f"export {PRODUCERS}=FOLDER, or `cti` in the config; cameras of kind sim and folder need neither"
        yield Finding(PRODUCERS, "skipped", "not set", wanted, remedy)
    problems = {folder: _producer_problem(root, Path(folder)) for folder in folders}
    bad: Status = "warn" if "" in problems.values() else "fail"  # with one good folder the daemon can go on
    for folder, problem in problems.items():
        cure = f"install a producer in it and sudo chmod -R a+rX {quote(folder)}, or take it out of {PRODUCERS}"
        yield _judged(f"{PRODUCERS} {folder}", not problem, problem or "readable", wanted, cure, bad)


def _producer_problem(root: Path, folder: Path) -> str:
    """Why the folder gives no producer; empty if it does."""
    try:
        files = [file for file in (root / folder.absolute().relative_to("/")).iterdir() if file.suffix == ".cti"]
    except OSError as error:
        return error.strerror or "can't be read"
    closed = [file.name for file in files if not os.access(file, os.R_OK, effective_ids=True)]
    return f"may not read {', '.join(closed)}" if closed else "" if files else "no .cti file"

"""What keeps a USB3 camera from streaming: its port, its permissions, power saving, the kernel's buffer limit."""

import os
from collections.abc import Iterator
from pathlib import Path

from inspectd.doctor.finding import GRUB, Finding, at_least, entries, judged, number, text

LEAST_USB3_MBIT_PER_S = 5000
LEAST_USBFS_MB = 1000  # Teledyne FLIR's advice; the kernel's own 16 MB hold three pictures of 5 MPixel
USB3_VISION = {"bInterfaceClass": "ef", "bInterfaceSubClass": "05"}
UDEV_REMEDY = (
    """sudo groupadd -rf inspectd; sudo usermod -aG inspectd $USER; echo 'SUBSYSTEM=="usb", """
    """ENV{DEVTYPE}=="usb_device", ENV{ID_USB_INTERFACES}=="*:ef0500:*", MODE="0660", GROUP="inspectd"' | sudo """
    "tee /etc/udev/rules.d/70-u3v.rules; sudo udevadm control --reload; sudo udevadm trigger -s usb; log in again"
)
POWER_REMEDY = (
    """echo 'ACTION=="add", SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ENV{ID_USB_INTERFACES}=="*:ef0500:*", """
    """ATTR{power/control}="on"' | sudo tee /etc/udev/rules.d/71-u3v-power.rules; sudo udevadm control --reload"""
)
CONTAINER_REMEDY = "run the container with -v /dev/bus/usb:/dev/bus/usb --device-cgroup-rule='c 189:* rmw'"


def usb_cameras(root: Path) -> list[Path]:
    """Folders of the USB3 Vision devices below /sys/bus/usb/devices."""
    folder = root / "sys/bus/usb/devices"
    interfaces = [e for e in entries(folder) if all(text(e / name) == is_ for name, is_ in USB3_VISION.items())]
    return sorted({folder / interface.name.partition(":")[0] for interface in interfaces})


def usb_findings(root: Path) -> Iterator[Finding]:
    """Check each USB3 camera that is plugged in, and the limit that all share."""
    devices = usb_cameras(root)
    if not devices:
        remedy, found = (
            "plug the camera in, and look whether `lsusb` shows it",
            f"none in {root / 'sys/bus/usb/devices'}",
        )
        yield Finding("USB3 camera", "skipped", found, "one, where USB3 cameras are used", remedy)
    for device in devices:
        remedy = "plug it into a USB3 port of the computer itself, with a USB3 cable"
        yield at_least(f"USB {device.name} speed", LEAST_USB3_MBIT_PER_S, "Mbit/s", device / "speed", remedy)
        yield _permission(root, device)
        yield _autosuspend(device)
    path, parameter = root / "sys/module/usbcore/parameters/usbfs_memory_mb", "usbcore.usbfs_memory_mb"
    remedy = f"echo {LEAST_USBFS_MB} | sudo tee {path}; to keep it: {parameter}={LEAST_USBFS_MB} {GRUB}"
    wanted = f"{LEAST_USBFS_MB} MB or more, or 0 (no limit)"
    yield number(parameter, lambda mb: not 0 < mb < LEAST_USBFS_MB, "MB", wanted, remedy, path)


def _permission(root: Path, device: Path) -> Finding:
    check, wanted = f"USB {device.name} permission", "a device that this user may read and write"
    numbers = [text(device / name) for name in ("busnum", "devnum")]
    if not all(number.isdecimal() for number in numbers):
        return Finding(check, "skipped", f"{device} has no number", wanted, "plug it out and in, then ask again")
    node = root.joinpath("dev/bus/usb", *(number.zfill(3) for number in numbers))
    usable = os.access(node, os.R_OK | os.W_OK, effective_ids=True)
    if usable or os.access(node, os.F_OK, effective_ids=True):
        return judged(check, usable, str(node), wanted, UDEV_REMEDY, "fail")
    return Finding(check, "fail", f"{node} does not exist", wanted, CONTAINER_REMEDY)


def _autosuspend(device: Path) -> Finding:
    """Whether the kernel may switch the device off while no program has it open; a negative delay means never."""
    check, path = f"USB {device.name} autosuspend", device / "power/control"
    wanted = "on (never switched off): a camera that slept may be gone when it is opened"
    control, delay_ms = text(path), text(device / "power/autosuspend_delay_ms")
    if control not in ("on", "auto"):
        return Finding(check, "skipped", f"{path} is not readable", wanted, f"on the host: sudo cat {path}")
    found = f"auto, after {delay_ms or '?'} ms" if control == "auto" else control
    remedy = f"echo on | sudo tee {path}; to keep it: {POWER_REMEDY}"
    return judged(check, control == "on" or delay_ms.startswith("-"), found, wanted, remedy)

"""The cameras that GenTL producers list, through harvesters; the only file that imports it."""

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

# At its import harvesters would ask git for its own version, of whatever repository lies around its files.
sys.modules["harvesters._version"] = SimpleNamespace(get_versions=lambda: {"version": ""})  # type: ignore[assignment]
from harvesters.core import Harvester, ImageAcquirer
from harvesters.util import pfnc

from inspectd.acquire.genicam.features import SDK_ERRORS, said_as, say_once, shown
from inspectd.runtime.errors import CameraError

__all__ = ["PIXEL_FORMATS", "Device", "ImageAcquirer", "chosen", "device_of", "list_devices", "load"]
OPENS = ("read/write", "unknown")
"""Access of a device that can be opened, best first."""
PIXEL_FORMATS: dict[int, str] = pfnc.dict_by_ints
"""PFNC names by code."""


class Device(NamedTuple):
    """A camera that a producer lists."""

    producer: str
    vendor: str
    model: str
    serial: str
    user_id: str
    access: str
    interface: str


def load(paths: list[Path]) -> Harvester:
    """Load producers into a harvester and list their devices; one that is none is refused (it would only log).

    Raises CameraError, or one of SDK_ERRORS.
    """
    harvester = Harvester()
    for path in paths:
        try:
            loaded = ctypes.CDLL(str(path))
            loaded.GCInitLib  # noqa: B018  (a symbol that every producer has)
        except (OSError, AttributeError) as error:
            raise CameraError(f"{path} is not a GenTL producer that can be loaded: {error}") from None
        harvester.add_file(str(path))
    harvester.update()
    return harvester


def list_devices(paths: list[Path]) -> list[Device]:
    """List all cameras of these producers. Loads them into this process: run it in a child."""
    with said_as("the cameras can't be listed"):
        harvester = load(paths)
        try:
            return [device_of(info) for info in harvester.device_info_list]
        finally:
            harvester.reset()


def device_of(info: Any) -> Device:
    """What a producer says of a device."""

    def text(name: str) -> str:
        try:
            return shown(str(getattr(info, name)))
        except SDK_ERRORS:
            return ""

    def interface() -> str:
        try:
            return shown(str(info.parent.module.id_))
        except SDK_ERRORS:
            return ""

    access = {1: "read/write", 2: "read only", 3: "no access", 4: "in use", 5: "open", 6: "open, read only"}
    status = text("access_status")
    return Device(
        text("id_"), text("vendor"), text("model"), text("serial_number"), text("user_defined_name"),
        access.get(int(status), "unknown") if status.isdecimal() else "unknown", interface(),
    )  # fmt: skip


def chosen(listed: list[Device]) -> int | None:
    """Index of the entry to open, of those of one camera; None if there is none, or they are several cameras.

    A camera that is seen through several interfaces, or listed twice, has an entry each; not each can be opened.
    """
    if len({(device.vendor, device.model, device.serial) for device in listed}) != 1:
        return None
    if len(listed) > 1 and not listed[0].serial:
        return None
    ranks = [OPENS.index(device.access) if device.access in OPENS else len(OPENS) for device in listed]
    best = ranks.index(min(ranks))
    if len(listed) > 1:
        through = ", ".join(device.interface for device in listed)
        say_once(
            "the camera is listed several times; name its `interface` to choose another entry",
            serial=listed[best].serial, listed=through, chosen=listed[best].interface,
        )  # fmt: skip
    return best

"""Cameras of the config that were opened, and what their features say of how they send."""

from ipaddress import IPv4Address
from typing import Any

from msgspec import Struct

RATES_HZ = ("AcquisitionResultingFrameRate", "ResultingFrameRate", "AcquisitionFrameRate")
"""Names for the rate of a camera in free run, the truest first."""
PACKET_HEADERS_BYTES, WIRE_BYTES = 36, 38
"""What of a packet's size is no picture (IP, UDP and GVSP headers), and what goes over the wire beside it."""
MOST = 1e18
"""No feature that is looked at can be greater."""


class OpenedCamera(Struct, frozen=True):
    """A camera of the config that was opened and set up; or why it could not be."""

    name: str
    features: dict[str, Any] = {}
    """Value of each feature by SFNC name."""
    limits: dict[str, float] = {}
    """Greatest value of each number among them, as far as the camera says."""
    rate_hz: float | None = None
    """Pictures per second by the config; None if something outside decides it, or the camera's own setting."""
    is_free_run: bool = False
    is_simulated: bool = False
    trouble: str = ""


def address_of(camera: OpenedCamera, name: str = "GevCurrentIPAddress") -> str:
    """The IPv4 address, or mask, that a GigE camera has now; empty for any other camera."""
    value = number_of(camera, name)
    return str(IPv4Address(int(value))) if 1 <= value < 1 << 32 else ""


def number_of(camera: OpenedCamera, name: str) -> float:
    """Value of a feature that is a number above 0; else 0."""
    value = camera.features.get(name)
    return float(value) if isinstance(value, int | float) and 0 < value < MOST else 0.0


def payload_bytes(camera: OpenedCamera) -> float:
    """Bytes of a picture."""
    return number_of(camera, "PayloadSize")


def rate_hz_of(camera: OpenedCamera) -> float | None:
    """Pictures per second; None if something outside decides it."""
    own = next((rate for name in RATES_HZ if (rate := number_of(camera, name)) > 0), None)
    return camera.rate_hz or (own if camera.is_free_run else None)


def limit_of(camera: OpenedCamera) -> float | None:
    """Bytes per second that the camera holds itself to; None without a limit."""
    is_on = camera.features.get("DeviceLinkThroughputLimitMode", "On") == "On"
    return number_of(camera, "DeviceLinkThroughputLimit") or None if is_on else None


def needs_of(camera: OpenedCamera) -> float | None:
    """Bytes of pictures per second; None if nobody knows the rate."""
    rate_hz = rate_hz_of(camera)
    return None if rate_hz is None else payload_bytes(camera) * rate_hz


def expansion_of(camera: OpenedCamera) -> float:
    """Bytes on the link for each byte of a picture."""
    size = packet_size_of(camera)
    if size > PACKET_HEADERS_BYTES:
        return (size + WIRE_BYTES) / (size - PACKET_HEADERS_BYTES)
    return 1.0


def packet_size_of(camera: OpenedCamera) -> float:
    """Bytes of an IP packet with a piece of a picture; 0 for a camera that has none."""
    return number_of(camera, "GevSCPSPacketSize") or number_of(camera, "DeviceStreamChannelPacketSize")

"""Whether the pictures of open cameras fit through their links, and travel there as they should."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import NamedTuple

from inspectd.doctor.finding import Finding, judged
from inspectd.doctor.gige import persistence
from inspectd.doctor.interfaces import Interface
from inspectd.doctor.opened import (
    PACKET_HEADERS_BYTES,
    WIRE_BYTES,
    OpenedCamera,
    address_of,
    expansion_of,
    limit_of,
    needs_of,
    number_of,
    packet_size_of,
    payload_bytes,
    rate_hz_of,
)

MOST_LOAD = 0.9
"""Most of a link that pictures may take: packets sent once more, and the other way, need the rest."""
USB3_SHARE = 0.64
"""What pictures can have of a USB3 link's bits: 400 of 625 MB/s at 5 Gbit/s."""
NEAR_SIZE = 0.9
SIZE_STEP_BYTES = 8


class CameraLink(NamedTuple):
    """What pictures travel over."""

    name: str
    bytes_per_s: float
    mtu_bytes: int | None = None


def opened_findings(
    cameras: Sequence[OpenedCamera],
    cards: Sequence[Interface],
    usb_links: Mapping[str, CameraLink],
    seen: Sequence[str] = (),
) -> Iterator[Finding]:
    """Judge what opened cameras tell. `usb_links`: by the serial number of the USB device, the port it is on.
    `seen`: addresses of cameras whose persistence was judged already.
    """
    sharing: dict[CameraLink, list[OpenedCamera]] = {}
    for camera in cameras:
        yield _camera(camera)
        if camera.trouble or camera.is_simulated:
            continue
        if (link := _link(camera, cards, usb_links)) is None:
            yield _no_link(camera)
        else:
            sharing.setdefault(link, []).append(camera)
    for link, those in sharing.items():
        for camera in those:
            yield from _stream(camera, link, those)
        yield _load(link, those)
    for camera in cameras:
        address, features = address_of(camera), camera.features
        if address and address not in seen and "GevCurrentIPConfigurationPersistentIP" in features:
            mask = address_of(camera, "GevCurrentSubnetMask") or "255.255.255.0"
            is_dhcp = bool(features.get("GevCurrentIPConfigurationDHCP"))
            is_persistent = bool(features["GevCurrentIPConfigurationPersistentIP"])
            yield persistence(f"camera {camera.name}", address, mask, is_persistent, is_dhcp)


def _camera(camera: OpenedCamera) -> Finding:
    """That it could be opened, and how much it sends."""
    check, wanted = f"camera {camera.name}", "a camera that can be opened"
    if camera.trouble:
        remedy = (
            "if the daemon has it open, stop that first; else see who is there: inspectd cameras -c config.toml"
        )
        return Finding(check, "warn", camera.trouble, wanted, remedy)
    return Finding(check, "ok", f"opened, {_sends(camera)}", wanted)


def _sends(camera: OpenedCamera) -> str:
    picture, rate_hz = f"{payload_bytes(camera) / 1e6:.3g} MB a picture", rate_hz_of(camera)
    return picture if rate_hz is None else f"{picture}, {rate_hz:.4g} a second"


def _no_link(camera: OpenedCamera) -> Finding:
    address = address_of(camera)
    found = f"{address}, in the network of no interface" if address else "not known from its features"
    remedy = "give an interface and the camera addresses of one network, or hang the camera on the computer itself"
    wanted = "a link whose load can be told"
    return Finding(f"camera {camera.name} link", "warn" if address else "skipped", found, wanted, remedy)


def _link(
    camera: OpenedCamera, cards: Sequence[Interface], usb_links: Mapping[str, CameraLink]
) -> CameraLink | None:
    """The link of a camera; None if it can't be told from its features."""
    if address := address_of(camera):
        near = [card for card in cards if any(IPv4Address(address) in network for network in card.networks)]
        if near and (speed := near[0].speed_mbit_per_s):
            return CameraLink(near[0].name, speed * 1e6 / 8, near[0].mtu_bytes)
        return CameraLink(near[0].name, 1e9 / 8, near[0].mtu_bytes) if near else None
    serials = [str(camera.features.get(name, "")) for name in ("DeviceSerialNumber", "DeviceID")]
    known = [usb_links[serial] for serial in serials if serial in usb_links]
    return known[0] if known else None


# ---- one camera ----


def _stream(camera: OpenedCamera, link: CameraLink, sharing: Sequence[OpenedCamera]) -> Iterator[Finding]:
    if packet_size_of(camera):
        yield _size_finding(camera, link)
    if "GevSCPD" in camera.features:
        yield _delay_finding(camera, link, sharing)
    if limit := limit_of(camera):
        yield _limit_finding(camera, limit)


def _set(camera: OpenedCamera, name: str, value: int) -> str:
    return f"{name} = {value} under [camera.{camera.name}.features] of the recipe"


def _size_finding(camera: OpenedCamera, link: CameraLink) -> Finding:
    """Packets as large as the link takes: each has its headers, and costs the computer the same."""
    name = "GevSCPSPacketSize" if number_of(camera, "GevSCPSPacketSize") else "DeviceStreamChannelPacketSize"
    size, mtu = packet_size_of(camera), link.mtu_bytes or 1500
    most = int(min(mtu, camera.limits.get(name, mtu))) // SIZE_STEP_BYTES * SIZE_STEP_BYTES
    found = f"{size:.0f} bytes, {link.name} takes {mtu}"
    wanted = f"about {most} bytes: smaller ones cost more of link and CPU, larger ones don't arrive"
    wanted += " (before the start; some producers raise it then)"
    good = NEAR_SIZE * most <= size <= mtu
    return judged(f"camera {camera.name} packet size", good, found, wanted, _set(camera, name, most))


def _delay_finding(camera: OpenedCamera, link: CameraLink, sharing: Sequence[OpenedCamera]) -> Finding:
    """Pauses between packets: long enough that cameras on one link don't collide in the switch, and short enough
    for all pictures.
    """
    check, ticks = f"camera {camera.name} packet delay", number_of(camera, "GevSCPD")
    tick_hz, size = number_of(camera, "GevTimestampTickFrequency"), packet_size_of(camera)
    if not tick_hz or not size:
        remedy = "compare it with the camera's manual"
        found, wanted = f"{ticks:.0f} ticks of unknown length", "a delay that can be judged"
        return Finding(check, "skipped", found, wanted, remedy)
    sent_s = (size + WIRE_BYTES) / _speed(camera, link)
    apart_s = sum(_speed(other, link) for other in sharing) / link.bytes_per_s * sent_s
    longest_s = (size - PACKET_HEADERS_BYTES) * MOST_LOAD / needs if (needs := needs_of(camera)) else float("inf")
    is_held = all(limit_of(other) for other in sharing)  # then the load says whether it fits
    least_s = 0.0 if is_held or len(sharing) == 1 else max(0.0, min(apart_s, longest_s) - sent_s)
    most_s = max(0.0, longest_s - sent_s)
    delay_s = ticks / tick_hz
    found, wanted, advised_s = f"{ticks:.0f} ticks, {delay_s * 1e6:.1f} us", f"{least_s * 1e6:.1f} us or more", 0.0
    is_short = delay_s < NEAR_SIZE * least_s
    is_long = delay_s > 0 and (sent_s + delay_s) * MOST_LOAD > longest_s
    if is_short:
        advised_s = least_s
        wanted += f": {len(sharing)} cameras share {link.name}, and their packets collide"
    elif is_long:
        advised_s = most_s
        wanted = f"at most {most_s * 1e6:.1f} us: else pictures don't get through"
    remedy = _set(camera, "GevSCPD", int(advised_s * tick_hz))
    return judged(check, not (is_short or is_long), found, wanted, remedy)


def _speed(camera: OpenedCamera, link: CameraLink) -> float:
    """Bytes per second at which a camera sends a packet: its own link may be slower than the computer's."""
    own = number_of(camera, "GevLinkSpeed") * 1e6 / 8 or number_of(camera, "DeviceLinkSpeed") or link.bytes_per_s
    return min(own, link.bytes_per_s)


def _limit_finding(camera: OpenedCamera, limit: float) -> Finding:
    needs = (needs_of(camera) or 0) * expansion_of(camera)
    found = f"{limit / 1e6:.1f} MB/s"
    wanted = f"{needs / 1e6:.1f} MB/s or more, for {_sends(camera)}: else frames come late, or not at all"
    remedy = _set(camera, "DeviceLinkThroughputLimit", int(needs / MOST_LOAD))
    return judged(f"camera {camera.name} throughput limit", limit >= needs, found, wanted, remedy)


# ---- all cameras of a link ----


def _load(link: CameraLink, sharing: Sequence[OpenedCamera]) -> Finding:
    """The sum of what the cameras of a link send, against what it carries."""
    check, carries = f"{link.name} load", MOST_LOAD * link.bytes_per_s
    loads = [_needed_on_link(camera) for camera in sharing]
    known = sum(load for load in loads if load is not None)
    names = ", ".join(camera.name for camera in sharing)
    found = f"{known / 1e6:.1f} MB/s by {names}"
    wanted = f"{carries / 1e6:.0f} MB/s or less: what a link can't carry is lost or late"
    remedy = "lower rates, a smaller Width and Height, Mono8 or Bayer instead of RGB8, or a link for each camera"
    unknown = [camera for camera, load in zip(sharing, loads, strict=True) if load is None]
    if known > carries or not unknown:
        return judged(check, known <= carries, found, wanted, remedy)
    first, left = unknown[0], (carries - known) / len(unknown)
    most_hz = left / max(1.0, payload_bytes(first) * expansion_of(first))
    found += f", where the rate of {', '.join(camera.name for camera in unknown)} is not known"
    return Finding(check, "skipped", found, wanted, f"keep {first.name} below {most_hz:.3g} pictures a second")


def _needed_on_link(camera: OpenedCamera) -> float | None:
    needs, limit = needs_of(camera), limit_of(camera)
    if needs is None:
        return limit
    return min(needs * expansion_of(camera), limit or float("inf"))

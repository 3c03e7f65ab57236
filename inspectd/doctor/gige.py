"""GigE cameras on the wire: who answers the question that every producer asks too, and at which address.

A camera answers even where its address fits no network of this computer; then no producer can open it.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from shlex import quote

from msgspec import Struct

from inspectd.doctor.finding import NOTE, Finding, judged
from inspectd.doctor.interfaces import Interface

GVCP_PORT = 3956
ASKED_ID = 0x6964
DISCOVERY = struct.pack(">BBHHH", 0x42, 0x11, 0x0002, 0, ASKED_ID)
"""GigE Vision control: key, flags (answer me, by broadcast if you must), command, length of what follows, id."""
DISCOVERY_ACK, ACK_BYTES = 0x0003, 248
PERSISTENT, DHCP = 0x1, 0x2
PATIENCE_S = 1.2
"""A camera may take a second for its answer."""
MOST_CAMERAS = 256
_OTHER_ADDRESS = "give the camera another address of the interface's network with its vendor's tool"


class GigeCamera(Struct, frozen=True):
    """What a camera says of itself."""

    interface: str
    """Name of the interface that the answer came by."""
    address: str
    mask: str
    name: str
    """Vendor, model and serial number."""
    is_persistent: bool
    """Whether it is set to begin with an address of its own."""
    asks_dhcp: bool


class GigeAnswers(Struct, frozen=True):
    """Who answered; or why nobody could be asked."""

    cameras: tuple[GigeCamera, ...] = ()
    unknown: str = ""


def ask_cameras(names: Sequence[str], port: int = GVCP_PORT, to: str = "255.255.255.255") -> GigeAnswers:
    """Ask on each of these interfaces who is there, and wait for all answers."""
    sockets: dict[str, socket.socket] = {}
    found: dict[tuple[str, str], GigeCamera] = {}
    try:
        for name in names:
            asking = sockets[name] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(name))
            asking.bind(("", 0))
            asking.setblocking(False)
            asking.sendto(DISCOVERY, (to, port))
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s and len(found) < MOST_CAMERAS:
            time.sleep(0.05)
            for camera in (camera for name, asking in sockets.items() for camera in _heard(name, asking)):
                found[camera.interface, camera.name] = camera
    except PermissionError:
        return GigeAnswers(unknown="cameras can't be asked on each interface without root by this kernel")
    except OSError as error:
        return GigeAnswers(unknown=f"cameras can't be asked: {error}")
    finally:
        for asking in sockets.values():
            asking.close()
    return GigeAnswers(tuple(found.values()))


def _heard(name: str, asking: socket.socket) -> Iterator[GigeCamera]:
    """Answers that came by now, a bounded number of them."""
    for _ in range(MOST_CAMERAS):
        try:
            said = asking.recv(2048)
        except OSError:
            return
        if camera := read_answer(name, said):
            yield camera


def read_answer(interface: str, said: bytes) -> GigeCamera | None:
    """A camera's answer; None for anything else."""
    if len(said) < 8 + ACK_BYTES:
        return None
    status, answer, _, number = struct.unpack_from(">HHHH", said)
    if (status, answer, number) != (0, DISCOVERY_ACK, ASKED_ID):
        return None
    body = said[8:]

    def words(at: int, size: int) -> str:
        return "".join(c for c in body[at : at + size].split(b"\0")[0].decode(errors="replace") if c.isprintable())

    (configured,) = struct.unpack_from(">I", body, 0x14)
    address, mask = (str(IPv4Address(body[at : at + 4])) for at in (0x24, 0x34))
    name = " ".join(filter(None, (words(at, size).strip() for at, size in ((0x48, 32), (0x68, 32), (0xD8, 16)))))
    is_persistent, asks_dhcp = bool(configured & PERSISTENT), bool(configured & DHCP)
    return GigeCamera(interface, address, mask, name or "nameless", is_persistent, asks_dhcp)


def gige_findings(cards: Sequence[Interface], answers: GigeAnswers) -> Iterator[Finding]:
    """Whether each camera that answers can be reached, and will be after the next power cut."""
    if not answers.cameras:
        found = answers.unknown or "none answers"
        remedy = (
            "plug it in; see whether a firewall hides it, above; a camera of another network is heard only after: "
        )
        remedy += "sudo sysctl -w net.ipv4.conf.all.rp_filter=0 net/ipv4/conf/NAME/rp_filter=0"
        yield Finding("GigE camera", "skipped", found, "an answer from each, where GigE cameras are used", remedy)
    by_name = {card.name: card for card in cards}
    for camera in answers.cameras:
        address = IPv4Address(camera.address)
        card = by_name.get(camera.interface)
        networks = card.networks if card else ()
        others = [other.name for other in cards if other is not card and any(address in n for n in other.networks)]
        is_near = any(address in network for network in networks)
        found = f"{address} on {camera.interface}, which has {', '.join(map(str, networks)) or 'no IPv4 address'}"
        if others and not is_near:
            found += f"; {', '.join(others)} has that network"
        twins = [other.name for other in answers.cameras if other.address == camera.address and other != camera]
        found += "".join(f"; {name} has the same address" for name in twins)
        wanted = "an address of its own in the network of its interface: else it is seen, and can't be opened"
        check, remedy = f"GigE {camera.name}", _OTHER_ADDRESS if is_near else _subnet_remedy(camera)
        yield judged(f"{check} address", is_near and not twins, found, wanted, remedy, "fail")
        yield persistence(check, camera.address, camera.mask, camera.is_persistent, camera.asks_dhcp)


def _subnet_remedy(camera: GigeCamera) -> str:
    """An address for the interface, beside those that it has, in the network of the camera."""
    try:
        network = IPv4Network(f"{camera.address}/{camera.mask}", strict=False)
        free = next(str(host) for host in network.hosts() if str(host) != camera.address)
        said = f"{free}/{network.prefixlen}"
    except (ValueError, StopIteration):
        said = "ADDRESS/BITS"
    keep = f"to keep it: Address={said} under [Network] of the systemd .network file, or netplan"
    return f"sudo ip address add {said} dev {quote(camera.interface)}; {keep}; or {_OTHER_ADDRESS}"


def persistence(check: str, address: str, mask: str, is_persistent: bool, asks_dhcp: bool) -> Finding:
    """Whether a camera begins with the same address after each power cut."""
    found = "persistent" if is_persistent else "from DHCP" if asks_dhcp else "chosen by itself (169.254…)"
    wanted = f"persistent: any other may be new after a power cut, and takes a while{NOTE}"
    said = f"GevPersistentIPAddress = {int(IPv4Address(address))}"
    said += f", GevPersistentSubnetMask = {int(IPv4Address(mask))}"
    remedy = (
        "under [camera.NAME.features] of the recipe, for one start of the daemon (or with the vendor's tool): "
    )
    remedy += f"{said}, GevCurrentIPConfigurationPersistentIP = true"
    return judged(f"{check} IP persistence", is_persistent, found, wanted, remedy)

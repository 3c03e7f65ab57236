"""The Ethernet interfaces that a camera can hang on, and their IPv4 networks."""

import os
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import NamedTuple

from inspectd.doctor.finding import entries, text

ARPHRD_ETHER, IFF_UP = "1", 0x1
RTF_UP, RTF_GATEWAY = 0x1, 0x2
MOST_LAYERS = 4
"""A VLAN on a bond on a card has three."""


class Interface(NamedTuple):
    """An Ethernet interface that is up and ends at a card, directly or as bridge, bond or VLAN."""

    name: str
    folder: Path
    """Its folder below /sys/class/net."""
    networks: tuple[IPv4Network, ...]
    """The IPv4 networks that it reaches without a router."""

    @property
    def speed_mbit_per_s(self) -> int | None:
        """Speed of the link; None without a link, or where the interface has none."""
        said = text(self.folder / "speed")
        return int(said) if said.isdecimal() and len(said) < 9 and int(said) else None

    @property
    def mtu_bytes(self) -> int | None:
        """Largest IP packet that it sends and takes in one piece; None if not told."""
        said = text(self.folder / "mtu")
        return int(said) if said.isdecimal() and len(said) < 9 else None


def interfaces(root: Path) -> list[Interface]:
    """Those of the computer whose file system begins at `root`.

    Loopback, tunnels, Wi-Fi and what only programs hang on (docker0, veth, virbr0 and the like) are left out.
    """
    networks = _networks(root)
    found = [folder for folder in entries(root / "sys/class/net") if _is_up(folder) and _has_card(folder)]
    return [Interface(folder.name, folder, tuple(networks.get(folder.name, ()))) for folder in found]


def _is_up(folder: Path) -> bool:
    """Whether it is an Ethernet interface and is not switched off."""
    try:
        flags = int(text(folder / "flags"), 16)
    except ValueError:
        flags = IFF_UP  # better to check one too many than to be silent
    return bool(flags & IFF_UP) and text(folder / "type") == ARPHRD_ETHER


def _has_card(folder: Path, layers: int = MOST_LAYERS) -> bool:
    """Whether a card is below it. A virtual interface has no link `device`, but `lower_NAME` of what it is on."""
    if os.path.lexists(folder / "device"):
        return not os.path.lexists(folder / "phy80211")
    lower = [entry.name.removeprefix("lower_") for entry in entries(folder) if entry.name.startswith("lower_")]
    return layers > 0 and any(_has_card(folder.parent / name, layers - 1) for name in lower)


def _networks(root: Path) -> dict[str, list[IPv4Network]]:
    """IPv4 networks by interface, from the kernel's routes that need no router."""
    found: dict[str, list[IPv4Network]] = {}
    for line in text(root / "proc/net/route").splitlines()[1:]:
        try:
            name, destination, gateway, flags, _, _, _, mask, *_ = line.split()
            is_direct = int(flags, 16) & (RTF_UP | RTF_GATEWAY) == RTF_UP and int(gateway, 16) == 0
            network = IPv4Network((str(_address(destination)), str(_address(mask))))
        except (ValueError, OverflowError):
            continue
        if is_direct and 0 < network.prefixlen < 32 and network not in found.setdefault(name, []):
            found[name].append(network)
    return found


def _address(digits: str) -> IPv4Address:
    """An address as the kernel prints it: the four bytes as one number of this computer's byte order."""
    return IPv4Address(int(digits, 16).to_bytes(4, sys.byteorder))

"""Receive ring and interrupt moderation of a network card, asked of its driver as the program ethtool does."""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from fcntl import ioctl
from shlex import quote

from msgspec import Struct

from inspectd.doctor.finding import NOTE, Finding, judged

SIOCETHTOOL, GET_COALESCE, GET_RING = 0x8946, 0x0E, 0x10
MOST_WAIT_US = 1000
"""Longest that a card may keep a packet to itself: more is a good part of what a deadline leaves."""
ADVISED_WAIT_US = 64


class NetworkCard(Struct, frozen=True):
    """What a driver says of its card; None where it does not know the thing at all."""

    ring: int | None = None
    """Places for packets that came and were not fetched yet."""
    ring_max: int = 0
    wait_us: int | None = None
    """Time in us after a packet until the card interrupts the computer; 0 = at once."""
    is_adaptive: bool = False
    """Whether driver and card choose `wait_us` by themselves, by the traffic."""


def ask_card(name: str) -> NetworkCard:
    """Ask the driver of an interface of this computer. Needs no rights."""
    ring, coalesce = _ask(name, GET_RING, 9), _ask(name, GET_COALESCE, 23)
    return NetworkCard(
        ring=ring[5] if ring and ring[1] else None,
        ring_max=ring[1] if ring else 0,
        wait_us=coalesce[1] if coalesce else None,
        is_adaptive=bool(coalesce and coalesce[10]),
    )


def _ask(name: str, command: int, words: int) -> tuple[int, ...]:
    """The driver's answer: a struct of so many u32, of which the first is the command. Empty if it has none."""
    answer = ctypes.create_string_buffer(struct.pack("=I", command), 4 * words)
    request = struct.pack("16sP16x", os.fsencode(name), ctypes.addressof(answer))  # struct ifreq
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            ioctl(any_socket, SIOCETHTOOL, request)
    except OSError:
        return ()
    return struct.unpack(f"={words}I", answer.raw)


def card_findings(name: str, card: NetworkCard) -> Iterator[Finding]:
    """Judge what a driver says. What it does not know is no finding."""
    said = quote(name)
    keep = f"to keep it: %s under [Link] of a systemd .link file that matches {said}"
    if card.ring is not None:
        remedy = f"sudo ethtool -G {said} rx {card.ring_max}; {keep % f'RxBufferSize={card.ring_max}'}"
        wanted = f"{card.ring_max}, all that the card has: a full ring is a hole in a picture{NOTE}"
        found = f"{card.ring} places"
        yield judged(f"{name} receive ring", card.ring >= card.ring_max, found, wanted, remedy)
    if card.wait_us is not None:
        set_ = f"sudo ethtool -C {said} adaptive-rx off rx-usecs {ADVISED_WAIT_US}"
        remedy = f"{set_}; {keep % f'RxCoalesceSec={ADVISED_WAIT_US}us'}; a virtual card may have none to set"
        wanted = f"adaptive, or 1 to {MOST_WAIT_US} us: 0 interrupts for each packet, more comes late{NOTE}"
        good, found = card.is_adaptive or 0 < card.wait_us <= MOST_WAIT_US, f"{card.wait_us} us"
        found = f"adaptive, now {found}" if card.is_adaptive else found
        yield judged(f"{name} interrupt moderation", good, found, wanted, remedy)

"""`inspectd doctor camera`: which settings of this computer break GigE and USB3 cameras, and what cures each.

    ok        as wanted, or only for information
    warn      frames may get lost; or it matters only where a camera hangs, which can't be seen from here
    fail      a camera that is plugged in, or the producer that is configured, can't be used
    skipped   there is nothing to check, or it can't be read

Permissions, limits and environment are those of who asks: ask as the user that runs the daemon. Nothing needs
root; what only root may read is skipped, and says so.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from inspectd.doctor.ethtool import NetworkCard, ask_card, card_findings
from inspectd.doctor.finding import Finding, text
from inspectd.doctor.firewall import Firewall, firewall_findings
from inspectd.doctor.gige import GigeAnswers, ask_cameras, gige_findings
from inspectd.doctor.host import host_findings
from inspectd.doctor.interfaces import interfaces
from inspectd.doctor.links import USB3_SHARE, CameraLink, opened_findings
from inspectd.doctor.network import network_findings
from inspectd.doctor.opened import OpenedCamera
from inspectd.doctor.rulesets import ask_firewall
from inspectd.doctor.usb import usb_cameras, usb_findings


class Told(Struct, frozen=True):
    """What stands in no file of a kernel, but is told to who asks; None = nobody was asked."""

    cards: dict[str, NetworkCard] = {}
    firewall: Firewall | None = None
    answers: GigeAnswers | None = None


NOT_ASKED = Told()


def ask_here() -> Told:
    """Ask drivers, firewall and cameras of this computer. Takes a second or two."""
    names = [card.name for card in interfaces(Path("/"))]
    return Told({name: ask_card(name) for name in names}, ask_firewall(), ask_cameras(names))


def camera_findings(
    root: Path = Path("/"), told: Told = NOT_ASKED, opened: Sequence[OpenedCamera] = ()
) -> list[Finding]:
    """Check all settings of the computer whose file system begins at `root`. Never raises."""
    cards = interfaces(root)
    findings = list(network_findings(root, cards))
    for name, card in told.cards.items():
        findings += card_findings(name, card)
    if told.firewall is not None:
        findings += firewall_findings(root, cards, told.firewall)
    if told.answers is not None:
        findings += gige_findings(cards, told.answers)
    findings += usb_findings(root)
    seen = [camera.address for camera in told.answers.cameras] if told.answers else []
    findings += opened_findings(opened, cards, _usb_links(root), seen)
    return [*findings, *host_findings(root)]


def _usb_links(root: Path) -> dict[str, CameraLink]:
    """The port that each USB3 camera hangs on, by serial number. Cameras behind a hub share one."""
    links = {}
    for device in usb_cameras(root):
        port = device.parent / device.name.partition(".")[0]  # 2-1.4 hangs on the hub 2-1
        serial, speed = text(device / "serial"), text(port / "speed")
        if serial and speed.isdecimal() and len(speed) < 9:
            links[serial] = CameraLink(f"USB {port.name}", int(speed) * 1e6 / 8 * USB3_SHARE)
    return links

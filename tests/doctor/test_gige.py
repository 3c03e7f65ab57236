"""What GigE cameras answer, over real sockets; and what is said of their addresses."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest

from inspectd.doctor import gige
from inspectd.doctor.camera import Told
from inspectd.doctor.finding import Finding
from inspectd.doctor.gige import ASKED_ID, GigeAnswers, GigeCamera, ask_cameras, read_answer
from tests.doctor.machine import ROUTE_HEAD, Machine, route, unprivileged

HEAD = struct.Struct(">HHHH")


def answer(
    address: str = "192.168.5.20", mask: str = "255.255.255.0", configured: int = 5, serial: str = "17"
) -> bytes:
    """The answer of a camera, as GigE Vision lays it out."""
    body = bytearray(248)
    struct.pack_into(">I", body, 0x14, configured)
    body[0x24:0x28], body[0x34:0x38] = IPv4Address(address).packed, IPv4Address(mask).packed
    for at, text in ((0x48, "Acme"), (0x68, "X5\x1b[31m"), (0xD8, serial)):
        body[at : at + len(text)] = text.encode()
    return HEAD.pack(0, 3, 248, ASKED_ID) + bytes(body)


@contextmanager
def camera(*answers: bytes) -> Iterator[int]:
    """Something at a port of this computer that answers a camera search so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.bind(("127.0.0.1", 0))
        heard: list[bytes] = []

        def respond() -> None:
            asked, who = device.recvfrom(100)
            heard.append(asked)
            for said in answers:
                device.sendto(said, who)

        thread = threading.Thread(target=respond)
        thread.start()
        yield device.getsockname()[1]
        thread.join(60)
        assert heard == [bytes.fromhex("4211 0002 0000 6964")]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gige, "PATIENCE_S", 10.0)
    monkeypatch.setattr(gige, "MOST_CAMERAS", 2)  # it need not wait any longer


@pytest.mark.usefixtures("patient")
def test_cameras_are_asked_and_heard() -> None:
    said = (
        answer(),
        b"",
        b"\0" * 8,
        answer()[:-1],
        answer(),
        answer(address="169.254.9.9", configured=4, serial="18"),
    )
    with camera(*said) as port:
        asked = ask_cameras(["lo"], port, "127.0.0.1")
    first = GigeCamera("lo", "192.168.5.20", "255.255.255.0", "Acme X5[31m 17", True, False)
    second = GigeCamera("lo", "169.254.9.9", "255.255.255.0", "Acme X5[31m 18", False, False)
    assert asked == GigeAnswers((first, second))


def test_it_needs_no_root() -> None:
    with unprivileged():
        asked = ask_cameras(["lo"], to="127.0.0.1")
    assert asked.unknown == "" or "without root" in asked.unknown  # a kernel before 5.7


def test_an_interface_that_is_gone_is_no_fault() -> None:
    assert "can't be asked" in ask_cameras(["gone0"]).unknown
    assert ask_cameras([]) == GigeAnswers()


@pytest.mark.parametrize(
    "said",
    [
        HEAD.pack(0x8001, 3, 248, ASKED_ID) + bytes(248),
        HEAD.pack(0, 0x83, 248, ASKED_ID) + bytes(248),
        HEAD.pack(0, 3, 248, 1) + bytes(248),
    ],
)
def test_other_answers_are_no_cameras(said: bytes) -> None:
    assert read_answer("eth1", said) is None
    assert read_answer("eth1", answer()) is not None


# ---- judged ----


def found(machine: Machine, *answers: bytes, interface: str = "eth1") -> dict[str, Finding]:
    cameras = tuple(c for said in answers if (c := read_answer(interface, said)))
    findings = machine.findings(Told(answers=GigeAnswers(cameras)))
    return {check: finding for check, finding in findings.items() if check.startswith("GigE")}


def test_a_camera_in_the_network_of_its_interface(machine: Machine) -> None:
    findings = found(machine, answer())
    assert {check: f.status for check, f in findings.items()} == {
        "GigE Acme X5[31m 17 address": "ok",
        "GigE Acme X5[31m 17 IP persistence": "ok",
    }


def test_a_camera_of_another_network_fails(machine: Machine) -> None:
    finding = found(machine, answer("10.7.0.1", "255.255.0.0"))["GigE Acme X5[31m 17 address"]
    assert (finding.status, finding.found) == ("fail", "10.7.0.1 on eth1, which has 192.168.5.0/24")
    assert finding.remedy.startswith(
        "sudo ip address add 10.7.0.2/16 dev eth1; to keep it: Address=10.7.0.2/16 under "
    )


def test_a_camera_on_the_wrong_card_fails(machine: Machine) -> None:
    machine.interface("eth2")
    machine.write("proc/net/route", ROUTE_HEAD + route("eth1", "0005A8C0") + route("eth2", "0006A8C0"))
    finding = found(machine, answer("192.168.6.20"))["GigE Acme X5[31m 17 address"]
    assert finding.status == "fail"
    assert finding.found == "192.168.6.20 on eth1, which has 192.168.5.0/24; eth2 has that network"


def test_an_interface_without_an_address_reaches_no_camera(machine: Machine) -> None:
    machine.write("proc/net/route", ROUTE_HEAD)
    finding = found(machine, answer())["GigE Acme X5[31m 17 address"]
    assert finding.status == "fail" and finding.found.endswith("which has no IPv4 address")


@pytest.mark.parametrize("mask", ["0.0.0.0", "255.255.255.255", "255.0.255.0"])
def test_a_mask_that_is_none(machine: Machine, mask: str) -> None:
    finding = found(machine, answer("10.7.0.1", mask))["GigE Acme X5[31m 17 address"]
    assert finding.status == "fail" and "ip address add" in finding.remedy


def test_two_cameras_with_one_address_fail(machine: Machine) -> None:
    findings = found(machine, answer(serial="17"), answer(serial="18"))
    finding = findings["GigE Acme X5[31m 17 address"]
    assert finding.status == "fail" and finding.found.endswith("Acme X5[31m 18 has the same address")
    assert findings["GigE Acme X5[31m 18 address"].status == "fail"
    assert finding.remedy.startswith("give the camera another address")


@pytest.mark.parametrize(("configured", "said"), [(6, "from DHCP"), (4, "chosen by itself (169.254…)")])
def test_an_address_that_changes(machine: Machine, configured: int, said: str) -> None:
    finding = found(machine, answer(configured=configured))["GigE Acme X5[31m 17 IP persistence"]
    assert (finding.status, finding.found) == ("warn", said)
    assert "GevPersistentIPAddress = 3232236820, GevPersistentSubnetMask = 4294967040, " in finding.remedy


def test_no_camera_is_no_fault(machine: Machine) -> None:
    (finding,) = found(machine).values()
    assert (finding.status, finding.found) == ("skipped", "none answers")
    told = Told(answers=GigeAnswers(unknown="it can't be asked"))
    assert machine.findings(told)["GigE camera"].found == "it can't be asked"

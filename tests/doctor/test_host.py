"""How deep cores sleep, and what drivers say of their cards."""

import shutil

import pytest

from inspectd.doctor.camera import Told, ask_here
from inspectd.doctor.ethtool import NetworkCard, ask_card
from tests.doctor.machine import CAMERA, IDLE, Machine, idle, unprivileged

CHECK, POWER = "CPU idle states", f"{CAMERA}/power"


def sleeps(machine: Machine, number: int, name: str, latency_us: int, disable: int = 0, cpu: int = 1) -> None:
    for file, text in idle(name, latency_us, disable).items():
        machine.write(f"{IDLE.format(cpu, number)}/{file}", text)


def test_a_core_that_sleeps_deep(machine: Machine) -> None:
    sleeps(machine, 2, "C3", 67)
    assert machine.findings()[CHECK].status == "ok"
    sleeps(machine, 3, "C6", 133)
    sleeps(machine, 4, "C10", 890, cpu=0)
    finding = machine.findings()[CHECK]
    assert (finding.status, finding.found.split(";")[0]) == ("warn", "deepest C10, wakes up within 890 us")
    folder = "/sys/devices/system/cpu/cpu*/cpuidle"
    assert finding.remedy.startswith(
        f"echo 1 | sudo tee {folder}/state3/disable {folder}/state4/disable; to keep it"
    )
    assert "intel_idle.max_cstate=1 processor.max_cstate=1 in GRUB_CMDLINE_LINUX" in finding.remedy


def test_a_state_that_is_switched_off_does_not_count(machine: Machine) -> None:
    sleeps(machine, 3, "C6", 133, disable=1)
    assert machine.findings()[CHECK].found.startswith("deepest C1_ACPI, wakes up within 1 us")
    sleeps(machine, 3, "C6", 133, disable=0, cpu=0)  # switched on for one core only
    assert machine.findings()[CHECK].status == "warn"


@pytest.mark.parametrize(
    ("held", "status", "said"),
    [
        ((10).to_bytes(4, "little"), "ok", "a program holds it to 10 us"),
        ((0).to_bytes(4, "little"), "ok", "a program holds it to 0 us"),
        ((500).to_bytes(4, "little"), "warn", "a program holds it to 500 us"),
        ((2_000_000_000).to_bytes(4, "little"), "warn", "no program holds it back"),
    ],
)
def test_a_program_may_hold_it_back(machine: Machine, held: bytes, status: str, said: str) -> None:
    sleeps(machine, 3, "C6", 133)
    machine.write("dev/cpu_dma_latency", "")
    (machine.root / "dev/cpu_dma_latency").write_bytes(held)
    finding = machine.findings()[CHECK]
    assert (finding.status, finding.found) == (status, f"deepest C6, wakes up within 133 us; {said}")


def test_without_root_it_is_not_known_whether_a_program_holds_it_back(shared_machine: Machine) -> None:
    sleeps(shared_machine, 3, "C6", 133)
    shared_machine.write("dev/cpu_dma_latency", "\0\0\0\0")
    (shared_machine.root / "dev/cpu_dma_latency").chmod(0)
    with unprivileged():
        finding = shared_machine.findings()[CHECK]
    assert finding.status == "warn" and finding.found.endswith("cpu_dma_latency is not readable without root")


@pytest.mark.parametrize("text", ["", "deep\n", "-3\n", "9" * 5000 + "\n"])
def test_idle_states_that_are_none(machine: Machine, text: str) -> None:
    shutil.rmtree(machine.root / IDLE.format(1, 1))
    for file in ("name", "latency", "disable"):
        machine.write(f"{IDLE.format(0, 1)}/{file}", text)
    machine.write(f"{IDLE.format(0, 'x')}/latency", "900\n")
    assert machine.findings()[CHECK].found.startswith("deepest POLL")


@pytest.mark.parametrize(
    ("control", "delay", "status", "found"),
    [
        ("on", "2000", "ok", "on"),
        ("auto", "2000", "warn", "auto, after 2000 ms"),
        ("auto", "-1000", "ok", "auto, after -1000 ms"),
        ("auto", "", "warn", "auto, after ? ms"),
        ("", "2000", "skipped", "is not readable"),
    ],
)
def test_usb_autosuspend(machine: Machine, control: str, delay: str, status: str, found: str) -> None:
    machine.write(f"{POWER}/control", control + "\n")
    machine.write(f"{POWER}/autosuspend_delay_ms", delay + "\n")
    finding = machine.findings()["USB 2-1 autosuspend"]
    assert (finding.status, finding.found.endswith(found)) == (status, True)
    if status == "warn":
        node = machine.root / "sys/bus/usb/devices/2-1/power/control"
        assert finding.remedy.startswith(f'echo on | sudo tee {node}; to keep it: echo \'ACTION=="add", ')


@pytest.mark.parametrize(
    ("card", "ring", "moderation"),
    [
        (NetworkCard(4096, 4096, 3), "ok", "ok"),
        (NetworkCard(256, 4096, 0), "warn", "warn"),
        (NetworkCard(256, 256, 5000), "ok", "warn"),
        (NetworkCard(8192, 8192, 0, True), "ok", "ok"),
        (NetworkCard(), "", ""),
    ],
)
def test_what_a_driver_says(machine: Machine, card: NetworkCard, ring: str, moderation: str) -> None:
    findings = machine.findings(Told({"eth1": card}))
    assert [f.status for check, f in findings.items() if check == "eth1 receive ring"] == ([ring] if ring else [])
    told = [f.status for check, f in findings.items() if check == "eth1 interrupt moderation"]
    assert told == ([moderation] if moderation else [])
    if ring == "warn":
        assert findings["eth1 receive ring"].remedy.startswith(
            "sudo ethtool -G eth1 rx 4096; to keep it: RxBuffer"
        )
        assert "sudo ethtool -C eth1 adaptive-rx off rx-usecs 64;" in findings["eth1 interrupt moderation"].remedy


def test_drivers_are_asked_without_root() -> None:
    assert ask_card("gone0") == ask_card("lo") == NetworkCard()
    cards = ask_here().cards
    with unprivileged():
        assert {name: ask_card(name) for name in cards} == cards
    assert all(card.ring is None or 0 < card.ring <= card.ring_max for card in cards.values())

"""Networks, interfaces and counters, as a kernel shows them."""

import pytest

from tests.doctor.machine import DAMAGED, KERNEL, MISSED, ROUTE_HEAD, SNMP, SOFTNET, Machine, route

NET = "sys/class/net"
STATISTICS = f"{NET}/eth1/statistics"


def checked(machine: Machine) -> set[str]:
    """Names of the interfaces that are looked at."""
    return {check.removesuffix(" MTU") for check in machine.findings() if check.endswith(" MTU")}


@pytest.mark.parametrize("name", ["docker0", "veth7b2c1d0", "br-5f2a", "virbr0", "vnet0", "tap0", "dummy0"])
def test_what_only_programs_hang_on_is_left_out(machine: Machine, name: str) -> None:
    machine.interface(name, has_card=False, mtu="1500")
    assert checked(machine) == {"eth1"}


def test_a_bridge_of_containers_is_left_out_with_its_ports(machine: Machine) -> None:
    machine.interface("veth1", has_card=False)
    machine.interface("docker0", has_card=False)
    (machine.root / NET / "docker0/lower_veth1").symlink_to("../veth1")
    assert checked(machine) == {"eth1"}


def test_bridge_bond_and_vlan_on_a_card_are_checked(machine: Machine) -> None:
    for name, lower in (("br0", "eth1"), ("bond0", "eth1"), ("bond0.100", "bond0")):
        machine.interface(name, has_card=False)
        (machine.root / NET / name / f"lower_{lower}").symlink_to(f"../{lower}")
    assert checked(machine) == {"eth1", "br0", "bond0", "bond0.100"}


def test_interfaces_that_stand_on_each_other_end_somewhere(machine: Machine) -> None:
    for name, lower in (("a", "b"), ("b", "a")):
        machine.interface(name, has_card=False)
        (machine.root / NET / name / f"lower_{lower}").symlink_to(f"../{lower}")
    assert checked(machine) == {"eth1"}


def test_wifi_is_left_out(machine: Machine) -> None:
    machine.interface("wlan0")
    (machine.root / NET / "wlan0/phy80211").symlink_to("../../ieee80211/phy0")
    assert checked(machine) == {"eth1"}


@pytest.mark.parametrize(
    ("check", "counter", "cure"),
    [
        *(("eth1 missed", name, "sudo ethtool -G eth1 rx 4096; does it still grow: ") for name in MISSED),
        *(("eth1 damaged", name, "another cable and another port") for name in DAMAGED),
    ],
)
def test_what_a_card_lost_is_told(machine: Machine, check: str, counter: str, cure: str) -> None:
    machine.write(f"{STATISTICS}/{counter}", "17\n")
    findings = machine.findings()
    assert (findings[check].status, findings[check].found) == ("warn", "17 packets")
    assert cure in findings[check].remedy and f"{STATISTICS}/{counter}" in findings[check].remedy
    assert [c for c, finding in findings.items() if finding.status == "warn"] == [check]


def test_udp_without_room_in_the_socket(machine: Machine) -> None:
    machine.write("proc/net/snmp", SNMP.format(errors=19, no_room=19, damaged=0))
    findings = machine.findings()
    finding = findings["UDP receive buffer"]
    assert finding.status == "warn" and finding.found.startswith("19 packets thrown away since")
    assert "net.core.rmem_max" in finding.remedy and "watch -d grep Udp: " in finding.remedy
    assert findings["UDP errors"].status == "ok"


def test_udp_that_came_damaged(machine: Machine) -> None:
    machine.write("proc/net/snmp", SNMP.format(errors=5, no_room=2, damaged=3))
    findings = machine.findings()
    assert findings["UDP receive buffer"].found.startswith("2 packets")
    assert findings["UDP errors"].found.startswith("3 packets") and "cable" in findings["UDP errors"].remedy


def test_an_old_kernel_without_memory_errors(machine: Machine) -> None:
    old = "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\nUdp: 9 0 4 9 4 0\n"
    machine.write("proc/net/snmp", old)
    assert machine.findings()["UDP receive buffer"].found.startswith("4 packets")


def test_softnet_drops_are_hexadecimal_and_summed_over_the_cores(machine: Machine) -> None:
    machine.write("proc/net/softnet_stat", SOFTNET.format(dropped="0000001f"))
    finding = machine.findings()["softnet"]
    assert (finding.status, finding.found.split(",")[:2]) == ("warn", ["31 dropped", " 4 times put off"])
    assert "sudo sysctl -w net.core.netdev_max_backlog=30000" in finding.remedy


@pytest.mark.parametrize(
    ("file", "check"), [("proc/net/snmp", "UDP receive buffer"), ("proc/net/softnet_stat", "softnet")]
)
@pytest.mark.parametrize("content", ["", "Udp:\n", "Udp: a\nUdp: b c\n", "Udp: InErrors\nUdp: 7\n", "0 zz 0\n"])
def test_counters_that_are_none(machine: Machine, file: str, check: str, content: str) -> None:
    machine.write(file, content)
    assert machine.findings()[check].found.endswith(": no number")
    (machine.root / file).unlink()
    assert machine.findings()[check].found.endswith(": No such file or directory")


# ---- networks ----

OFFICE, CAMERAS = "000200C0", "0005A8C0"  # 192.0.2.0, 192.168.5.0


def routes(machine: Machine, *lines: str) -> None:
    machine.write("proc/net/route", ROUTE_HEAD + "".join(lines))


def test_two_cards_in_one_network(machine: Machine) -> None:
    machine.interface("eth2")
    routes(machine, route("eth1", CAMERAS), route("eth2", CAMERAS))
    findings = machine.findings()
    assert findings["eth1 network"].found == "192.168.5.0/24" and findings["eth1 network"].status == "ok"
    finding = findings["eth2 network"]
    assert (finding.status, finding.found) == ("warn", "192.168.5.0/24, as eth1")
    assert finding.remedy.startswith("sudo ip address add 192.168.10.1/24 dev eth2; ")
    assert "sudo ip address del ADDRESS/BITS dev eth2" in finding.remedy


def test_networks_that_overlap_are_one(machine: Machine) -> None:
    machine.interface("eth2")
    routes(machine, route("eth1", CAMERAS), route("eth2", "0000A8C0", "0000FFFF"))  # 192.168.0.0/16
    finding = machine.findings()["eth2 network"]
    assert finding.found == "192.168.0.0/16, as eth1"
    assert "10.101.0.1/24" in finding.remedy  # none of 192.168 is free


def test_networks_of_their_own(machine: Machine) -> None:
    machine.interface("eth2")
    routes(machine, route("eth1", CAMERAS), route("eth2", OFFICE))
    assert machine.findings()["eth2 network"].found == "192.0.2.0/24"
    assert machine.findings()["eth2 network"].status == "ok"


def test_a_network_that_docker_has_too_is_not_shared(machine: Machine) -> None:
    machine.interface("docker0", has_card=False)
    routes(machine, route("docker0", CAMERAS), route("eth1", CAMERAS))
    assert machine.findings()["eth1 network"].status == "ok"


def test_no_address_no_camera(machine: Machine) -> None:
    routes(machine, route("eth1", "00000000", "00000000", "010200C0", "0003"))  # only the way to a router
    finding = machine.findings()["eth1 network"]
    assert (finding.status, finding.found) == ("warn", "no IPv4 address")
    assert "sudo ip address add 192.168.10.1/24 dev eth1; to keep it: " in finding.remedy


def test_what_is_part_of_a_bridge_needs_no_address(machine: Machine) -> None:
    machine.interface("br0", has_card=False)
    (machine.root / NET / "br0/lower_eth1").symlink_to("../eth1")
    (machine.root / NET / "eth1/upper_br0").symlink_to("../br0")
    routes(machine, route("br0", CAMERAS))
    findings = machine.findings()
    assert "eth1 network" not in findings and findings["br0 network"].status == "ok"


@pytest.mark.parametrize("line", ["eth1\tzz\n", "eth1\t" + "F" * 50 + "\t0" * 9 + "\n", "\n", "eth1 " * 11 + "\n"])
def test_routes_that_are_none(machine: Machine, line: str) -> None:
    machine.write("proc/net/route", ROUTE_HEAD + line + KERNEL["proc/net/route"].splitlines()[1])
    assert machine.findings()["eth1 network"].found == "192.168.5.0/24"

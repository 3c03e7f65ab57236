"""Rules as `nft -j list ruleset` and `iptables -S` printed them for rules that were set for this test."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from inspectd.doctor.camera import Told
from inspectd.doctor.firewall import IPTABLES, Firewall, FirewallChain, FirewallRule, firewall_findings
from inspectd.doctor.interfaces import Interface
from inspectd.doctor.rulesets import ask_firewall, iptables_chains, nft_tables
from tests.doctor.machine import Machine, unprivileged

RULESETS = Path(__file__).parent / "rulesets"
NFTABLES = nft_tables((RULESETS / "nftables.json").read_text())
"""Policy drop, and exceptions by name, set, prefix, source, map and called chain; and rules as firewalld has them:
policy accept, and all is refused at the end."""
UFW = nft_tables((RULESETS / "ufw.json").read_text())
"""Rules that iptables made in nftables, as ufw does: policy drop, exceptions in a chain of their own."""
LEGACY = """-P INPUT DROP
-P FORWARD ACCEPT
-P OUTPUT ACCEPT
-N cams
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i eth1 -j ACCEPT
-A INPUT ! -i eth2 -p udp -j ACCEPT
-A INPUT -s 192.168.5.0/24 -j cams
-A INPUT -i cam+ -j LOG --log-prefix "a camera -j ACCEPT "
-A INPUT -i cam+ -j ACCEPT
-A INPUT ! -i eth5 -g cams
-A cams -i eth6 -j RETURN
-A cams -i eth7 -j ACCEPT
"""


def drops(tables: dict[str, dict[str, FirewallChain]], name: str, *networks: str) -> str:
    """What drops a camera's packets on an interface; empty if nothing does."""
    card = Interface(name, Path("gone"), tuple(IPv4Network(network) for network in networks))
    (finding,) = firewall_findings(Path("gone"), [card], Firewall(tables))
    return "" if finding.status == "ok" else finding.found.removeprefix("dropped by ")


@pytest.mark.parametrize("name", ["lo", "eth1", "eth2", "eth3", "eth4", "cam0", "eth7"])
def test_nftables_lets_through_what_it_names(name: str) -> None:
    table = {"inet filter": NFTABLES["inet filter"]}
    assert drops(table, name) == ""


def test_nftables_lets_through_by_source(machine: Machine) -> None:
    table = {"inet filter": NFTABLES["inet filter"]}
    assert drops(table, "eth9", "192.168.5.0/24") == drops(table, "eth9", "192.168.5.128/25") == ""
    for networks in ((), ("192.168.0.0/16",), ("192.168.5.0/24", "10.0.0.0/8")):
        assert drops(table, "eth9", *networks) == "inet filter input"


@pytest.mark.parametrize("name", ["eth0", "eth5", "eth8", "eth9", "xcam0"])
def test_nftables_drops_the_rest(name: str) -> None:
    """Interface eth5 is open for answers of cameras alone, not for pictures; eth8 is sent to a chain for eth7."""
    assert drops({"inet filter": NFTABLES["inet filter"]}, name) == "inet filter input"


def test_firewalld_refuses_at_the_end() -> None:
    table = {"inet firewalld": NFTABLES["inet firewalld"]}
    assert drops(table, "eth1") == drops(table, "eth9") == ""
    assert drops(table, "eth0") == "inet firewalld filter_INPUT"


def test_a_drop_of_any_table_is_final() -> None:
    assert drops(NFTABLES, "eth0") == "inet filter input, inet firewalld filter_INPUT"
    assert drops(NFTABLES, "eth9") == "inet filter input"


def test_ufw_is_read_through_nftables() -> None:
    assert drops(UFW, "eth1") == "" and drops(UFW, "eth2") == "ip filter INPUT"


def test_iptables_of_old() -> None:
    tables = {IPTABLES: iptables_chains(LEGACY)}
    for name in ("eth1", "cam0", "eth7"):
        assert drops(tables, name) == ""
    for name in ("eth2", "eth5", "eth6", "xcam0"):
        assert drops(tables, name) == f"{IPTABLES} INPUT"


def test_no_rules_drop_nothing() -> None:
    assert drops({}, "eth1") == drops(nft_tables('{"nftables": []}'), "eth1") == ""
    assert drops({IPTABLES: iptables_chains("-P INPUT ACCEPT\n")}, "eth1") == ""


def test_chains_that_call_each_other_end() -> None:
    jump = FirewallChain((FirewallRule("jump a"), FirewallRule("jump b")), "drop")
    assert drops({"ip t": {"a": jump, "b": jump}}, "eth1") == "ip t a, ip t b"


@pytest.mark.parametrize(
    ("table", "chain", "remedy"),
    [
        ("ip filter", "INPUT", "sudo nft insert rule ip filter INPUT 'iifname \"eth1\" accept'; to keep it: "),
        (IPTABLES, "INPUT", "sudo iptables -I INPUT -i eth1 -j ACCEPT; to keep it: "),
        ("inet firewalld", "x", "sudo firewall-cmd --permanent --zone=trusted --change-interface=eth1; "),
    ],
)
def test_the_remedy_is_of_the_tool_that_made_the_rules(
    machine: Machine, table: str, chain: str, remedy: str
) -> None:
    told = Told(firewall=Firewall({table: {chain: FirewallChain((), "drop")}}))
    finding = machine.findings(told)["eth1 firewall"]
    assert finding.status == "warn" and finding.remedy.startswith(remedy)
    machine.write("etc/ufw/ufw.conf", "# comment\nENABLED=yes\nLOGLEVEL=low\n")
    assert machine.findings(told)["eth1 firewall"].remedy == "sudo ufw allow in on eth1"


def test_without_root_the_settings_of_ufw_still_tell(machine: Machine) -> None:
    hidden = Told(firewall=Firewall(unknown="the rules are not readable without root"))
    finding = machine.findings(hidden)["firewall"]
    assert (finding.status, finding.found) == ("skipped", "the rules are not readable without root")
    machine.write("etc/ufw/ufw.conf", "ENABLED=yes\n")
    machine.write("etc/default/ufw", 'DEFAULT_INPUT_POLICY="DROP"\n')
    finding = machine.findings(hidden)["firewall"]
    assert (
        finding.status == "warn" and "ufw is on" in finding.found and "sudo ufw allow in on NAME" in finding.remedy
    )
    machine.write("etc/default/ufw", 'DEFAULT_INPUT_POLICY="ACCEPT"\n')
    assert machine.findings(hidden)["firewall"].status == "skipped"
    machine.write("etc/default/ufw", "")
    machine.write("etc/ufw/ufw.conf", "ENABLED=no\n")
    assert machine.findings(hidden)["firewall"].status == "skipped"


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"nftables": 3}', '{"nftables": [{"chain": {}}, {}]}'])
def test_rules_that_can_not_be_read(said: str) -> None:
    assert nft_tables(said) == {}


def test_this_machine_tells_its_rules_or_why_not() -> None:
    asked = ask_firewall()
    assert asked.tables == {} or not asked.unknown
    with unprivileged():
        assert ask_firewall().unknown or not ask_firewall().tables


def test_each_chain_that_drops_has_its_remedy(machine: Machine) -> None:
    machine.interface("eth0")
    finding = machine.findings(Told(firewall=Firewall(NFTABLES)))["eth0 firewall"]
    assert finding.remedy.startswith(
        "sudo nft insert rule inet filter input 'iifname \"eth0\" accept'; to keep it: "
    )
    assert "; sudo firewall-cmd --permanent --zone=trusted --change-interface=eth0; " in finding.remedy

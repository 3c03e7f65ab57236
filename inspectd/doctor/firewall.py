"""Whether a firewall lets a GigE camera through: its answers and its pictures come without having been asked for.

A camera needs all of an interface accepted: producers choose other ports each time. So a packet is followed
through the rules that is new, comes in by that interface from its network, and is else unknown: a rule that wants
more of it than that does not hold for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from shlex import quote

from msgspec import Struct

from inspectd.doctor.finding import NOTE, Finding, judged, text
from inspectd.doctor.interfaces import Interface

IPTABLES = "iptables filter"
"""Name of the table that the older iptables keeps."""
MOST_JUMPS = 16
"""Depth of chains that call each other, as the kernel bounds it."""


class FirewallRule(Struct, frozen=True):
    """A rule that looks at nothing but where a packet comes in."""

    verdict: str
    """accept, drop, return; or the name of the chain that goes on, behind "jump " or "goto "."""
    into: tuple[str, ...] = ()
    """Interfaces that it holds for, `*` at the end for any end; empty = all."""
    into_others: bool = False
    """Whether it holds for all interfaces but those."""
    source: str = ""
    """The network that packets come from; empty = any."""


class FirewallChain(Struct, frozen=True):
    """Rules in their order. With a policy it is one that packets begin in."""

    rules: tuple[FirewallRule, ...]
    policy: str = ""


class Firewall(Struct, frozen=True):
    """What is known of the firewall: by the name of its table, chains by name; or why that is not known."""

    tables: dict[str, dict[str, FirewallChain]] = {}
    unknown: str = ""


def firewall_findings(root: Path, cards: Sequence[Interface], firewall: Firewall) -> Iterator[Finding]:
    """Whether each interface is open for a camera."""
    wanted = f"what comes in is accepted: a camera that is dropped is not found, or sends no picture{NOTE}"
    if firewall.unknown:
        yield _unknown(root, firewall.unknown, wanted)
        return
    for card in cards:
        closed = [place for place in _places(firewall) if _drops(firewall, place, card)]
        found = f"dropped by {', '.join(' '.join(place) for place in closed)}" if closed else "accepted"
        yield judged(f"{card.name} firewall", not closed, found, wanted, _remedy(root, card.name, closed))


def _unknown(root: Path, why: str, wanted: str) -> Finding:
    """Without the rules: what the settings of ufw say, which anybody may read."""
    is_on = "ENABLED=yes" in text(root / "etc/ufw/ufw.conf").splitlines()
    drops = 'DEFAULT_INPUT_POLICY="ACCEPT"' not in text(root / "etc/default/ufw").splitlines()
    if is_on and drops:
        remedy = "sudo ufw allow in on NAME, the camera's interface; or ask again with sudo"
        return Finding("firewall", "warn", f"ufw is on and drops what it has no rule for; {why}", wanted, remedy)
    return Finding(
        "firewall",
        "skipped",
        why,
        wanted,
        "look as root: sudo nft list ruleset; or, where iptables is used: sudo iptables -S",
    )


def _remedy(root: Path, name: str, closed: Sequence[tuple[str, str]]) -> str:
    """How to let all in by an interface, with the tool that made the rules; each chain that drops needs it."""
    said = quote(name)
    if "ENABLED=yes" in text(root / "etc/ufw/ufw.conf").splitlines():
        return f"sudo ufw allow in on {said}"
    return "; ".join(
        dict.fromkeys(_opened(table, chain, said, quote(f'iifname "{name}" accept')) for table, chain in closed)
    )


def _opened(table: str, chain: str, said: str, rule: str) -> str:
    """How to open one chain for an interface."""
    if table.endswith(" firewalld"):
        return (
            f"sudo firewall-cmd --permanent --zone=trusted --change-interface={said}; sudo firewall-cmd --reload"
        )
    if table == IPTABLES:
        return f"sudo iptables -I INPUT -i {said} -j ACCEPT; to keep it: sudo netfilter-persistent save"
    keep = "to keep it: the same rule at the head of that chain in /etc/nftables.conf"
    return f"sudo nft insert rule {table} {quote(chain)} {rule}; {keep}"


def _places(firewall: Firewall) -> list[tuple[str, str]]:
    """Table and name of the chains that packets begin in."""
    return [(table, name) for table, chains in firewall.tables.items() for name, c in chains.items() if c.policy]


def _drops(firewall: Firewall, place: tuple[str, str], card: Interface) -> bool:
    """Whether a chain drops the camera's packets. Then they are lost: an accept holds for its chain alone."""
    table, name = place
    chains = firewall.tables[table]
    return (_followed(chains[name], chains, card, MOST_JUMPS) or chains[name].policy) == "drop"


def _followed(chain: FirewallChain, chains: Mapping[str, FirewallChain], card: Interface, depth: int) -> str:
    """accept, drop, or empty if the packet comes back to who called the chain."""
    for rule in chain.rules:
        if not _holds(rule, card):
            continue
        how, _, target = rule.verdict.partition(" ")
        if how in ("jump", "goto"):
            called = chains.get(target)
            verdict = _followed(called, chains, card, depth - 1) if called and depth else ""
            if verdict or how == "goto":
                return verdict
        else:
            return "" if how == "return" else how
    return ""


def _holds(rule: FirewallRule, card: Interface) -> bool:
    named = any(card.name == name or (name[-1:] == "*" and card.name.startswith(name[:-1])) for name in rule.into)
    if rule.into and named == rule.into_others:
        return False
    if not rule.source:
        return True
    try:
        source = IPv4Network(rule.source, strict=False)
    except ValueError:
        return False
    return bool(card.networks) and all(network.subnet_of(source) for network in card.networks)

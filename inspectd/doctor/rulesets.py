"""The firewall of this computer as chains of rules: of nftables (where a computer of today keeps iptables' rules
too), and of the older iptables where its table is in use. The kernel tells them to root alone.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from inspectd.doctor.finding import text
from inspectd.doctor.firewall import IPTABLES, Firewall, FirewallChain, FirewallRule

SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""Where the programs lie; users mostly have no sbin in their PATH."""
TIMEOUT_S = 10
INTO = ({"meta": {"key": "iifname"}}, {"meta": {"key": "iif"}})
SOURCE = {"payload": {"protocol": "ip", "field": "saddr"}}
PASSED_BY = frozenset(("counter", "log", "comment", "limit"))
"""Statements that decide nothing. A limit lets a packet pass by now and then, which counts as always."""


def ask_firewall() -> Firewall:
    """Ask nft; and iptables, where its older table is in use or there is no nft. Needs root."""
    tables: dict[str, dict[str, FirewallChain]] = {}
    has_nft = shutil.which("nft", path=SBIN) is not None
    try:
        if has_nft:
            tables |= nft_tables(_said("nft", "-j", "list", "ruleset"))
        if not has_nft or "filter" in text(Path("/proc/net/ip_tables_names")).split():
            tables[IPTABLES] = iptables_chains(_said("iptables-legacy" if has_nft else "iptables", "-S"))
    except (OSError, subprocess.TimeoutExpired) as error:
        return Firewall(unknown=str(error))
    return Firewall(tables)


def _said(program: str, *arguments: str) -> str:
    """What a program prints; raises OSError with the reason, or TimeoutExpired."""
    path = shutil.which(program, path=SBIN)
    if path is None:
        raise OSError(f"the rules are not readable, as the program {program} is not installed")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode == 0:
        return done.stdout
    if os.geteuid() != 0:
        raise OSError("the rules are not readable without root")
    raise OSError(f"{program}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")


def nft_tables(ruleset: str) -> dict[str, dict[str, FirewallChain]]:
    """Chains by table that see IPv4 packets, of what `nft -j list ruleset` prints; none if that can't be read."""
    try:
        objects = msgspec.json.decode(ruleset, type=dict[str, list[dict[str, Any]]]).get("nftables", [])
    except msgspec.MsgspecError:
        return {}
    rules: dict[tuple[str, str], list[FirewallRule]] = {}
    policies: dict[tuple[str, str], str] = {}
    sets = {(_table(s), s["name"]): s.get("elem", []) for o in objects if (s := o.get("set")) and "name" in s}
    for entry in objects:
        if (chain := entry.get("chain")) and chain.get("family") in ("ip", "inet"):
            place = _table(chain), chain["name"]
            rules.setdefault(place, [])
            policies[place] = chain.get("policy", "accept") if chain.get("hook") == "input" else ""
        elif (rule := entry.get("rule")) and rule.get("family") in ("ip", "inet"):
            named = {f"@{name}": members for (table, name), members in sets.items() if table == _table(rule)}
            rules.setdefault((_table(rule), rule["chain"]), []).extend(_nft_rules(rule.get("expr", []), named))
    tables: dict[str, dict[str, FirewallChain]] = {}
    for (table, name), those in rules.items():
        tables.setdefault(table, {})[name] = FirewallChain(tuple(those), policies.get((table, name), ""))
    return tables


def _table(entry: dict[str, Any]) -> str:
    return f"{entry.get('family')} {entry.get('table')}"


def _nft_rules(statements: list[Any], sets: dict[str, list[Any]]) -> Iterator[FirewallRule]:
    """The rule, if it looks at nothing but interface and source; several, for a map of interfaces to verdicts."""
    into: tuple[str, ...] = ()
    into_others, source = False, ""
    for kind, value in (_statement(statement) for statement in statements):
        if kind in PASSED_BY:
            continue
        if kind == "match":
            left, right = value.get("left"), value.get("right")
            if left in INTO:
                into, into_others = _names(right, sets), value.get("op") == "!="
                if not into:
                    return
            elif left == SOURCE and value.get("op") == "==":
                source = _network(right)
            else:
                return
        elif kind == "vmap" and value.get("key") in INTO:
            for key, action in value.get("data", {}).get("set", []):
                yield FirewallRule(_verdict(*_statement(action)), _names(key, sets))
            return
        else:
            if verdict := _verdict(kind, value):
                yield FirewallRule(verdict, into, into_others, source)
            return


def _statement(statement: Any) -> tuple[str, Any]:
    """Kind and value of a statement, which is an object with one key."""
    return next(iter(statement.items())) if isinstance(statement, dict) and statement else ("", {})


def _verdict(kind: str, value: Any) -> str:
    """What is done with the packet; empty if nothing final is."""
    if kind in ("jump", "goto"):
        return f"{kind} {value['target']}"
    return {"accept": "accept", "drop": "drop", "reject": "drop", "return": "return"}.get(kind, "")


def _names(right: Any, sets: dict[str, list[Any]]) -> tuple[str, ...]:
    if isinstance(right, str):
        return tuple(str(name) for name in sets.get(right, [right]))
    return tuple(str(name) for name in right.get("set", [])) if isinstance(right, dict) else ()


def _network(right: Any) -> str:
    prefix = right.get("prefix") if isinstance(right, dict) else None
    return f"{prefix['addr']}/{prefix['len']}" if prefix else right if isinstance(right, str) else "none"


def iptables_chains(rules: str) -> dict[str, FirewallChain]:
    """Chains of the table filter, of what `iptables-legacy -S` prints."""
    chains: dict[str, list[FirewallRule]] = {}
    policies: dict[str, str] = {}
    for line in rules.splitlines():
        kind, name, *rest = [*shlex.split(line), "", ""]
        chains.setdefault(name, [])
        if kind == "-P" and name == "INPUT":
            policies[name] = rest[0].lower()
        elif kind == "-A" and (rule := _iptables_rule([word for word in rest if word])):
            chains[name].append(rule)
    return {name: FirewallChain(tuple(rules), policies.get(name, "")) for name, rules in chains.items() if name}


def _iptables_rule(words: list[str]) -> FirewallRule | None:
    """A rule; None if it looks at more than interface and source, or decides nothing."""
    into: tuple[str, ...] = ()
    into_others, source, left = False, "", list(words)
    while left and left[0] not in ("-j", "-g"):
        negated = left[0] == "!"
        option, *left = left[negated:]
        if option == "-i" and left:
            into, into_others = (left[0].replace("+", "*"),), negated
        elif option == "-s" and left and not negated:
            source = left[0]
        else:
            return None
        left = left[1:]
    if len(left) < 2:
        return None
    known = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return", "LOG": ""}
    verdict = known.get(left[1], f"{'goto' if left[0] == '-g' else 'jump'} {left[1]}")
    return FirewallRule(verdict, into, into_others, source) if verdict else None

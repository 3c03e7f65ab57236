"""Settings and counters of the network that cost a GigE camera its frames."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from itertools import takewhile
from pathlib import Path
from shlex import quote

from inspectd.doctor.finding import NOTE, Finding, at_least, entries, judged, number, sysctl_remedy, unreadable
from inspectd.doctor.interfaces import Interface

LEAST_MTU_BYTES = 9000  # what the camera vendors call jumbo frames
LEAST_GIGE_MBIT_PER_S = 1000
LEAST_SYSCTLS = (
    ("net.core.rmem_max", 32 << 20, "bytes"),  # what a producer may ask for its socket: six pictures of 5 MPixel
    ("net.core.rmem_default", 16 << 20, "bytes"),  # what it gets if it does not ask; as the next one from Balluff
    ("net.core.netdev_max_backlog", 10_000, "packets"),
)
SINCE = "since the start of the computer"
MISSED = ("rx_missed_errors", "rx_fifo_errors", "rx_over_errors")
"""Names of one thing: drivers count it under one or the other."""
DAMAGED = ("rx_crc_errors", "rx_frame_errors", "rx_length_errors")


def network_findings(root: Path, cards: Sequence[Interface]) -> Iterator[Finding]:
    """Check the interfaces one by one, then what all of them share."""
    if not cards:
        found = f"none with a card is up in {root / 'sys/class/net'}"
        remedy = "sudo ip link set dev NAME up; the names: ip link"
        yield Finding("Ethernet", "skipped", found, f"an interface{NOTE}", remedy)
    for card in cards:
        yield from _link(root, card)
        yield from _counted(card)
        yield from _network(card, cards)
    for key, least, unit in LEAST_SYSCTLS:
        remedy = sysctl_remedy(f"{key}={least}")
        yield at_least(key, least, unit, root / "proc/sys" / key.replace(".", "/"), remedy)
    yield from _udp(root / "proc/net/snmp")
    yield _softnet(root / "proc/net/softnet_stat")


def _link(root: Path, card: Interface) -> Iterator[Finding]:
    name, said = card.name, quote(card.name)
    keep = f"MTUBytes={LEAST_MTU_BYTES} under [Link] of its systemd .network file, or mtu in netplan"
    remedy = f"sudo ip link set dev {said} mtu {LEAST_MTU_BYTES}; to keep it: {keep}"
    yield at_least(f"{name} MTU", LEAST_MTU_BYTES, "bytes", card.folder / "mtu", remedy, NOTE)
    if card.speed_mbit_per_s is not None:  # else it has no link, or is virtual and has no speed
        remedy = f"take a Cat 6 cable and a gigabit port, then: sudo ethtool -s {said} autoneg on"
        yield at_least(f"{name} speed", LEAST_GIGE_MBIT_PER_S, "Mbit/s", card.folder / "speed", remedy, NOTE)
    # The kernel obeys the greater one. Slashes in the remedy, as the name of a VLAN interface has a dot.
    paths = [root / "proc/sys/net/ipv4/conf" / scope / "rp_filter" for scope in ("all", name)]
    remedy, wanted = sysctl_remedy(f"net/ipv4/conf/{name}/rp_filter=2"), f"0 or 2{NOTE}"
    yield number(f"{name} rp_filter", lambda value: value != 1, "", wanted, remedy, *paths)


def _counted(card: Interface) -> Iterator[Finding]:
    """What the card itself counts as lost, since its driver was loaded."""
    said, folder = quote(card.name), card.folder / "statistics"
    cures = {
        "missed": (
            MISSED,
            "0: the card had no free place in its receive ring, each is a hole in a picture",
            f"see how many places it can have: ethtool -g {said}; give it all: sudo ethtool -G {said} rx 4096",
        ),
        "damaged": (
            DAMAGED,
            "0: packets came damaged, each is a hole in a picture or a delay",
            f"take another cable and another port, away from motors; what it negotiated: sudo ethtool {said}",
        ),
    }
    for check, (names, wanted, cure) in cures.items():
        paths = [folder / name for name in names]
        remedy = f"{cure}; does it still grow: watch -d grep . {' '.join(quote(str(path)) for path in paths)}"
        yield number(f"{card.name} {check}", lambda value: value == 0, "packets", wanted, remedy, *paths)


def _network(card: Interface, cards: Sequence[Interface]) -> Iterator[Finding]:
    """Whether a card has an IPv4 network, and has it alone. What is part of a bridge, bond or VLAN needs none."""
    if any(entry.name.startswith("upper_") for entry in entries(card.folder)):
        return
    said, free = quote(card.name), _free_network([network for other in cards for network in other.networks])
    add = f"sudo ip address add {free[1]}/{free.prefixlen} dev {said}"
    keep = (
        f"to keep it: Address={free[1]}/{free.prefixlen} under [Network] of its systemd .network file, or netplan"
    )
    wanted = f"an IPv4 network that no other card has{NOTE}"
    if not card.networks:
        remedy = f"{add}; {keep}; the camera needs an address in {free} too"
        yield Finding(f"{card.name} network", "warn", "no IPv4 address", wanted, remedy)
        return
    # Of two cards that share one, the later is told: one of them has to change.
    before = takewhile(lambda other: other.name != card.name, cards)
    shared = [other.name for other in before if any(a.overlaps(b) for a in card.networks for b in other.networks)]
    found = ", ".join(str(network) for network in card.networks) + "".join(f", as {name}" for name in shared)
    why = ": the kernel answers through one of them, whichever the camera hangs on" if shared else ""
    take = (
        f"take away what it had: sudo ip address del ADDRESS/BITS dev {said}; what that is: ip address show {said}"
    )
    remedy = f"{add}; {take}; {keep}; its cameras need addresses in {free} too"
    yield judged(f"{card.name} network", not shared, found, wanted + why, remedy)


def _free_network(taken: Sequence[IPv4Network]) -> IPv4Network:
    """A private network that no interface has, for a remedy."""
    candidates = (IPv4Network(f"192.168.{number}.0/24") for number in range(10, 255))
    free = (network for network in candidates if not any(network.overlaps(other) for other in taken))
    return next(free, IPv4Network("10.101.0.0/24"))


def _udp(path: Path) -> Iterator[Finding]:
    """What the kernel received for sockets and threw away. GigE cameras send UDP."""
    wanted_room = "0: a socket had no room left, each is a hole in a picture"
    wanted_whole = "0: packets came damaged or could not be delivered"
    watch = f"does it still grow: watch -d grep Udp: {quote(str(path))}"
    try:
        lines = [
            line.split()[1:] for line in path.read_text(encoding="ascii").splitlines() if line.startswith("Udp:")
        ]
        counts = dict(zip(lines[0], map(int, lines[1]), strict=True))
        no_room = counts["RcvbufErrors"] + counts.get("MemErrors", 0)
        others = max(0, counts["InErrors"] - no_room)
    except (OSError, ValueError, LookupError) as error:
        reason = error if isinstance(error, OSError | ValueError) else ValueError()
        yield unreadable("UDP receive buffer", reason, wanted_room, path)
        return
    remedy = f"give net.core.rmem_max and net.core.rmem_default what is wanted above; {watch}"
    yield judged("UDP receive buffer", no_room == 0, f"{no_room} packets thrown away {SINCE}", wanted_room, remedy)
    remedy = f"take another cable and another port; {watch}"
    yield judged("UDP errors", others == 0, f"{others} packets thrown away {SINCE}", wanted_whole, remedy)


def _softnet(path: Path) -> Finding:
    """What was thrown away between card and kernel: the second number of each CPU's line; the third says how often
    the kernel had to put the rest off.
    """
    check, wanted = "softnet", "0 dropped: the queue between card and kernel was full, each is a hole in a picture"
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        dropped, put_off = (sum(int(line[column], 16) for line in lines or [[]]) for column in (1, 2))
    except (OSError, ValueError, LookupError) as error:
        return unreadable(check, error if isinstance(error, OSError | ValueError) else ValueError(), wanted, path)
    key = "net.core.netdev_max_backlog"
    remedy = f"{sysctl_remedy(f'{key}=30000')}; does it still grow: watch -d cat {quote(str(path))}"
    return judged(check, dropped == 0, f"{dropped} dropped, {put_off} times put off, {SINCE}", wanted, remedy)

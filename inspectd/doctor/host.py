"""What slows the whole computer down, the limits of who asks, and the producers that this user can load."""

import os
import re
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from inspectd.doctor.finding import GRUB, Finding, Status, entries, judged, text

PRODUCERS = "GENICAM_GENTL64_PATH"
MOST_WAKE_US = 100
"""Longest time in us that a core may take to wake up: a fifth of what the daemon itself may add to a result."""


def host_findings(root: Path) -> Iterator[Finding]:
    """Check power saving, limits and producers."""
    yield _governor(root)
    yield _idle(root)
    yield from _limits()
    yield from _producers(root)


def _governor(root: Path) -> Finding:
    policies = entries(root / "sys/devices/system/cpu/cpufreq")
    governors = Counter(filter(None, (text(policy / "scaling_governor") for policy in policies)))
    check, wanted = "CPU governor", "performance on all cores"
    if not governors:
        remedy = "set the BIOS, or the host of this virtual machine, to maximum performance"
        return Finding(check, "skipped", "the frequency can't be set from here", wanted, remedy)
    found = ", ".join(f"{name} on {count}" for name, count in sorted(governors.items()))
    remedy = "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor; to keep it: "
    remedy += f"cpufreq.default_governor=performance {GRUB}"
    return judged(check, set(governors) == {"performance"}, found, wanted, remedy)


def _idle(root: Path) -> Finding:
    """How deep idle cores sleep (C-states): the slowest state that is switched on, unless a program forbids it."""
    check = "CPU idle states"
    wanted = f"wake-up within {MOST_WAKE_US} us: a core that sleeps deeper is late for packets and triggers"
    states = _idle_states(root)
    if not states:
        remedy = "switch C-states off in the BIOS, or on the host of this virtual machine"
        return Finding(check, "skipped", "the kernel shows none", wanted, remedy)
    name, wake_us = max(states.values(), key=lambda state: state[1])
    held, said = _held_us(root)
    slow = [number for number, (_, us) in sorted(states.items()) if us > MOST_WAKE_US]
    files = " ".join(f"/sys/devices/system/cpu/cpu*/cpuidle/state{number}/disable" for number in slow)
    keep = f"intel_idle.max_cstate=1 processor.max_cstate=1 {GRUB}"
    remedy = f"echo 1 | sudo tee {files}; to keep it: {keep}"
    good = min(wake_us, held) <= MOST_WAKE_US
    return judged(check, good, f"deepest {name}, wakes up within {wake_us} us; {said}", wanted, remedy)


def _idle_states(root: Path) -> dict[int, tuple[str, int]]:
    """Name and wake-up time in us of each idle state that any core may use, by its number."""
    states: dict[int, tuple[str, int]] = {}
    for core in entries(root / "sys/devices/system/cpu"):
        if not re.fullmatch(r"cpu\d+", core.name):
            continue
        for folder in entries(core / "cpuidle"):
            digits, latency = folder.name.removeprefix("state"), text(folder / "latency")
            if not digits.isdecimal() or not latency.isdecimal() or len(latency) > 9:
                continue
            if text(folder / "disable") != "1":
                before = states.get(int(digits), ("", -1))
                states[int(digits)] = max(
                    before, (text(folder / "name"), int(latency)), key=lambda state: state[1]
                )
    return states


def _held_us(root: Path) -> tuple[float, str]:
    """Longest wake-up time in us that running programs permit, infinite if not known; and how to say it."""
    path = root / "dev/cpu_dma_latency"
    try:
        with path.open("rb") as file:
            held = int.from_bytes(file.read(4), "little", signed=True)
    except PermissionError:
        return float("inf"), f"{path} is not readable without root"
    except OSError:
        return float("inf"), "no program holds it back"
    is_free = not 0 <= held < 2_000_000_000  # the kernel's word for "no limit" is 2,000 s
    return (float("inf"), "no program holds it back") if is_free else (held, f"a program holds it to {held} us")


def _limits() -> Iterator[Finding]:
    for name, setting in (("RLIMIT_RTPRIO", "LimitRTPRIO=80"), ("RLIMIT_MEMLOCK", "LimitMEMLOCK=infinity")):
        soft, hard = resource.getrlimit(getattr(resource, name))
        wanted = f"for information: a producer with real-time threads wants {setting} in the systemd unit"
        yield Finding(name, "ok", f"soft {soft}, hard {hard}".replace("-1", "unlimited"), wanted)


def _producers(root: Path) -> Iterator[Finding]:
    folders = [folder for folder in os.environ.get(PRODUCERS, "").split(os.pathsep) if folder]
    wanted = "a folder with .cti files that this user may read"
    if not folders:
        remedy = f"export {PRODUCERS}=FOLDER, or `cti` in the config; cameras of kind sim and folder need neither"
        yield Finding(PRODUCERS, "skipped", "not set", wanted, remedy)
    problems = {folder: _producer_problem(root, Path(folder)) for folder in folders}
    bad: Status = "warn" if "" in problems.values() else "fail"  # with one good folder the daemon can go on
    for folder, problem in problems.items():
        cure = f"install a producer in it and sudo chmod -R a+rX {quote(folder)}, or take it out of {PRODUCERS}"
        yield judged(f"{PRODUCERS} {folder}", not problem, problem or "readable", wanted, cure, bad)


def _producer_problem(root: Path, folder: Path) -> str:
    """Why the folder gives no producer; empty if it does."""
    try:
        files = [file for file in (root / folder.absolute().relative_to("/")).iterdir() if file.suffix == ".cti"]
    except OSError as error:
        return error.strerror or "can't be read"
    closed = [file.name for file in files if not os.access(file, os.R_OK, effective_ids=True)]
    return f"may not read {', '.join(closed)}" if closed else "" if files else "no .cti file"

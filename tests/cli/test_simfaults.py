"""`inspectd simcam fault`: what each kind does to a camera."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspectd.acquire.simcam.faults import Call, Effect, Ids, Listed
from inspectd.acquire.simcam.nodes import Nodes
from inspectd.acquire.simcam.world import TIMESTAMPS, Faults, Rig, camera_path, make_camera
from inspectd.cli.simfaults import KINDS, table
from inspectd.runtime.image_files import write_png
from tests.acquire.sims import HEIGHT, WIDTH, needs_simcam, picture

pytestmark = needs_simcam
CHANGED = {
    "drop": ("7", lambda rig: nth(rig, Effect.DROPPED) == 7),
    "incomplete": ("7", lambda rig: nth(rig, Effect.INCOMPLETE) == 7),
    "short": ("7", lambda rig: nth(rig, Effect.SHORT) == 7),
    "identical": ("7", lambda rig: nth(rig, Effect.IDENTICAL) == 7),
    "twice": ("7", lambda rig: nth(rig, Effect.TWICE) == 7),
    "swapped": ("7", lambda rig: nth(rig, Effect.SWAPPED) == 7),
    "missed": ("7", lambda rig: nth(rig, Effect.MISSED) == 7),
    "no-chunks": ("7", lambda rig: nth(rig, Effect.NO_CHUNKS) == 7),
    "no-id": ("7", lambda rig: nth(rig, Effect.NO_ID) == 7),
    "wrong-id": (str(2**64 - 1), lambda rig: nth(rig, Effect.WRONG_ID) == 1 and rig.faults.wrong_id == 2**64 - 1),
    "incomplete-id": (
        "0", lambda rig: nth(rig, Effect.WRONG_ID) == nth(rig, Effect.INCOMPLETE) == 1 and not rig.faults.wrong_id
    ),
    "stray": ("3", lambda rig: rig.faults.stray == 3),
    "silent": ("2", lambda rig: rig.faults.silent == 2),
    "starve": ("60", lambda rig: rig.faults.starve_until_ns > 0),
    "unplug": ("60", lambda rig: rig.memory.plug == 1 and not rig.memory.clock_offset_ns),
    "unplug-at-trigger": ("60", lambda rig: nth(rig, Effect.UNPLUGGED) == 1 and rig.faults.cable_ns == 60 * 10**9),
    "power-off": ("60", lambda rig: rig.memory.plug == 1 and rig.memory.clock_offset_ns < 0),
    "slow-open": ("0.5", lambda rig: slow(rig, Call.OPEN)),
    "slow-register": ("0.5", lambda rig: slow(rig, Call.REGISTER)),
    "slow-start": ("0.5", lambda rig: slow(rig, Call.START)),
    "slow-stop": ("0.5", lambda rig: slow(rig, Call.STOP)),
    "slow-close": ("0.5", lambda rig: slow(rig, Call.CLOSE)),
    "clock": ("-3", lambda rig: rig.memory.clock_offset_ns == -3 * 10**9),
    "counter": ("-3", lambda rig: rig.memory.counter == 97),
    "encoder": ("-3", lambda rig: rig.faults.encoder_offset == -3),
    "chatter": ("70000", lambda rig: rig.faults.chatter == 70000),
    "serial": ("\udcff", lambda rig: rig.memory.serial == b"\xff"),
    "vendor": ("M\udcfcller", lambda rig: rig.faults.vendor == b"M\xfcller"),
    "model": ("", lambda rig: rig.faults.model == b""),
    "user-id": ("\udcff", lambda rig: rig.memory.user_id == b"\xff"),
    "listed": ("by-two", lambda rig: rig.faults.listed == Listed.BY_TWO),
    "first-id": ("0", lambda rig: rig.faults.id_offset == -1),
    "id-bits": ("16", lambda rig: rig.faults.id_bits == 16),
    "id-zero": ("no", lambda rig: rig.faults.id_skips_zero == 1),
    "ids": ("absent", lambda rig: rig.faults.id_kind == Ids.ABSENT),
    "counter-bits": ("16", lambda rig: (rig.faults.counter_bits, rig.faults.counter_is_signed) == (16, 0)),
    "counter-signed": ("32", lambda rig: (rig.faults.counter_bits, rig.faults.counter_is_signed) == (32, 1)),
    "busy": ("yes", lambda rig: rig.faults.misses_while_exposing == 1),
    "buffers": ("oldest", lambda rig: rig.faults.oldest_first == 1),
    "padding": ("8", lambda rig: (rig.faults.padding, rig.faults.padding_is_told) == (8, 1)),
    "padding-untold": ("8", lambda rig: (rig.faults.padding, rig.faults.padding_is_told) == (8, 0)),
    "timestamps": ("mixed", lambda rig: rig.memory.timestamp_mode == TIMESTAMPS["mixed"]),
    "missing": ("TimestampLatch FrameStart", lambda rig: (rig.nodes.missing, rig.nodes.unavailable) == (5, 0)),
    "withheld": ("TimestampLatch", lambda rig: (rig.nodes.missing, rig.nodes.unavailable) == (0, 1)),
    "exposure-step": ("10", lambda rig: rig.nodes.exposure_step_ns == 10_000),
    "size-step": ("16", lambda rig: rig.nodes.size_step == 16),
    "slow-user-set": ("0.5", lambda rig: rig.nodes.command_ns == 500_000_000),
    "none": ("", lambda rig: bytes(rig.faults) == bytes(Faults()) and bytes(rig.nodes) == bytes(Nodes())),
}  # fmt: skip


def nth(rig: Rig, effect: Effect) -> int:
    """How many of the next exposures have this effect."""
    return int(rig.faults.next[effect.bit_length() - 1])


def slow(rig: Rig, call: Call) -> bool:
    return (rig.faults.delays[call], rig.faults.delay_ns[call]) == (1, 500_000_000)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    write_png(tmp_path / "0.png", picture(0))
    make_camera(tmp_path, "cam", [tmp_path / "0.png"], (HEIGHT, WIDTH, 1), "SIM-cam")
    with Rig(camera_path(tmp_path, "cam")) as held:
        held.memory.counter = 100
        yield held


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_does(rig: Rig, kind: str) -> None:
    value, is_so = CHANGED[kind]
    rig.drop(5)
    rig.faults.vendor = b"other"
    KINDS[kind].harm(rig, value)
    assert is_so(rig)
    KINDS["none"].harm(rig, "")
    assert bytes(rig.faults) == bytes(Faults()) and bytes(rig.nodes) == bytes(Nodes())


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("drop", "-1", "'-1' is not a whole number from 0 to 1000000000"),
        ("wrong-id", str(2**64), "is not a whole number from 0 to 18446744073709551615"),
        ("starve", "nan", "nan s is not between 0 and 86400 s"),
        ("slow-open", "soon", "'soon' is not a number"),
        ("ids", "none", "'none' is none of count, zero, absent"),
        ("vendor", "x" * 32, "has more than 31 bytes"),
        ("timestamps", "none", "'none' is none of ns, ticks, absent, zero, bare, mixed"),
        ("missing", "Latch", "'Latch' is none of TimestampLatch, "),
        ("serial", "", "'' is not a serial of 1 to 31 characters"),
    ],
)  # fmt: skip
def test_what_can_not_be(rig: Rig, kind: str, value: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        KINDS[kind].harm(rig, value)
    assert bytes(rig.faults) == bytes(Faults())


def test_the_list_fits_a_terminal() -> None:
    assert len(table().splitlines()) == len(KINDS) and max(map(len, table().splitlines())) <= 78

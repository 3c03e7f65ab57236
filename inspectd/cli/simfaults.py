"""What `inspectd simcam fault` can do: each kind, what its value is, what happens."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from inspectd.acquire.simcam.world import Rig

MOST_SECONDS, MOST = 86400.0, 10**9
MOST_ID = 2**64 - 1
NAME_BYTES = 31


class FaultKind(NamedTuple):
    """One kind of fault."""

    value: str
    """What its value is, for the help."""
    does: str
    harm: Callable[["Rig", str], None]
    """Does it; raises ValueError for a value that it can't be."""


def frames(effect: str, does: str) -> FaultKind:
    """Return what becomes of each of the next frames; `effect` is a name of `Effect`."""

    def harm(rig: "Rig", value: str) -> None:
        from inspectd.acquire.simcam.faults import Effect

        rig.next(Effect[effect], whole(value, 0, MOST))

    return FaultKind("FRAMES", does, harm)


def slow(call: str, does: str) -> FaultKind:
    """Return how long a call to the producer takes next time; `call` is a name of `Call`."""

    def harm(rig: "Rig", value: str) -> None:
        from inspectd.acquire.simcam.faults import Call

        rig.faults.slow(Call[call], seconds(value, 0))

    return FaultKind("SECONDS", does, harm)


def timed(does: str, call: Callable[["Rig", float], None], least: float = 0) -> FaultKind:
    """Return what happens for so many seconds."""
    return FaultKind("SECONDS", does, lambda rig, value: call(rig, seconds(value, least)))


def counted(
    unit: str, does: str, call: Callable[["Rig", int], None], least: int = 0, most: int = MOST
) -> FaultKind:
    """Return what has a whole number as its value."""
    return FaultKind(unit, does, lambda rig, value: call(rig, whole(value, least, most)))


def chosen(field: str, words: str, does: str) -> FaultKind:
    """Return what a camera is like from then on: the value is a word, its place that of a field of `Faults`."""

    def harm(rig: "Rig", value: str) -> None:
        if value not in words.split("|"):
            raise ValueError(f"{value!r} is none of {words.replace('|', ', ')}")
        setattr(rig.faults, field, words.split("|").index(value))

    return FaultKind(words, does, harm)


def called(field: str, does: str, of: str = "faults") -> FaultKind:
    """Return what a camera is called from then on, in bytes that need not be UTF-8."""

    def harm(rig: "Rig", value: str) -> None:
        if len(os.fsencode(value)) > NAME_BYTES:
            raise ValueError(f"{value!r} has more than {NAME_BYTES} bytes")
        setattr(getattr(rig, of), field, os.fsencode(value))

    return FaultKind("NEW", does, harm)


def whole(value: str, least: int, most: int) -> int:
    """Return the whole number that a value is; raises ValueError if it is none within these bounds."""
    if not value.removeprefix("-").isdecimal() or not least <= int(value) <= most:
        raise ValueError(f"{value!r} is not a whole number from {least} to {most}")
    return int(value)


def seconds(value: str, least: float) -> float:
    """Return the seconds that a value is; raises ValueError if it is no number from `least` to a day."""
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None
    if not least <= number <= MOST_SECONDS:
        raise ValueError(f"{value} s is not between {least:g} and {MOST_SECONDS:g} s")
    return number


def _wrong_id(rig: "Rig", frame_id: int) -> None:
    from inspectd.acquire.simcam.faults import Effect

    rig.faults.wrong_id = frame_id
    rig.next(Effect.WRONG_ID)


def _first_id(rig: "Rig", frame_id: int) -> None:
    rig.faults.id_offset = frame_id - 1


def _id_bits(rig: "Rig", bits: int) -> None:
    rig.faults.id_bits = bits


def _encoder(rig: "Rig", by: int) -> None:
    rig.faults.encoder_offset += by


KINDS: dict[str, FaultKind] = {
    "drop": frames("DROPPED", "are lost on their way"),
    "incomplete": frames("INCOMPLETE", "arrive in part, and say so"),
    "short": frames("SHORT", "have half of their lines, and hide it"),
    "identical": frames("IDENTICAL", "show the picture before their own"),
    "twice": frames("TWICE", "are delivered twice"),
    "swapped": frames("SWAPPED", "are delivered after the next one"),
    "missed": frames("MISSED", "are triggered, and never exposed"),
    "no-chunks": frames("NO_CHUNKS", "come without chunk data"),
    "no-id": frames("NO_ID", "come without a frame id"),
    "wrong-id": counted("ID", "is the next frame's", _wrong_id, most=MOST_ID),
    "incomplete-id": counted(
        "ID", "is that of a frame that comes in part", lambda r, n: r.incomplete(1, frame_id=n), most=MOST_ID
    ),
    "stray": counted("FRAMES", "come now that nobody triggered", lambda r, n: r.stray(n)),
    "silent": counted("STARTS", "are needed until it exposes again", lambda r, n: r.fall_silent(n), least=1),
    "starve": timed("without a free buffer", lambda r, s: r.starve(s)),
    "unplug": timed("without its cable", lambda r, s: r.unplug(s)),
    "unplug-at-trigger": timed("the same from the next trigger on", lambda r, s: r.faults.unplug_after_trigger(s)),
    "power-off": timed("the same, its count and clock at 0 then", lambda r, s: r.unplug(s, power=True)),
    "slow-open": slow("OPEN", "for the next opening"),
    "slow-register": slow("REGISTER", "for the next access to a register"),
    "slow-start": slow("START", "for the next start"),
    "slow-stop": slow("STOP", "for the next stop"),
    "slow-close": slow("CLOSE", "for the next closing"),
    "clock": timed("its clock jumps by", lambda r, s: r.jump_clock(s), least=-MOST_SECONDS),
    "counter": counted("BY", "its trigger counter jumps", lambda r, n: r.jump_counter(n), least=-MOST),
    "encoder": counted("BY", "its encoder jumps", _encoder, least=-MOST),
    "chatter": counted("BYTES", "are said on stderr by the producer", lambda r, n: r.chatter(n)),
    "serial": FaultKind("NEW", "is its serial number", lambda r, text: r.rename(text)),
    "vendor": called("vendor", "is its vendor"),
    "model": called("model", "is its model"),
    "user-id": called("user_id", "is the name that its user gave it", of="memory"),
    "listed": chosen("listed", "once|twice|by-two", "by two: by two interfaces"),
    "first-id": counted("ID", "is the first frame's after a start", _first_id, most=MOST_ID),
    "id-bits": counted("BITS", "count its frame ids", _id_bits, least=1, most=64),
    "id-zero": chosen("id_skips_zero", "yes|no", "does 0 follow on the highest id?"),
    "ids": chosen("id_kind", "count|zero|absent", "what its frame ids do"),
    "counter-bits": counted(
        "BITS", "count its triggers", lambda r, n: r.faults.narrow_counter(n), least=1, most=64
    ),
    "counter-signed": counted(
        "BITS", "count them, one for the sign", lambda r, n: r.faults.narrow_counter(n, True), least=1, most=64
    ),
    "busy": chosen("misses_while_exposing", "no|yes", "does it miss triggers while exposing?"),
    "buffers": chosen("oldest_first", "newest|oldest", "which free buffer is filled"),
    "padding": counted("BYTES", "follow on each line", lambda r, n: r.faults.pad_lines(n), most=4096),
    "padding-untold": counted(
        "BYTES", "do, and nothing says so", lambda r, n: r.faults.pad_lines(n, False), most=4096
    ),
    "timestamps": FaultKind(
        "ns|ticks|absent|zero|bare|mixed", "how it tells times", lambda r, text: r.timestamps(text)
    ),
    "missing": FaultKind("FEATURES", "are not implemented", lambda r, text: r.nodes.miss(text)),
    "withheld": FaultKind("FEATURES", "are not available now", lambda r, text: r.nodes.withhold(text)),
    "exposure-step": counted("US", "are the steps of ExposureTime", lambda r, n: r.nodes.round_exposure(n)),
    "size-step": counted(
        "PIXELS", "are the steps of sizes and offsets", lambda r, n: r.nodes.step_sizes(n), least=1
    ),
    "slow-user-set": timed("for each user set loaded or saved", lambda r, s: r.nodes.slow_command(s)),
    "none": FaultKind("", "all that is over", lambda r, _: r.heal()),
}


def table() -> str:
    """Return every kind, a line each, for the help."""
    return "\n".join(f"{kind:18}{one.value:18}{one.does}" for kind, one in KINDS.items())

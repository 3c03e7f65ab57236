"""The faults of `inspectd bench faults`: what is done to which camera, for how long, how soon it must be over."""

from signal import SIGKILL, SIGSTOP
from typing import NamedTuple

from inspectd.acquire.simcam.faults import Call, Effect, Ids, Listed, ShortTells
from inspectd.bench import harms as do
from inspectd.bench.harms import ALWAYS, HANG_S, INCOMPLETE_WITH_ID, STRAYS, Do
from inspectd.bench.trial import RATE_HZ


class Kind(NamedTuple):
    """A camera in the daemon's config; scenarios with the same one run with one daemon."""

    trigger: str
    part_id: str
    num_buffers: int = 16
    is_heard: bool = True
    """Whether somebody reads what the daemon says on stderr."""

    @property
    def name(self) -> str:
        """What the camera is called in the output."""
        unread = "" if self.is_heard else ", stderr unread"
        return f"{self.trigger}, {self.part_id}, {self.num_buffers} buffers{unread}"

    @property
    def config(self) -> str:
        """Its keys in the config."""
        rate = f"acquisition_frame_rate_hz = {RATE_HZ}\n" if self.trigger == "free_run" else ""
        return (
            f'trigger = "{self.trigger}"\npart_id = "{self.part_id}"\nnum_buffers = {self.num_buffers}\n'
            f"stall_s = 2.0\nspare_slots = 8\n{rate}"
        )


LINE, FEW = Kind("line", "counter"), Kind("line", "counter", num_buffers=3)
UNREAD = Kind("line", "counter", is_heard=False)
ENCODER = Kind("line", "encoder", num_buffers=3)
IDS = Kind("line", "frame_id")
SOFTWARE = Kind("software", "frame_id")
FREE = Kind("free_run", "counter")


class Scenario(NamedTuple):
    """A fault of the camera, and how long it lasts until the camera is well again."""

    name: str
    kind: Kind
    harm: Do
    lasts_s: float = 0.0
    within_s: float = 1.0
    """The next part must be judged so soon after the end of the fault."""
    heal: Do = do.nothing
    forgets: bool = False
    """Whether the camera loses its count: nobody could then know of a trigger whose frame is on its way."""
    extra: int = 0
    """Triggers that the camera counts and that never were: each may have a result."""


def scenarios() -> list[Scenario]:
    """Every fault of a simulated camera, and the ways in which its process can fail; alike cameras together."""
    return [
        Scenario("none", LINE, do.nothing),
        Scenario("drop 3 frames", LINE, do.frames(Effect.DROPPED, 3)),
        Scenario("incomplete frame", LINE, do.frames(Effect.INCOMPLETE, 2)),
        Scenario("identical frame", LINE, do.frames(Effect.IDENTICAL)),
        Scenario("short frames", LINE, do.short(ShortTells.BOTH)),
        Scenario("short frames, their lines tell", LINE, do.short(ShortTells.LINES)),
        Scenario("short frames, their size tells", LINE, do.short(ShortTells.SIZE)),
        Scenario("stray frame", LINE, do.stray),
        Scenario("stray frames around triggers", LINE, do.frames(STRAYS, 3)),
        Scenario("frame twice", LINE, do.frames(Effect.TWICE)),
        Scenario("frames swapped", LINE, do.frames(Effect.SWAPPED)),
        Scenario("frames missed", LINE, do.frames(Effect.MISSED, 3)),
        Scenario("incomplete frame with id 0", LINE, do.wrong_id(0, INCOMPLETE_WITH_ID)),
        Scenario("incomplete frame with the highest id", LINE, do.wrong_id(2**64 - 1, INCOMPLETE_WITH_ID)),
        Scenario("frame without chunks", LINE, do.frames(Effect.NO_CHUNKS)),
        Scenario("all unusable for 2 s", LINE, do.frames(Effect.INCOMPLETE, ALWAYS), 2.0, heal=do.healed),
        Scenario("starved of buffers for 0.5 s", LINE, do.starved, 0.5),
        Scenario("unplugged for 1 s", LINE, do.unplugged, 1.0, 2.0),
        Scenario("unplugged for 1 s, power lost", LINE, do.power_lost, 1.0, 2.0, forgets=True),
        Scenario("back with another serial for 2 s", LINE, do.exchanged, 2.0, 3.0, do.well_again),
        Scenario("listed twice", LINE, do.listed(Listed.TWICE), within_s=5.0),
        Scenario("listed by two interfaces", LINE, do.listed(Listed.BY_TWO), within_s=5.0),
        Scenario("vendor and model that are no UTF-8", LINE, do.reopened(do.odd_names), within_s=5.0),
        Scenario("lines padded for 2 s", LINE, do.padded(is_told=True), 2.0, 3.0, do.well_again),
        Scenario("lines padded for 2 s, nothing says so", LINE, do.padded(is_told=False), 2.0, 3.0, do.well_again),
        Scenario("register access of 6 s", LINE, do.slow_register, 6.0, 3.0),
        Scenario("opening of 5 s", LINE, do.slow_when_reopened(Call.OPEN, 5.0), 5.3, 3.0),
        Scenario("opening that hangs", LINE, do.slow_when_reopened(Call.OPEN, HANG_S), within_s=65.0),
        Scenario("close that hangs", LINE, do.slow_when_reopened(Call.CLOSE, HANG_S), within_s=6.0),
        Scenario("stop that hangs", LINE, do.slow_when_silent(Call.STOP), within_s=6.0),
        Scenario("stop command that hangs", LINE, do.slow_when_silent(Call.ACQUISITION_STOP), within_s=6.0),
        Scenario("silent while connected", LINE, do.silent(1), within_s=3.0),
        Scenario("silent for three starts", LINE, do.silent(3), within_s=10.0),
        Scenario("clock jumps an hour ahead", LINE, do.clock(3600.0)),
        Scenario("clock jumps an hour back", LINE, do.clock(-3600.0)),
        Scenario("clock 3 s back while idle", LINE, do.clock_back_while_idle),
        Scenario("counter jumps ahead", LINE, do.jump(1_000_000), forgets=True),
        Scenario("counter jumps 1,000 ahead", LINE, do.jump(1_000), forgets=True, extra=1_000),
        Scenario("counter steps back", LINE, do.jump(-500_000), forgets=True),
        Scenario("counter of 16 bits wraps", LINE, do.narrow(16, False, 65_510), 3.0, 3.0, do.well_again, True),
        Scenario("counter passes 2^31", LINE, do.narrow(32, True, 2**31 - 26), 3.0, 3.0, do.well_again, True),
        Scenario("camera process killed", LINE, do.killed(SIGKILL), within_s=5.0),
        Scenario("camera process stopped", LINE, do.killed(SIGSTOP), within_s=6.0),
        Scenario("200 kB on stderr that nobody reads", UNREAD, do.chatter),
        Scenario("few buffers: burst, two frames without chunks", FEW, do.burst(Effect.NO_CHUNKS, 2)),
        Scenario("few buffers: burst, a frame twice", FEW, do.burst(Effect.TWICE, 1)),
        Scenario("encoder: none", ENCODER, do.nothing),
        Scenario("encoder: drop 3 frames", ENCODER, do.frames(Effect.DROPPED, 3)),
        Scenario("encoder: burst, two frames without chunks", ENCODER, do.burst(Effect.NO_CHUNKS, 2)),
        Scenario("encoder: stray frame", ENCODER, do.stray),
        Scenario("encoder: frame twice", ENCODER, do.frames(Effect.TWICE)),
        Scenario("encoder: frames swapped", ENCODER, do.frames(Effect.SWAPPED)),
        Scenario("encoder: steps back", ENCODER, do.encoder_back),
        Scenario("encoder: unplugged for 1 s", ENCODER, do.unplugged, 1.0, 2.0),
        Scenario("frame ids: none", IDS, do.nothing),
        Scenario("frame ids: drop 3 frames", IDS, do.frames(Effect.DROPPED, 3)),
        Scenario("frame ids: frame twice", IDS, do.frames(Effect.TWICE)),
        Scenario("frame ids: frames swapped", IDS, do.frames(Effect.SWAPPED)),
        Scenario("frame ids: unplugged for 1 s", IDS, do.unplugged, 1.0, 2.0),
        Scenario("frame ids: begin at 4", IDS, do.ids(4), 2.0, 3.0, do.well_again),
        Scenario("frame ids: 16 bits wrap through 0", IDS, do.ids(65_520, 16), 3.0, 3.0, do.well_again),
        Scenario("frame ids: 16 bits wrap, and a loss there", IDS, do.lossy_ids, 2.0, 3.0, do.well_again),
        Scenario("frame ids: 16 bits wrap without 0", IDS, do.ids(65_520, 16, True), 3.0, 3.0, do.well_again),
        Scenario("frame ids: 32 bits wrap", IDS, do.ids(2**32 - 16, 32), 3.0, 3.0, do.well_again),
        Scenario("frame ids: always 0, two frames lost", IDS, do.no_ids(Ids.ZERO), 4.0, 3.0, do.well_again),
        Scenario("frame ids: absent, two frames lost", IDS, do.no_ids(Ids.ABSENT), 4.0, 3.0, do.well_again),
        Scenario("frame ids: 90,004 on an incomplete frame", IDS, do.wrong_id(90_004, INCOMPLETE_WITH_ID)),
        Scenario("frame ids: 0 on an incomplete frame", IDS, do.wrong_id(0, INCOMPLETE_WITH_ID)),
        Scenario("frame ids: none on an incomplete frame", IDS, do.frames(Effect.NO_ID | Effect.INCOMPLETE)),
        Scenario("frame ids: 0 on a whole frame", IDS, do.wrong_id(0, Effect.WRONG_ID)),
        Scenario("software: none", SOFTWARE, do.nothing),
        Scenario("software: stray frame", SOFTWARE, do.stray),
        Scenario("software: stray frames around triggers", SOFTWARE, do.frames(STRAYS, 2)),
        Scenario("software: frame twice", SOFTWARE, do.frames(Effect.TWICE)),
        Scenario("software: frame comes after the next", SOFTWARE, do.frames(Effect.SWAPPED)),
        Scenario("software: frame lost", SOFTWARE, do.frames(Effect.DROPPED)),
        Scenario("software: short frames", SOFTWARE, do.short(ShortTells.BOTH)),
        Scenario("software: incomplete frame", SOFTWARE, do.frames(Effect.INCOMPLETE)),
        Scenario("software: clock jumps an hour ahead", SOFTWARE, do.clock(3600.0)),
        Scenario("software: clock jumps an hour back", SOFTWARE, do.clock(-3600.0)),
        Scenario("software: frame ids always 0", SOFTWARE, do.no_ids(Ids.ZERO), 4.0, 3.0, do.well_again),
        Scenario("software: unplugged for 1 s", SOFTWARE, do.unplugged, 1.0, 3.0),
        Scenario("software: unplugged right after a trigger", SOFTWARE, do.unplugged_at_trigger, 1.0, 3.0),
        Scenario("free run: none", FREE, do.nothing),
        Scenario("free run: drop 3 frames", FREE, do.frames(Effect.DROPPED, 3)),
        Scenario("free run: stray frame", FREE, do.stray),
        Scenario("free run: frame twice", FREE, do.frames(Effect.TWICE)),
        Scenario("free run: short frames", FREE, do.short(ShortTells.BOTH)),
        Scenario("free run: unplugged for 1 s", FREE, do.unplugged, 1.0, 3.0),
        Scenario("free run: silent while connected", FREE, do.silent(1), within_s=4.0),
    ]  # fmt: skip

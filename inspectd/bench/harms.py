"""What a scenario of `inspectd bench faults` does to its camera: functions of a trial, or that make one."""

from collections.abc import Callable

from inspectd.acquire.simcam.faults import Call, Effect, Ids, Listed, ShortTells
from inspectd.bench.trial import Trial

HANG_S, ALWAYS = 3600.0, 10**9
INCOMPLETE_WITH_ID = Effect.INCOMPLETE | Effect.WRONG_ID
STRAYS = Effect.STRAY_BEFORE | Effect.STRAY_AFTER
Do = Callable[[Trial], None]


def nothing(_: Trial) -> None:
    """Do no harm."""


def stray(trial: Trial) -> None:
    """Let a frame come now that nobody triggered."""
    trial.rig.stray()


def frames(effects: Effect, count: int = 1) -> Do:
    """Do this to each of the next frames."""
    return lambda trial: trial.rig.next(effects, count)


def burst(effects: Effect, count: int) -> Do:
    """Do this to the first frames of a burst of three; the buffer that has been free longest is filled first.

    The first one shows a defective part: of two clean ones no verdict tells which is which.
    """

    def harm(trial: Trial) -> None:
        trial.rig.faults.oldest_first = 1
        trial.burst(1 + trial.rig.memory.counter % 2)
        trial.line.take_for(0.2)
        trial.rig.next(effects, count)
        trial.burst(3)

    return harm


def short(tells: ShortTells) -> Do:
    """Let two frames have half of their lines, which this tells."""

    def harm(trial: Trial) -> None:
        trial.rig.faults.short_tells = tells
        trial.rig.next(Effect.SHORT, 2)

    return harm


def wrong_id(frame_id: int, effects: Effect) -> Do:
    """Do this to the next frame, and let it have this id."""

    def harm(trial: Trial) -> None:
        trial.rig.faults.wrong_id = frame_id
        trial.rig.next(effects)

    return harm


def starved(trial: Trial) -> None:
    """Let the producer find no free buffer for half a second."""
    trial.rig.starve(0.5)


def healed(trial: Trial) -> None:
    """End what was done."""
    trial.rig.heal()


# ---- what is in force from the next start on ----


def reopened(change: Do) -> Do:
    """Change something, and let the camera be opened anew; triggers go on meanwhile."""

    def harm(trial: Trial) -> None:
        change(trial)
        trial.reopen()

    return harm


def in_force(change: Do) -> Do:
    """Change something, let the camera be opened anew, and wait for it: the next trigger is the first one so."""

    def harm(trial: Trial) -> None:
        change(trial)
        trial.reopen_and_wait()

    return harm


def well_again(trial: Trial) -> None:
    """End what was changed, and let the camera be opened anew."""
    trial.rig.heal()
    trial.rig.rename("SIM-sim")
    trial.reopen()


def ids(first: int, bits: int = 64, skips_zero: bool = False) -> Do:
    """Let frame ids begin there, and wrap after so many bits."""
    return in_force(lambda trial: trial.rig.faults.number_frames(first, bits, skips_zero))


def no_ids(kind: Ids) -> Do:
    """Let frame ids be all 0, or absent, and two frames be lost 2 s later; the daemon may refuse such a camera."""

    def change(trial: Trial) -> None:
        trial.rig.faults.id_kind = kind
        for after in (40, 41):
            trial.rig.plan(trial.rig.memory.counter + after, Effect.DROPPED)

    return reopened(change)


def lossy_ids(trial: Trial) -> None:
    """Lose the very frame at which the ids of 16 bits wrap through 0."""
    ids(65_520, 16)(trial)
    trial.rig.plan(trial.rig.memory.counter + 17, Effect.DROPPED)


def narrow(bits: int, is_signed: bool, counter: int) -> Do:
    """Let the counter have so many bits, and stand soon before the highest value it shows."""

    def change(trial: Trial) -> None:
        trial.rig.faults.narrow_counter(bits, is_signed)
        trial.rig.memory.counter = counter

    return in_force(change)


def padded(is_told: bool) -> Do:
    """Let lines be padded, and something say so or nothing."""
    return reopened(lambda trial: trial.rig.faults.pad_lines(8, is_told))


def listed(how: Listed) -> Do:
    """Let the producer list the camera more than once."""

    def change(trial: Trial) -> None:
        trial.rig.faults.listed = how

    return reopened(change)


def odd_names(trial: Trial) -> None:
    """Let its vendor and its model be no UTF-8."""
    trial.rig.faults.vendor, trial.rig.faults.model = b"M\xfcller", b"\xff\xfe"


# ---- clock, counter, encoder; cable, calls, silence ----


def jump(by: int) -> Do:
    """Let the counter jump."""

    def harm(trial: Trial) -> None:
        trial.rig.jump_counter(by)
        trial.line.take_for(
            0.1
        )  # the camera must notice before its next trigger, or that would be part of the jump

    return harm


def clock(seconds: float) -> Do:
    """Let the clock jump."""
    return lambda trial: trial.rig.jump_clock(seconds)


def clock_back_while_idle(trial: Trial) -> None:
    """Set the clock back while no frames come."""
    trial.line.take_for(1.5)
    trial.rig.jump_clock(-3.0)
    trial.line.take_for(0.5)


def encoder_back(trial: Trial) -> None:
    """Let the encoder step back by five parts."""
    trial.rig.faults.encoder_offset = -500


def unplugged(trial: Trial) -> None:
    """Pull the cable for a second."""
    trial.rig.unplug(1.0)


def power_lost(trial: Trial) -> None:
    """Take the power for a second."""
    trial.rig.unplug(1.0, power=True)


def unplugged_at_trigger(trial: Trial) -> None:
    """Pull the cable for a second, in the moment after the next trigger."""
    trial.rig.faults.unplug_after_trigger(1.0)


def exchanged(trial: Trial) -> None:
    """Let another camera answer."""
    trial.rig.rename("OTHER")
    trial.rig.unplug(0.2)


def slow_register(trial: Trial) -> None:
    """Pause triggers so that the idle camera is asked for a register, which then takes 6 s."""
    trial.rig.slow_register(6.0)
    trial.line.take_for(1.5)


def slow_when_reopened(call: Call, seconds: float) -> Do:
    """Let a call take its time when the cable has gone for a moment."""
    return reopened(lambda trial: trial.rig.faults.slow(call, seconds))


def silent(starts: int) -> Do:
    """Let the camera answer, and expose nothing until so many starts."""
    return lambda trial: trial.rig.fall_silent(starts)


def slow_when_silent(call: Call) -> Do:
    """Let the camera fall silent, so that it is stopped, and let that hang."""

    def harm(trial: Trial) -> None:
        trial.rig.faults.slow(call, HANG_S)
        trial.rig.fall_silent()

    return harm


def killed(number: int) -> Do:
    """Signal the camera process."""
    return lambda trial: trial.line.kill_camera(number)


def chatter(trial: Trial) -> None:
    """Let the producer's library say more on stderr than a pipe holds."""
    trial.rig.chatter(200_000)

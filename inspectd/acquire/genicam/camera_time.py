"""When a camera exposed: its clock, read through its session since one start of the acquisition.

Cameras tell times in many ways. Frames say 0, or ticks of a length that nobody tells, or of another length than
the clock that can be latched; a clock may jump, or stand still. So what is told is believed only as long as the
host's clock bears it out. A clock that can't be trusted is said so once, and then there is no device time.
"""

from collections import deque
from contextlib import suppress

from inspectd.acquire.genicam.device_clock import JUMP_NS, LATCH_S, DeviceClock
from inspectd.acquire.genicam.features import say_once
from inspectd.acquire.genicam.gentl import Delivered, Session
from inspectd.acquire.genicam.tick_rate import TickRate
from inspectd.runtime.books import Losses
from inspectd.runtime.clock import ClockView, now_ns
from inspectd.runtime.errors import CameraError

APART_NS = 20_000_000
"""Time between the first two readings of the clock, in ns; together they show how fast it goes."""
AGAIN_NS = 250_000_000
"""Time between the next ones, in ns, until they do; and the least between two that a doubt asks for."""
JITTER_NS = 25_000_000
"""Frames come so regularly after their exposure, give or take, in ns."""
LATE_NS = 100_000_000
"""No frame is that much longer on its way than others, in ns; where the clock can't be latched, it has jumped."""
BEFORE_NS = 1_000_000_000
"""A frame may have been exposed so long before this began to look, in ns."""
USUAL_NS = 1_000_000_000
"""Longest time from exposure to arrival, in ns, that is remembered as usual for a while."""
ODD_FRAMES = 3
"""Frames in a row whose time makes no sense, until none is believed."""
JUMPS, JUMPS_NS = 3, 60_000_000_000
"""A clock that jumps so many times within so many nanoseconds is none."""


class CameraTime:
    """The clock of one open camera; jumps of it are counted in `losses`."""

    def __init__(self, session: Session, losses: Losses) -> None:
        self._session, self._losses = session, losses
        self._began_ns = self._looked_ns = self._empty_ns = now_ns()
        self._was_empty, self._has_come = True, False  # at the last look; since then
        self.has_jumped = False
        """Whether times began anew: the next one can't be compared with those before. Whoever looks clears it."""
        self.distrust = ""
        """Why there is no device time; empty as long as there is."""
        self._clock = DeviceClock()
        self._latch_rate = TickRate(session.tick_hz, tolerance=2e-3, least_ns=10_000_000)
        self._frame_rate: TickRate | None = None
        self._is_matched = False  # whether the frames' times were found to be those of the clock that is latched
        self._can_latch = session.features.is_available("TimestampLatch")
        self._doubted_ns = self._usual_ns = self._odd = 0
        self._jumps: deque[int] = deque(maxlen=JUMPS)
        self._latch()
        self._due_ns = now_ns() + APART_NS

    def refresh(self) -> None:
        """Read the device's clock again when that is due. Call it right before each wait for a frame."""
        self._looked_ns = now_ns()
        waiting = self._session.waiting
        self._was_empty = waiting == 0 if waiting is not None else not self._has_come
        if self._was_empty:
            self._empty_ns = self._looked_ns
        self._has_come = False
        if self._looked_ns > self._due_ns:
            self._latch()
            self._due_ns = now_ns() + (int(LATCH_S * 1e9) if self._latch_rate.is_proven else AGAIN_NS)
            self._usual_ns = 0

    @property
    def uncertainty_ns(self) -> int | None:
        """How exactly `exposed_ns` is known, in ns, at both sides; None if the device's clock was not latched."""
        return None if self.distrust else self._clock.aged_ns(now_ns())

    def device_ns(self, delivered: Delivered) -> int | None:
        """Device time in ns of a buffer that just came; None if it has none that can be trusted."""
        ticks, arrived_ns, self._has_come = delivered.device_time, now_ns(), True
        if self.distrust:
            return None
        if ticks is None:
            self._is_odd("its frames carry no time", delivered.is_complete)
            return None
        if self._frame_rate is None:
            told_hz = 1_000_000_000 if delivered.is_ns else self._session.tick_hz
            self._frame_rate = TickRate(told_hz, tolerance=1e-2, least_ns=20 * JITTER_NS)
        # one that was waited for has just come
        self._frame_rate.read(
            ticks, arrived_ns, JITTER_NS + (0 if self._was_empty else arrived_ns - self._empty_ns)
        )
        if self._frame_rate.is_hopeless:
            self._no_longer("its frames' times do not go on as a clock does")
            return None
        if self._is_latched and not self._is_matched and not self._match(ticks, arrived_ns):
            return None
        if not self._frame_rate.hz:
            return None
        device_ns = ticks * 1_000_000_000 // self._frame_rate.hz
        if self._is_latched:
            return self._by_latch(device_ns, arrived_ns)
        return self._by_arrival(device_ns, arrived_ns)

    @property
    def booted_ns(self) -> int:
        """When the device's clock began, on the host's monotonic clock, in ns; 0 if that is not known.

        A clock that keeps the time of day began long ago.
        """
        known = self._is_latched and bool(self._latch_rate.hz) and not self.distrust
        return max(0, self._clock.offset_ns or 0) if known else 0

    def exposed_ns(self, device_ns: int, arrived_ns: int) -> int | None:
        """When a frame was exposed, on the host's monotonic clock; None if that can't be trusted."""
        return None if self.distrust else self._clock.exposed_ns(device_ns, arrived_ns)

    def view(self) -> ClockView:
        """What is known of the device's clock."""
        features = self._session.features
        ptp = features.get("PtpStatus") or features.get("GevIEEE1588Status") or ""
        if self.distrust:
            return ClockView(None, None, str(ptp), self.distrust)
        return ClockView(self._clock.offset_ns, self._clock.uncertainty_ns, str(ptp))

    # ---- whether a frame's time makes sense ----

    @property
    def _is_latched(self) -> bool:
        return self._clock.uncertainty_ns is not None

    def _match(self, ticks: int, arrived_ns: int) -> bool:
        """Find the rate at which the frames' times are those of the latched clock; without one it is let go of.

        False: it can't be told yet.
        """
        rate = self._frame_rate
        assert rate is not None
        for is_again in (False, True):
            if is_again:
                if now_ns() - self._doubted_ns <= AGAIN_NS:
                    return False  # it was read just now
                self._latch()  # it may have jumped since
                self._doubted_ns = now_ns()
            for hz in (rate.hz, *rate.candidates):
                earliest_ns = self._began_ns - (BEFORE_NS if hz == rate.hz else JUMP_NS)
                if not hz:
                    continue
                age_ns = self._clock.age_ns(ticks * 1_000_000_000 // hz, arrived_ns)
                if -JUMP_NS <= age_ns <= arrived_ns - earliest_ns:
                    rate.hz, self._is_matched = hz, True
                    return True
        if self._can_latch and not self._latch_rate.is_proven:
            return False
        say_once(
            "the times of the camera's frames are not those of its TimestampLatch, which is not used",
            serial=self._session.device.serial,
        )
        self._clock, self._can_latch = DeviceClock(), False
        return True

    def _by_latch(self, device_ns: int, arrived_ns: int) -> int | None:
        """The device time of a frame, if it has one that the latched clock bears out: read anew where in doubt."""
        age_ns, now = self._clock.age_ns(device_ns, arrived_ns), now_ns()
        is_to_come = age_ns < -(self._clock.aged_ns(now) or 0)  # which can't be, by however little
        is_old = age_ns > self._usual_ns + JUMP_NS and now - self._doubted_ns > AGAIN_NS
        if is_to_come or is_old:
            self._latch()
            self._doubted_ns = now_ns()
            age_ns = self._clock.age_ns(device_ns, arrived_ns)
            if age_ns <= USUAL_NS:
                self._usual_ns = max(self._usual_ns, age_ns)
        if age_ns < -JUMP_NS:
            self._is_odd("its frames seem to be exposed after they came", is_whole=True)
            return None
        self._odd = 0
        return device_ns

    def _by_arrival(self, device_ns: int, arrived_ns: int) -> int:
        """The device time of a frame whose clock can't be latched. If it has jumped, its offset is found anew."""
        assert self._frame_rate is not None
        may_have_waited_ns = arrived_ns - self._empty_ns
        if self._clock.age_ns(device_ns, arrived_ns) - may_have_waited_ns > LATE_NS:
            self._clock = DeviceClock()
            if self._frame_rate.is_proven:  # else a tick may just be longer than was told
                self._has_jumped()
        self._odd = 0
        return device_ns

    def _is_odd(self, why: str, is_whole: bool) -> None:
        self._odd += is_whole
        if self._odd >= ODD_FRAMES:
            self._no_longer(why)

    def _has_jumped(self) -> None:
        self._losses.clock_jumps += 1
        self.has_jumped = True
        self._jumps.append(now_ns())
        if len(self._jumps) == JUMPS and self._jumps[-1] - self._jumps[0] < JUMPS_NS:
            self._no_longer("it jumps again and again")

    def _no_longer(self, why: str) -> None:
        self.distrust = why
        say_once(
            "the camera's clock can't be trusted: there is no device time, and where software triggers expose, a "
            "frame that nobody triggered can pass for a part's",
            why=why,
            serial=self._session.device.serial,
        )

    # ---- the clock itself ----

    def _latch(self) -> None:
        """Read the device's clock, where it can be read; a camera that does not let us still has its frames."""
        if not self._can_latch:
            return
        features, before_ns, before_hz = self._session.features, now_ns(), self._latch_rate.hz
        value = None
        with suppress(CameraError):
            features.execute("TimestampLatch")
            after_ns = now_ns()
            value = features.get("TimestampLatchValue", fresh=True)
        if not value:
            self._can_latch = self._is_latched  # what worked once may do so again
            return
        self._latch_rate.read(int(value), (before_ns + after_ns) // 2, (after_ns - before_ns) // 2)
        self._can_latch = not self._latch_rate.is_hopeless
        hertz = self._latch_rate.hz
        if not self._can_latch or hertz != before_hz:
            self._clock, self._is_matched = DeviceClock(), False
        if (
            self._can_latch
            and hertz
            and self._clock.latched(before_ns, int(value) * 1_000_000_000 // hertz, after_ns)
        ):
            self._has_jumped()

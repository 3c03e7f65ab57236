"""When a camera exposed: its clock, read through its session since one start of the acquisition."""

from inspectd.acquire.genicam.device_clock import DeviceClock
from inspectd.acquire.genicam.gentl import Delivered, Session
from inspectd.runtime.books import Losses
from inspectd.runtime.clock import ClockView, now_ns


class CameraTime:
    """The clock of one open camera; jumps of it are counted in `losses`."""

    def __init__(self, session: Session, losses: Losses) -> None:
        self._session, self._losses = session, losses
        self._clock = DeviceClock()
        self._latch()

    def refresh(self) -> None:
        """Read the device's clock again when that is due."""
        if self._clock.is_due:
            self._latch()

    def device_ns(self, delivered: Delivered) -> int | None:
        """Device time of a buffer in nanoseconds; None if the producer gives none."""
        time, hertz = delivered.device_time, self._session.tick_hz
        return None if time is None else time * 1_000_000_000 // hertz

    def exposed_ns(self, device_ns: int, arrived_ns: int) -> int | None:
        """When a frame was exposed, on the host's monotonic clock; None if the device's clock has jumped."""
        exposed_ns = self._clock.exposed_ns(device_ns, arrived_ns)
        if exposed_ns is None:
            self._losses.clock_jumps += 1
            self._clock = DeviceClock()
            self._latch()
        return exposed_ns

    @property
    def uncertainty_ns(self) -> int | None:
        """Uncertainty of when a frame was exposed, in nanoseconds; None where the clock could not be latched."""
        return self._clock.uncertainty_ns

    def _latch(self) -> None:
        """Read the device's clock, where it can be read."""
        features = self._session.features
        if not features.has("TimestampLatch"):
            return
        before_ns = now_ns()
        features.execute("TimestampLatch")
        after_ns = now_ns()
        value = features.get("TimestampLatchValue", fresh=True)
        if value is not None:
            self._clock.latched(before_ns, int(value) * 1_000_000_000 // self._session.tick_hz, after_ns)

    def view(self) -> ClockView:
        """What is known of the device's clock."""
        features = self._session.features
        ptp = features.get("PtpStatus") or features.get("GevIEEE1588Status") or ""
        return ClockView(self._clock.offset_ns, self._clock.uncertainty_ns, str(ptp))

"""A GenICam camera: how its frames are triggered and counted, whether it lives, what time it is there.

Which number counts the parts (`part_id`):

frame_id   the producer's frame ids. They restart at each start: triggers while it was down are not known.
counter    the camera's trigger counter (chunk CounterValue), which goes on whatever happens to us.
encoder    frame ids count, and the encoder's value (chunk EncoderValue) becomes the part id.

With software triggers, sent at a rate or when the daemon asks for one, the triggers sent are counted, one at a
time: the next one is sent when the last one's frame is here or was given up, and what waits before it is sent is
nobody's. `identity` decides which trigger a frame shows.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspectd.acquire.camera import U8, Exposure, Gap, StalledError, Started
from inspectd.acquire.genicam.buffers import picture
from inspectd.acquire.genicam.camera_time import CameraTime
from inspectd.acquire.genicam.evidence import evidence_of, latest_ns
from inspectd.acquire.genicam.features import Features, say_once
from inspectd.acquire.genicam.gentl import Delivered, Session
from inspectd.acquire.genicam.identity import ByNumber, ByTrigger, Surplus
from inspectd.acquire.genicam.opening import caveats_of, configure, identity_of, longest_silence_s, wanted_fields
from inspectd.acquire.genicam.producers import producers
from inspectd.acquire.orders import Orders, Tell
from inspectd.acquire.protocol import Job, Triggered
from inspectd.runtime.books import Losses
from inspectd.runtime.clock import ClockView, now_ns
from inspectd.runtime.errors import CameraError
from inspectd.runtime.frame import Reason
from inspectd.settings.camera import GenicamCamera

NO_ENCODER = "the frame carries no chunk EncoderValue: it can't be told which part it shows"
PROBE_S = 0.5
"""Seconds between questions for a register while a camera sends nothing: is it idle, or dead?"""
EXTRA_S = 0.5
"""Seconds that a frame may take beyond its exposure."""


class Genicam:
    """One camera. Every frame that is missing is reported, and counted in `losses` by what showed it."""

    def __init__(
        self,
        config: GenicamCamera,
        job: Job,
        base: Path,
        tell: Tell,
        losses: Losses,
        orders: Orders | None = None,
    ) -> None:
        self.device = self.serial = ""
        self._config, self._job, self._base, self._tell, self._losses = config, job, base, tell, losses
        self._orders = orders or Orders()
        self._is_software = config.trigger == "software"
        self._reads_counter = config.part_id == "counter"
        self._opened: Session | None = None
        self._held: Delivered | None = None
        self._sent = job.sent

    @property
    def _session(self) -> Session:
        assert self._opened is not None
        return self._opened

    @property
    def _features(self) -> Features:
        return self._session.features

    # ---- open and start ----

    def open(self) -> None:
        """Open exactly the one device that is meant, set its features, read them back."""
        self._opened = Session(producers(self._config.cti, self._base), wanted_fields(self._config))
        self.device, self.serial = identity_of(self._opened.device, self._job.serial)
        self._configure()

    def _configure(self) -> None:
        self._format, self._convert = configure(self._config, self._job, self._features)

    def start(self) -> Started:
        """Begin to acquire. The counter is read before: whatever it counts from then on must come."""
        self._by_trigger = ByTrigger(self._sent)
        self._by_number = ByNumber(self._reads_counter, self._counter() if self._reads_counter else 0)
        self._identity = self._by_trigger if self._is_software else self._by_number
        counts = self._is_software or self._reads_counter
        counted = self._identity.last if counts else None
        self._session.start(self._config.num_buffers)
        self._may_have_missed = not counts  # frames before the first one, of which their ids say nothing
        self._overdue: tuple[int, int] | None = None  # a count that the camera had reached, and when to give it up
        self._misses = 0  # gaps reported since the newest frame
        self._stalled = ""
        self._ending = False
        self._next_ns = self._newest_ns = self._looked_ns = self._probed_ns = now_ns()
        self._time = CameraTime(self._session, self._losses)
        exposure_us = self._features.get("ExposureTime")
        self._patience_ns = int(EXTRA_S * 1e9 + 1e3 * float(exposure_us or 0))
        self._silence_s = longest_silence_s(self._config, self._features)
        if self._is_software:
            self._orders.open()
        resets = any("Timestamp" in name and name.endswith("Reset") for name in self._job.features)
        booted_ns = self._time.booted_ns if self._reads_counter and not resets else 0
        return Started(counted, serial=self.serial, booted_ns=booted_ns)

    def restart(self) -> Started:
        """Stop, write everything once more, start: the first remedy for a camera that fell silent."""
        self._give_back()
        self._session.halt()
        self._configure()
        return self.start()

    # ---- frames ----

    def wait(self, timeout_s: float) -> Exposure | Gap | None:
        """Wait for the next frame, oldest first, or a gap; None after the time-out.

        Raises StalledError if frames should come and do not.
        """
        self._give_back()
        if self._stalled and not self._ending:
            raise StalledError(self._stalled)
        self._time.refresh()
        if self._is_software and not self._ending:
            if self._overdue is None:  # no frame can come, only orders
                self._orders.wait(min(timeout_s, self._left_s()))
            self._send_trigger()
            timeout_s = min(timeout_s, max(0.001, self._left_s())) if self._overdue is not None else 0.001
        began_ns, last_look_ns = now_ns(), self._looked_ns
        delivered = self._session.wait(timeout_s)
        self._looked_ns = now_ns()
        if delivered is None:
            return self._nothing_came()
        return self._identified(delivered, latest_ns(last_look_ns, began_ns, self._looked_ns, timeout_s))

    def _identified(self, delivered: Delivered, seen_ns: int) -> Exposure | None:
        """Find out which part a buffer shows, and when it was exposed; None for a frame that shows no new one."""
        self._newest_ns = self._looked_ns
        part_id = self._config.part_id
        evidence, moment = evidence_of(delivered, self._session, self._time, part_id, self._looked_ns)
        before = self._identity.last
        found = self._identity.show(evidence)
        self._stalled = self._by_number.trouble
        if isinstance(found, Surplus):
            self._drop(delivered, found.why)
            return None
        if evidence.unfit and self._is_software and self._time.uncertainty_ns is None:
            self._stalled = "a frame arrived in part, and without a clock nobody knows whose the next one would be"
        self._losses.incomplete += bool(evidence.unfit)
        self._losses.frame_id_gaps += 0 if found.restarted else max(0, found.trigger - before - 1)
        self._overdue, self._misses, self._held = None, 0, delivered
        restarted, self._may_have_missed = found.restarted or (self._may_have_missed and self._has_lost()), False
        encoder, reason, detail = evidence.encoder or 0, found.reason, found.detail
        if part_id == "encoder" and reason is None and evidence.encoder is None:
            reason, detail = Reason.INCOMPLETE, NO_ENCODER
        exposed_ns = seen_ns if moment.exposed_ns is None else moment.exposed_ns
        return Exposure(found.trigger, exposed_ns, encoder, moment.device_ns or 0, reason, detail, restarted)

    def _drop(self, delivered: Delivered, why: str) -> None:
        say_once("a frame shows no new part", why=why, serial=self.serial)
        self._losses.late += 1
        self._session.requeue(delivered)

    def _has_lost(self) -> bool:
        return any(self._session.stream_losses())

    def read(self, image: U8 | None) -> str:
        """Convert the frame's picture into `image`. The buffer goes back at the next wait: the slot is first."""
        delivered = self._held
        assert delivered is not None
        try:
            if image is None:
                return ""
            name, width, height, data = picture(delivered.raw)
            if (name, width, height) != self._format:
                return f"the camera sent {width}x{height} {name}"
            self._convert(data, image)
            return ""
        except ValueError as error:
            return str(error)

    def _give_back(self) -> None:
        if self._held is not None:
            self._session.requeue(self._held)
            self._held = None

    # ---- software triggers; `_overdue` is the one whose frame is not here yet ----

    def _send_trigger(self) -> None:
        if self._overdue is not None:
            return
        for _ in range(self._config.num_buffers):
            if (early := self._session.fetch()) is None:
                break
            self._looked_ns = now_ns()
            self._identified(early, self._looked_ns)  # exposed before this trigger, so not by it
        else:
            raise CameraError("the camera sends frames that nobody triggers: does it take TriggerMode?")
        now, rate_hz = now_ns(), self._config.acquisition_frame_rate_hz
        if (order := self._orders.take()) is None:
            if rate_hz is None or now < self._next_ns:
                return
            self._next_ns = max(now, self._next_ns + round(1e9 / rate_hz))
        self._sent += 1
        part_ref, number = (order.part_ref, order.order) if order else ("", 0)
        self._tell(Triggered(self._sent, now, part_ref, number))  # before it is sent: it counts, whatever comes
        # As late as can be: what is exposed until then is not its frame.
        self._by_trigger.sent(self._sent, now_ns())
        self._features.execute("TriggerSoftware")
        self._overdue = self._sent, now + self._patience_ns

    def _left_s(self) -> float:
        """Seconds until the next trigger is due by the rate, or the last one's frame is given up."""
        if self._overdue is not None:
            return (self._overdue[1] - now_ns()) / 1e9
        if self._config.acquisition_frame_rate_hz is None:
            return math.inf
        return max(0.0, (self._next_ns - now_ns()) / 1e9)

    # ---- when nothing comes ----

    def _nothing_came(self) -> Gap | None:
        """Find out whether the camera is idle or dead, or a frame is missing: an uncached register shows it."""
        now = now_ns()
        if self._ending:
            return self._gap() if self._overdue is not None else None
        if self._overdue is not None and now >= self._overdue[1]:
            return self._gap()
        if now - self._probed_ns < PROBE_S * 1e9:
            return None
        self._probed_ns = now
        if not self._reads_counter and self._features.get("Width", fresh=True) is None:
            raise CameraError("the camera does not answer")
        if self._reads_counter and self._overdue is None and (counted := self._reached()) > self._identity.last:
            self._overdue = counted, now + self._patience_ns
        silent_s = (now - self._newest_ns) / 1e9
        if self._silence_s is not None and silent_s > self._silence_s:
            self._losses.timeouts += 1
            raise StalledError(f"the camera answers, but has sent no frame for {self._silence_s:.1f} s")
        return None

    def _gap(self) -> Gap:
        """Give up the frames up to the overdue count. If that goes on, a new start is due; with software triggers
        at once, or a late frame could be taken for the next one's.
        """
        assert self._overdue is not None
        count, self._overdue = self._overdue[0], None
        self._identity.missing(count)
        self._losses.timeouts += 1
        self._misses += 1
        if self._is_software or self._misses > 1:
            self._stalled = "triggers are counted, but no frames come"
        return Gap(count, "triggered, and no frame came")

    def _reached(self) -> int:
        """How far the camera has counted; a counter that jumped is left to the next frames, which show it."""
        return self._by_number.reached(self._counter())

    def _counter(self) -> int:
        value = self._features.get("CounterValue", fresh=True)
        if value is None:
            raise CameraError("part_id = 'counter': the camera has no CounterValue to read")
        return int(value)

    # ---- what there is to know ----

    def clock_view(self) -> ClockView:
        """What is known of the device's clock. Also copies the producer's own counts into `losses`."""
        self._losses.underrun, self._losses.stream_lost = self._session.stream_losses()
        return self._time.view()

    def caveats(self) -> Iterator[str]:
        """What can go unnoticed with this camera as it is set up."""
        return caveats_of(self._config, self._features, self._format[0], self._job.channels)

    def features(self) -> Iterator[dict[str, Any]]:
        """Every feature in the order of the camera's description."""
        return self._features.all()

    # ---- the end ----

    def stop(self) -> None:
        """End the exposures; what is on its way or in the producer's buffers is still fetched."""
        self._features.execute("AcquisitionStop")
        self._ending = True
        if self._reads_counter and (counted := self._reached()) > self._identity.last:
            self._overdue = counted, 0

    def close(self) -> None:
        """Let go of the device, whatever state it is in."""
        if self._opened is not None:
            self._opened.close()

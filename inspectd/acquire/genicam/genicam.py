"""A GenICam camera: how its frames are triggered and counted, whether it lives, what time it is there.

Which number counts the parts (`part_id`):

frame_id   the producer's frame ids. They restart at each start: triggers while it was down are not known.
counter    the camera's trigger counter (chunk CounterValue), which goes on whatever happens to us.
encoder    frame ids count, and the encoder's value (chunk EncoderValue) becomes the part id.

With software triggers, sent at a rate or when the daemon asks for one, the triggers sent are counted, one at a
time: the next one is sent when the last one's frame is here or was given up. So no frame can be taken for another
part's.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspectd.acquire.camera import MAX_GAP, U8, Exposure, Gap, StalledError, Started
from inspectd.acquire.genicam.camera_time import CameraTime
from inspectd.acquire.genicam.features import CHUNK_OF, Features
from inspectd.acquire.genicam.gentl import Delivered, Session
from inspectd.acquire.genicam.opening import configure, identity_of, longest_silence_s, wanted_fields
from inspectd.acquire.genicam.producers import producers
from inspectd.acquire.orders import Orders, Tell
from inspectd.acquire.protocol import Job, Triggered
from inspectd.runtime.books import Losses
from inspectd.runtime.clock import ClockView, now_ns
from inspectd.runtime.errors import CameraError
from inspectd.settings.camera import GenicamCamera

PROBE_S = 0.5
"""Seconds between questions for a register while a camera sends nothing: is it idle, or dead?"""
EXTRA_S = 0.5
"""Seconds that a frame may take beyond its exposure."""
AT_ONCE_S, ASLEEP_S = 0.001, 0.1
"""Bounds in seconds for the age of a frame without a device time: one that was waited for has just come. One that
was there at once may have waited since the last look, and so may one that came while this process slept: it is
taken for that old, not fresher."""
BLOCK_IDS = 65535
"""Highest id of GigE Vision 1.x, whose ids have 16 bits; 1 follows on it."""


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
        counted = self._sent if self._is_software else self._counter() if self._reads_counter else None
        self._session.start(self._config.num_buffers)
        self._last = counted or 0  # the newest count that came or was reported missing
        self._newest: tuple[int, int] | None = None  # count and frame id of the newest frame that came
        self._overdue: tuple[int, int] | None = None  # a count that the camera had reached, and when to give it up
        self._given_up = range(0)  # counts reported missing: a frame with one of them is late
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
        return Started(counted, serial=self.serial)

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
        waited_s = (self._looked_ns - began_ns) / 1e9
        is_fresh = AT_ONCE_S < waited_s < timeout_s + ASLEEP_S
        return self._identified(delivered, self._looked_ns if is_fresh else last_look_ns)

    def _identified(self, delivered: Delivered, seen_ns: int) -> Exposure | None:
        """Find out which part a buffer shows, and when it was exposed; None for a frame that comes too late."""
        self._newest_ns = self._looked_ns
        step = self._id_step(delivered)
        self._unfit = delivered.shortfall
        count, part_id = self._count_of(delivered, step)
        self._losses.frame_id_gaps += step - 1
        self._newest = count, delivered.frame_id or 0
        if count in self._given_up or (self._is_software and self._overdue is None):
            self._losses.late += 1
            self._session.requeue(delivered)
            return None
        self._losses.incomplete += not delivered.is_complete
        self._last, self._overdue, self._misses, self._held = count, None, 0, delivered
        device_ns = self._time.device_ns(delivered)
        exposed_ns = seen_ns if device_ns is None else self._time.exposed_ns(device_ns, self._looked_ns)
        return Exposure(count, seen_ns if exposed_ns is None else exposed_ns, part_id, device_ns or 0)

    def _count_of(self, delivered: Delivered, step: int) -> tuple[int, int]:
        """Number of the frame in the camera's count of its triggers, and the encoder's value, else 0."""
        if self._is_software:
            return self._sent, 0
        by_id = max(self._last + 1, (self._newest or (self._last, 0))[0] + step)
        chunk = CHUNK_OF.get(self._config.part_id)
        if chunk is None or not delivered.is_complete:
            return by_id, 0
        value = self._session.chunk(delivered, f"Chunk{chunk}")
        if value is None:
            self._unfit = f"the frame carries no chunk {chunk}: it can't be told which part it shows"
        if self._config.part_id == "encoder":
            return by_id, int(value or 0)
        return by_id if value is None else int(value), 0

    def _id_step(self, delivered: Delivered) -> int:
        """Frame ids since the newest frame: 1 = the one right after it, or the first one."""
        if self._newest is None:
            return 1
        step = (delivered.frame_id or 0) - self._newest[1]
        if step < 0 and self._newest[1] <= BLOCK_IDS and step + BLOCK_IDS < BLOCK_IDS // 2:
            step += BLOCK_IDS
        return max(1, step)

    def read(self, image: U8 | None) -> str:
        """Convert the frame's picture into `image`. The buffer goes back at the next wait: the slot is first."""
        delivered = self._held
        assert delivered is not None
        try:
            if image is None:
                return ""
            if self._unfit:
                return self._unfit
            name, width, height, data = self._session.picture(delivered)
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
        now, rate_hz = now_ns(), self._config.acquisition_frame_rate_hz
        if (order := self._orders.take()) is None:
            if rate_hz is None or now < self._next_ns:
                return
            self._next_ns = max(now, self._next_ns + round(1e9 / rate_hz))
        self._sent += 1
        part_ref, number = (order.part_ref, order.order) if order else ("", 0)
        self._tell(Triggered(self._sent, now, part_ref, number))  # before it is sent: it counts, whatever comes
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
        if self._reads_counter and self._overdue is None and self._is_behind(counted := self._counter()):
            self._overdue = counted, now + self._patience_ns
        silent_s = (now - self._newest_ns) / 1e9
        if self._silence_s is not None and silent_s > self._silence_s:
            self._losses.timeouts += 1
            raise StalledError(f"the camera answers, but has sent no frame for {silent_s:.1f} s")
        return None

    def _gap(self) -> Gap:
        """Give up the frames up to the overdue count. If that goes on, a new start is due; with software triggers
        at once, or a late frame could be taken for the next one's.
        """
        assert self._overdue is not None
        count, self._overdue = self._overdue[0], None
        self._given_up, self._last = range(self._last + 1, count + 1), count
        self._losses.timeouts += 1
        self._misses += 1
        if self._is_software or self._misses > 1:
            self._stalled = "triggers are counted, but no frames come"
        return Gap(count, "triggered, and no frame came")

    def _is_behind(self, counted: int) -> bool:
        """Whether frames are missing; a counter that jumped is left to the next frame, which shows it."""
        return 0 < counted - self._last <= MAX_GAP

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

    def features(self) -> Iterator[dict[str, Any]]:
        """Every feature in the order of the camera's description."""
        return self._features.all()

    # ---- the end ----

    def stop(self) -> None:
        """End the exposures; what is on its way or in the producer's buffers is still fetched."""
        self._features.execute("AcquisitionStop")
        self._ending = True
        if self._reads_counter and self._is_behind(counted := self._counter()):
            self._overdue = counted, 0

    def close(self) -> None:
        """Let go of the device, whatever state it is in."""
        if self._opened is not None:
            self._opened.close()

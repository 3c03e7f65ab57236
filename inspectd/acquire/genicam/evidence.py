"""What a delivered buffer says of its frame: its numbers, and when it was exposed."""

from typing import Any, NamedTuple

from inspectd.acquire.genicam.camera_time import CameraTime
from inspectd.acquire.genicam.features import CHUNK_OF
from inspectd.acquire.genicam.gentl import Delivered, Session
from inspectd.acquire.genicam.witnesses import Evidence

AT_ONCE_S, ASLEEP_S = 0.001, 0.1
"""Bounds in seconds for the age of a frame without a device time: one that was waited for has just come. One that
was there at once may have waited since the last look, and so may one that came while this process slept: it is
taken for that old, not fresher."""


def latest_ns(last_look_ns: int, began_ns: int, ended_ns: int, timeout_s: float) -> int:
    """The moment to take a frame without a device time for, in ns on the monotonic clock.

    last_look_ns: when nothing waited yet; then the wait for it, which may have lasted `timeout_s`.
    """
    waited_s = (ended_ns - began_ns) / 1e9
    return ended_ns if AT_ONCE_S < waited_s < timeout_s + ASLEEP_S else last_look_ns


class Moment(NamedTuple):
    """When a frame was exposed, in ns; None where its time can't be trusted."""

    device_ns: int | None = None
    """On the device's clock."""
    exposed_ns: int | None = None
    """On the host's monotonic clock."""


def evidence_of(
    delivered: Delivered, session: Session, time: CameraTime, part_id: str, arrived_ns: int
) -> tuple[Evidence, Moment]:
    """What a buffer says of its frame, and when that was exposed.

    Of a frame that is not whole nothing is read: its numbers and times prove nothing. Nor is the device time of
    the first frame after a jump of the clock a witness: it can't be compared with those before.
    """
    if not delivered.is_complete:
        return Evidence(delivered.frame_id, delivered.shortfall), Moment()
    counter = session.chunk(delivered, f"Chunk{CHUNK_OF['counter']}") if part_id == "counter" else None
    encoder = session.chunk(delivered, f"Chunk{CHUNK_OF['encoder']}") if part_id == "encoder" else None
    device_ns = time.device_ns(delivered)
    exposed_ns = None if device_ns is None else time.exposed_ns(device_ns, arrived_ns)
    moment = Moment() if exposed_ns is None else Moment(device_ns, exposed_ns)
    latest_ns = None if exposed_ns is None else exposed_ns + (time.uncertainty_ns or 0)
    witness_ns, time.has_jumped = None if time.has_jumped else moment.device_ns, False
    return Evidence(delivered.frame_id, "", _whole(counter), _whole(encoder), witness_ns, latest_ns), moment


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)

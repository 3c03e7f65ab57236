"""Frames made of what the account has counted: to be judged, or ended as they are."""

from inspectd.acquire.account import Counted
from inspectd.acquire.protocol import Filled
from inspectd.runtime.clock import utc_of
from inspectd.runtime.frame import Ended, Frame, unknown


def received(camera: int, counted: Counted, message: Filled) -> Frame:
    """A frame whose picture lies in a slot. camera: its index among those of the line."""
    frame = _frame(camera, counted, counted.trigger_ns)
    frame.device_ns = message.device_ns
    frame.slot, frame.generation, frame.ring_ns = message.slot, message.generation, message.ring_ns
    return frame


def ended(camera: int, counted: Counted, now_ns: int) -> Ended:
    """The result of triggers without a picture. now_ns: their moment if none is known, on the monotonic clock."""
    assert counted.reason is not None
    frame = _frame(camera, counted, counted.trigger_ns or now_ns)
    frame.exposed = counted.trigger_ns > 0
    frame.claim()
    return Ended(frame, unknown(counted.reason, counted.detail))


def _frame(camera: int, counted: Counted, trigger_ns: int) -> Frame:
    deadline_ns = trigger_ns + counted.deadline_ns
    part_id, frame_id, utc_ns = counted.part_id, counted.frame_id, utc_of(trigger_ns)
    frame = Frame(camera, part_id, frame_id, trigger_ns, utc_ns, deadline_ns, counted.setup)
    frame.counting_restarted, frame.part_ref = counted.counting_restarted, counted.part_ref
    frame.parts = counted.parts
    return frame

"""The other end: whoever wants results. Needs pyzmq and msgspec alone."""

from inspectd.subscribe.client import Beat, Event, Gap, NewEpoch, Received, Silence, Subscriber
from inspectd.subscribe.control import Control, RefusedError

__all__ = [
    "Beat",
    "Control",
    "Event",
    "Gap",
    "NewEpoch",
    "Received",
    "RefusedError",
    "Silence",
    "Subscriber",
]

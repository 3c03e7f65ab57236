"""The subscriber kit, for whoever wants results or steers a line. Needs pyzmq and msgspec alone."""

from inspectd.subscribe.client import Results
from inspectd.subscribe.control import Control, RefusedError
from inspectd.subscribe.events import Beat, Cursor, Event, Missed, NewEpoch, Received, Silence
from inspectd.wire.keys import Keys

__all__ = [
    "Beat",
    "Control",
    "Cursor",
    "Event",
    "Keys",
    "Missed",
    "NewEpoch",
    "Received",
    "RefusedError",
    "Results",
    "Silence",
]

"""The other end: whoever wants results. Needs pyzmq and msgspec alone."""

from inspectd.publish.keys import Keys
from inspectd.subscribe.client import Beat, Cursor, Event, Missed, NewEpoch, Received, Results, Silence

__all__ = ["Beat", "Cursor", "Event", "Keys", "Missed", "NewEpoch", "Received", "Results", "Silence"]

"""The other end: whoever wants results. Needs pyzmq and msgspec alone."""

from inspectd.subscribe.client import Beat, Cursor, Event, Missed, NewEpoch, Received, Results, Silence

__all__ = ["Beat", "Cursor", "Event", "Missed", "NewEpoch", "Received", "Results", "Silence"]

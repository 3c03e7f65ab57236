"""The other end: whoever wants results. Needs pyzmq and msgspec alone."""

from inspectd.subscribe.client import Beat, Event, Gap, NewEpoch, Received, Silence, Subscriber

__all__ = ["Beat", "Event", "Gap", "NewEpoch", "Received", "Silence", "Subscriber"]

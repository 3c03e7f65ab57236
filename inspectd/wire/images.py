r"""The contract of the image socket, shared with every reader; `docs/protocol.md` is its text.

Whoever connects gets one packet: a `Greeting` in JSON, and with it the descriptors of the cameras' rings,
read-only. Slot i of a ring begins at byte i * slot_bytes, its picture `picture_offset` bytes later: uint8
[height, width, channels] without padding. A slot's header is 56 bytes, little endian:

     0  8s  magic "INSLOT1\0"      24  u64 frame id                        40  u32 height, px
     8  u64 generation             32  u64 trigger time, monotonic ns      44  u32 width, px
    16  u64 part id                                                        48  u32 channels, 1 or 3
"""

import msgspec

IMAGES_SCHEMA = 1
MAX_GREETING = 65536
"""Most bytes of the greeting's packet."""
MAX_CAMERAS = 64
"""Most descriptors of one packet; the kernel lets 253 pass."""


class RingView(msgspec.Struct, frozen=True):
    """Where a camera's pictures lie, for the daemon's life."""

    descriptor: int
    """Index of the ring's descriptor among those that came along, from 0."""
    slots: int
    slot_bytes: int
    """Bytes from the beginning of a slot to that of the next."""
    picture_offset: int
    """Bytes from the beginning of a slot to its picture; the picture has room up to the next slot."""


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of the daemon to a reader: the cameras, or why there are none for it."""

    schema: int = IMAGES_SCHEMA
    line: str
    cameras: dict[str, RingView] = {}
    error: str = ""
    """Why there are no cameras, in a sentence; the daemon then closes the connection."""

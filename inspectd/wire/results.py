"""The wire contract, shared with every subscriber; `docs/protocol.md` is its text.

A message has three frames: topic, header, body. The header is 48 bytes, little endian, so that a gateway
can check gap, age, part and verdict without decoding JSON:

    0  2s  magic "IN"        4  u16 flags          8  u64 epoch      32  u64 trigger time, UTC ns
    2  u8  version           6  u16 verdict code  16  u64 seq        40  u64 publish time, UTC ns
    3  u8  codec (0 JSON)                         24  u64 part id
"""

import struct
from enum import IntEnum, IntFlag
from typing import Annotated, NamedTuple

import msgspec

from inspectd.runtime.books import Books, Losses
from inspectd.runtime.clock import ClockView
from inspectd.runtime.frame import Reason, Region, Verdict

HEADER = struct.Struct("<2sBBHHQQQQQ")
MAGIC, VERSION, CODEC_JSON = b"IN", 1, 0
MINOR, FIRST_MINOR = 2, 1
"""Minor version, which only adds to messages; and that of a daemon whose heartbeat does not name one."""
SCHEMA = 1


class VerdictCode(IntEnum):
    """Any two differ in at least 8 bits; neither empty nor erased memory is a PASS."""

    NONE = 0
    PASS = 0xA55A
    FAIL = 0x5AA5
    UNKNOWN = 0x3CC3


class Flag(IntFlag):
    """Bits of the header. A gateway actuates on none that is simulated, replayed, late or a range."""

    REPLAYED = 1
    """The message is sent once more, out of the journal, to a client that asked for it."""
    LATE = 2
    """The message is in the journal alone: what the engine found after the deadline; not a result."""
    SIMULATED = 4
    COUNTING_RESTARTED = 8
    """Triggers before this one may be uncounted; the PLC's reject on silence covers them."""
    RANGE = 16
    """The result is that of several consecutive parts without a picture. The header has the first, the body the
    last; never a PASS."""


class Header(NamedTuple):
    """The second frame of a message. In a heartbeat `seq` is that of the last result, part id is 0."""

    flags: Flag
    verdict: VerdictCode
    epoch: int
    seq: int
    part_id: int
    trigger_utc_ns: int
    publish_utc_ns: int

    def pack(self) -> bytes:
        """Pack the header into 48 bytes."""
        return HEADER.pack(MAGIC, VERSION, CODEC_JSON, *self)


class WireError(ValueError):
    """A message that is not of this protocol."""


_REPLAYED = int(Flag.REPLAYED)  # a plain int: enums take ten times as long, and a chunk has many


def replayed(header: bytes) -> bytes:
    """Set the flag REPLAYED in a packed header."""
    return header[:4] + bytes((header[4] | _REPLAYED,)) + header[5:]


def unpack_header(data: bytes) -> Header:
    """Unpack the header of a message; raises WireError if it is not one of this version."""
    if len(data) != HEADER.size:
        raise WireError(f"a header has {HEADER.size} bytes, this one {len(data)}")
    magic, version, codec, flags, verdict, *rest = HEADER.unpack(data)
    if magic != MAGIC:
        raise WireError(f"a header begins with {MAGIC!r}, this one with {magic!r}")
    if version != VERSION or codec != CODEC_JSON:
        raise WireError(f"header version {version}, codec {codec}: this client reads {VERSION} and {CODEC_JSON}")
    if verdict not in VerdictCode._value2member_map_:
        raise WireError(f"verdict code {verdict:#06x} is none of this protocol")
    return Header(Flag(flags), VerdictCode(verdict), *rest)


class RecipeRef(msgspec.Struct, frozen=True):
    """Which recipe judged."""

    id: str
    revision: str


class ModelRef(msgspec.Struct, frozen=True):
    """Which model was asked."""

    name: str
    sha256: str


class ImageRef(msgspec.Struct, frozen=True):
    """Where the picture lies in the camera's ring, until its generation changes."""

    slot: int
    generation: int


class Times(msgspec.Struct, frozen=True):
    """`trigger_utc_ns` for people; the others in microseconds since the trigger on the monotonic clock,
    None = that stage was not reached.
    """

    trigger_utc_ns: int
    ring_us: float | None
    engine_us: float | None
    judge_us: float | None
    publish_us: float
    deadline_us: float
    device_ns: int | None = None
    """Exposure on the camera's own clock in nanoseconds, where it has one."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Body of a result, topic `res/<line>/<camera>/`: of one part, or of a range of parts without a picture."""

    schema: int = SCHEMA
    kind: str = "view"
    line: str
    camera: str
    part_id: int
    """The part; the first one of a range."""
    last_part_id: int | msgspec.UnsetType = msgspec.UNSET
    """The last part of a range; left out where the result is that of one part."""
    part_ref: str = ""
    """Name of the part in the world outside, as it came with the software trigger."""
    frame_id: int
    verdict: Verdict
    reason: Reason
    detail: str = ""
    simulated: bool
    counting_restarted: bool = False
    regions: tuple[Region, ...] = ()
    truncated: bool = False
    recipe: RecipeRef
    model: ModelRef
    image: ImageRef | None = None
    times: Times

    @property
    def parts(self) -> int:
        """Number of parts that have this result: more than one in a range."""
        return 1 if self.last_part_id is msgspec.UNSET else self.last_part_id - self.part_id + 1


class CameraView(msgspec.Struct, frozen=True):
    """One camera in a heartbeat."""

    state: str
    """State of the camera: streaming | idle | dead"""
    detail: str
    newest_frame_age_s: float | None
    books: Books
    """Books since the daemon started."""
    in_flight: int
    balanced: bool
    losses: Losses = msgspec.field(default_factory=Losses)
    clock: ClockView = ClockView()
    process_starts: int = 0
    """Number of camera processes started so far."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Body of a heartbeat, topic `hb/<line>/`."""

    schema: int = SCHEMA
    kind: str = "heartbeat"
    line: str
    state: str
    """State by OPC 40100-1: Preoperational | Halted | Error | ContinuousExecution."""
    detail: str
    last_seq: int
    recipe: RecipeRef
    model: ModelRef
    engine: str
    cameras: dict[str, CameraView]
    journal: str
    """State of the journal: `ok`, or why results are not being kept."""
    counts: dict[str, int] = {}
    """Numbers of what clients asked at the other sockets since the start, by what became of it."""
    version: str
    minor: int = FIRST_MINOR
    """Minor version of this protocol that the daemon speaks."""


class Snapshot(msgspec.Struct, frozen=True, tag_field="verb", tag="snapshot", forbid_unknown_fields=True):
    """Query: where does the line stand?"""

    id: int


class Replay(msgspec.Struct, frozen=True, tag_field="verb", tag="replay", forbid_unknown_fields=True):
    """Query: the results from number `start` of an epoch on."""

    id: int
    epoch: int
    start: Annotated[int, msgspec.Meta(ge=0)] = msgspec.field(name="from")


class Next(msgspec.Struct, frozen=True):
    """The epoch after one that has ended, and its first number that is still kept."""

    epoch: int
    first: int


class SnapshotReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to `Snapshot`; `oldest` to `last` are what can be replayed, over one epoch or several."""

    id: int
    epoch: int
    last: int
    oldest: Next
    heartbeat: Heartbeat | None = None


class ReplayReply(msgspec.Struct, frozen=True):
    """Head of the answer to `Replay`; `count` messages of three frames follow it."""

    id: int
    epoch: int
    upto: int
    """Every result of the epoch from `from` to this number is in this answer, or is not kept any more."""
    count: int
    next: Next | None = None
    """Where to go on when the epoch has ended and this answer holds the last of it; else None."""


class QueryError(msgspec.Struct, frozen=True):
    """Answer to what is not a query."""

    error: str
    id: int = 0


encode = msgspec.json.Encoder().encode
_decode_result = msgspec.json.Decoder(Result).decode
_decode_heartbeat = msgspec.json.Decoder(Heartbeat).decode


def decode_result(body: bytes) -> Result:
    """Decode the body of a result; fields of later versions are ignored. Raises WireError."""
    try:
        result = _decode_result(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a result: {error}") from None
    if result.parts < 1:
        raise WireError(f"not a result: its parts end at {result.last_part_id} and begin at {result.part_id}")
    return result


def decode_heartbeat(body: bytes) -> Heartbeat:
    """Decode the body of a heartbeat. Raises WireError."""
    try:
        return _decode_heartbeat(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a heartbeat: {error}") from None


def result_topic(line: str, camera: str) -> bytes:
    """Topic of a camera's results. Topics are byte prefixes: the slash keeps `line1` from matching `line10`."""
    return f"res/{line}/{camera}/".encode()


def heartbeat_topic(line: str) -> bytes:
    """Topic of a line's heartbeat."""
    return f"hb/{line}/".encode()

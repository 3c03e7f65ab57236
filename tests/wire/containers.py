"""The files of tests/wire/samples: frames, each behind its length."""

import struct
from pathlib import Path

LENGTH = struct.Struct("<I")
SAMPLES = Path(__file__).parent / "samples"


def write_frames(path: Path, frames: list[bytes]) -> None:
    path.write_bytes(b"".join(LENGTH.pack(len(frame)) + frame for frame in frames))


def read_frames(path: Path) -> list[bytes]:
    data, at, frames = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size + length
        assert at <= len(data), path
        frames.append(data[at - length : at])
    return frames

"""Plans: what TensorRT makes of a graph for one GPU and one picture shape; a local cache, never shipped.

A plan file is `INSPLAN1`, a u32 with the header's length, the header (JSON: key and sizes), the plan, the scores
that the CPU gives the proof picture, and the SHA-256 of all that. A file that is not exactly so, or whose key is
not the wanted one, never reaches TensorRT, which may crash on it.

A missing plan is built by a child process (`builder.py`) that may crash or hang. The same child proves a plan on
the GPU before this process loads it; that it did is noted beside the plan.
"""

import hashlib
import os
import stat
import struct
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import msgspec
import numpy as np

from inspectd.engine.backend import Gpu
from inspectd.engine.bundle import U8, Bundle, Golden
from inspectd.runtime.errors import UnavailableError
from inspectd.runtime.slots import Shape

MAGIC = b"INSPLAN1"
LENGTH = struct.Struct("<I")
HASH_BYTES = 32
MAX_HEADER_BYTES = 1 << 16
LEAST_BAND_PX = 128
SCHEMA = 1
"""Version of how plans are built; a higher one makes the plans in the cache worthless."""


class PlanFileError(Exception):
    """A file that is not the wanted plan; `str()` says why."""


class PlanKey(msgspec.Struct, frozen=True):
    """All that decides whether a plan fits."""

    library: str
    """Name and exact version of the library."""
    graph_sha256: str
    precision: str
    shape: tuple[int, int, int]
    """Height, width and channels of the picture."""
    target: str
    """Compute capability, such as sm86."""
    reference: str
    """SHA-256 over what the proof of the plan rests on: the fp32 graph and the golden images."""
    gpu: str = ""
    """Model of the GPU and its driver; empty for TensorRT-RTX, which compiles for them later."""
    schema: int = SCHEMA

    @property
    def digest(self) -> str:
        """Digest of the key, after which the plan's files are named."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:20]

    @property
    def file_name(self) -> str:
        """File name of the plan in the cache."""
        return f"{self.digest}.plan"

    @property
    def network_name(self) -> str:
        """Name that the plan carries inside."""
        return f"sha256:{self.graph_sha256}"

    @classmethod
    def of(
        cls, library: str, version: str, bundle: Bundle, precision: str, shape: Shape, target: str, gpu: str = ""
    ) -> "PlanKey":
        """Make the key of a bundle's plan."""
        sha256, rests_on = bundle.manifest.graphs[precision].sha256, hashlib.sha256(bundle.sha256.encode())
        for golden in bundle.manifest.golden:
            rests_on.update(golden.image_sha256.encode())
        return cls(f"{library} {version}", sha256, precision, (*shape,), target, rests_on.hexdigest(), gpu)


class _PlanHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: PlanKey
    plan_bytes: Annotated[int, msgspec.Meta(gt=0)]
    scores_bytes: Annotated[int, msgspec.Meta(gt=0)]
    classes: Annotated[int, msgspec.Meta(gt=0)]


class PlanFile(NamedTuple):
    """A plan and the scores uint8 [K, h, w] that the CPU gives the proof picture of its shape."""

    key: PlanKey
    plan: bytes
    scores: U8

    @property
    def sha256(self) -> str:
        """SHA-256 of the plan."""
        return hashlib.sha256(self.plan).hexdigest()


class Proof(msgspec.Struct, frozen=True):
    """`<digest>.proven.json`: a child process loaded this plan, and it computed what the CPU computes."""

    plan_sha256: str
    gpu: str
    driver: str
    difference: int
    """Difference from the CPU's scores, in 1/255, as `golden_difference` counts."""


def proof_picture(bundle: Bundle, shape: Shape) -> U8:
    """Make a picture of the wanted shape out of golden images: bands one below the other, each around the
    strongest defect of its image, repeated where it is smaller. A low picture has fewer bands, the strongest.
    """
    strongest = sorted(bundle.golden, key=lambda golden: int(golden.scores.max()), reverse=True)
    shown = strongest[: max(1, min(len(strongest), shape.height // LEAST_BAND_PX))]
    picture = np.empty(shape, np.uint8)
    edges = np.linspace(0, shape.height, len(shown) + 1).astype(int)
    for golden, top, bottom in zip(shown, edges[:-1], edges[1:], strict=True):
        picture[top:bottom] = _around_defect(golden, bottom - top, shape.width, bundle.manifest.stride)
    return picture


def _around_defect(golden: Golden, height: int, width: int, stride: int) -> U8:
    """Cut a part of this size out of a golden image, its strongest cell in the middle as far as edges allow."""
    whole = golden.image.shape[:2]
    _, *cell = np.unravel_index(int(golden.scores.argmax()), golden.scores.shape)
    starts = [
        int(np.clip((at + 0.5) * stride - size / 2, 0, max(0, full - size)))
        for at, size, full in zip(cell, (height, width), whole, strict=True)
    ]
    part = golden.image[starts[0] : starts[0] + height, starts[1] : starts[1] + width]
    times = (-(-height // part.shape[0]), -(-width // part.shape[1]), 1)
    return np.tile(part, times)[:height, :width]


def shows_defects(bundle: Bundle, scores: U8) -> bool:
    """Whether what the CPU sees in a proof picture is enough to tell a network from one that sees nothing."""
    return int(scores.max()) >= max(int(golden.scores.max()) for golden in bundle.golden) / 2


def proof_of(bundle: Bundle, plan: PlanFile) -> Golden:
    """The proof picture as a golden image, with what the network must say of it."""
    return Golden(
        "proof", proof_picture(bundle, Shape(*plan.key.shape)), plan.scores, plan.scores.max(axis=(1, 2))
    )


def write_plan(path: Path, plan: PlanFile) -> None:
    """Write the whole plan file or none of it, also when the power fails; raises OSError."""
    ok, png = cv2.imencode(".png", plan.scores.reshape(-1, plan.scores.shape[2]))
    if not ok:
        raise OSError("the scores can't be written as PNG")
    header = msgspec.json.encode(_PlanHeader(plan.key, len(plan.plan), png.nbytes, len(plan.scores)))
    content = b"".join((MAGIC, LENGTH.pack(len(header)), header, plan.plan, png.tobytes()))
    write_whole(path, content + hashlib.sha256(content).digest())


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the file, then rename: a reader finds the old or the new file; raises OSError."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_plan(path: Path, key: PlanKey) -> PlanFile:
    """Read a plan file; raises PlanFileError if it is not the wanted one, byte for byte, or not there."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise PlanFileError("there is none") from None
    except OSError as error:
        raise PlanFileError(f"it can't be read ({error.strerror})") from None
    content, start = data[:-HASH_BYTES], len(MAGIC) + LENGTH.size
    if not data.startswith(MAGIC) or len(data) < start + HASH_BYTES:
        raise PlanFileError("it is no plan file")
    if hashlib.sha256(content).digest() != data[-HASH_BYTES:]:
        raise PlanFileError("it is damaged")
    (length,) = LENGTH.unpack_from(data, len(MAGIC))
    try:
        header = msgspec.json.decode(content[start : start + min(length, MAX_HEADER_BYTES)], type=_PlanHeader)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise PlanFileError("its header can't be read") from None
    begin = start + length
    if len(content) != begin + header.plan_bytes + header.scores_bytes:
        raise PlanFileError("its parts don't add up")
    if header.key != key:
        raise PlanFileError("it is for another graph, GPU, driver, TensorRT or picture")
    middle = begin + header.plan_bytes
    stacked = cv2.imdecode(np.frombuffer(content[middle:], np.uint8), cv2.IMREAD_UNCHANGED)
    if stacked is None or stacked.ndim != 2 or stacked.dtype != np.uint8 or len(stacked) % header.classes:
        raise PlanFileError("its scores are no picture")
    scores = stacked.reshape(header.classes, -1, stacked.shape[1]).astype(np.uint8)
    return PlanFile(key, content[begin:middle], scores)


def read_proof(path: Path) -> Proof | None:
    """Read what a child process noted when it had proven a plan; None if nothing that can be read is there."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Proof)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # then it is proven once more


def machine_digest(gpu: Gpu) -> str:
    """Part of the names of files that hold for one model of GPU and one driver."""
    return hashlib.sha256(f"{gpu.name} {gpu.driver}".encode()).hexdigest()[:8]


def plan_folder(path: Path) -> Path:
    """Make the cache's folder if it is not there; raises UnavailableError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        others_write = path.stat().st_mode & stat.S_IWOTH
    except OSError as error:
        raise UnavailableError(
            f"{path}: the folder for plans can't be made ({error.strerror}); set `plans` under [engine] to another"
        ) from None
    if others_write:  # a plan is a program
        raise UnavailableError(f"{path}: everybody may write into the folder for plans; chmod o-w {path}")
    return path

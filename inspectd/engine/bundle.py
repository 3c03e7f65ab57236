"""A model bundle: what the training tool hands over, trusted only after every hash is checked."""

import hashlib
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from inspectd.runtime.errors import BundleError
from inspectd.runtime.image_files import read_image

U8 = npt.NDArray[np.uint8]
SCHEMA = 1
INT8_CELLS = 0.995
"""Share of the cells in which INT8 must agree with the golden scores."""
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Graph(msgspec.Struct, frozen=True):
    """One precision of the network: an ONNX file and its hash."""

    file: str
    sha256: Sha256


class GoldenEntry(msgspec.Struct, frozen=True):
    """An image with the scores that the fp32 reference gives it."""

    image: str
    image_sha256: Sha256
    scores: str
    scores_sha256: Sha256
    peak: list[Annotated[int, msgspec.Meta(ge=0, le=255)]]


class Int8(msgspec.Struct, frozen=True):
    """What the export found out about the INT8 graph on the dev parts; it runs only if usable."""

    usable: bool
    max_score_difference: Annotated[int, msgspec.Meta(ge=0, le=16)]
    """Largest allowed `golden_difference` of the INT8 graph from the fp32 reference, in 1/255."""
    verdicts_equal: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """Share of the dev parts whose verdict is that of the fp32 reference."""
    verdicts_bound: Annotated[float, msgspec.Meta(ge=0, le=1)]
    reason: str = ""
    """Why the INT8 graph isn't usable, in words."""


class Manifest(msgspec.Struct, frozen=True):
    """What the daemon reads of `manifest.json`; the rest of the file is about training, for people."""

    schema: int
    name: str
    classes: Annotated[list[str], msgspec.Meta(min_length=1, max_length=64)]
    channels: int
    stride: Annotated[int, msgspec.Meta(ge=1, le=64)]
    graphs: dict[str, Graph]
    golden: Annotated[list[GoldenEntry], msgspec.Meta(min_length=1)]
    max_score_difference: Annotated[int, msgspec.Meta(ge=0, le=16)]
    """Largest allowed difference of the float graphs from the golden scores, in 1/255."""
    int8: Int8 | None = None
    mask_levels: list[Annotated[int, msgspec.Meta(ge=1, le=255)]] | None = None
    """Per class, the score from which a pixel counts in a class map; the daemon draws none."""
    unproven: str = ""
    """Why nobody knows whether the network finds anything, in words; empty: its dev parts have shown it."""


class Golden(NamedTuple):
    """A golden image uint8 [H, W, C] with its reference scores uint8 [K, h, w] and peak uint8 [K]."""

    name: str
    image: U8
    scores: U8
    peak: U8


def golden_difference(golden: Golden, scores: U8, peak: U8, precision: str) -> int:
    """How far scores are from the golden ones, in 1/255: the largest difference of map and peaks.

    `int8` may be farther off in one cell of 200: its rounding moves the steep flank of a region by a fraction
    of a cell, which is much in that cell and nothing to the region. The peaks count in full.
    """
    differences = np.abs(scores.astype(np.int16) - golden.scores)
    of_map = np.quantile(differences, INT8_CELLS, method="higher") if precision == "int8" else differences.max()
    return int(max(of_map, np.abs(peak.astype(np.int16) - golden.peak).max()))


class Bundle(NamedTuple):
    """A bundle whose files are what its manifest says."""

    path: Path
    manifest: Manifest
    graphs: dict[str, bytes]
    """The ONNX files by precision, as hashed: `fp32` always, `fp16` and `int8` in newer bundles."""
    golden: tuple[Golden, ...]

    @property
    def int8_usable(self) -> bool:
        """Whether the INT8 graph judged the dev parts as the fp32 graph does."""
        return self.manifest.int8 is not None and self.manifest.int8.usable

    @property
    def gpu_floats(self) -> list[str]:
        """Precisions of the float graphs for a GPU, the better first."""
        return [name for name in ("fp16", "fp32") if name in self.graphs]

    def allowed_difference(self, precision: str) -> int:
        """Largest difference from the golden scores that is allowed in a precision, in 1/255."""
        int8 = self.manifest.int8 if precision == "int8" else None
        return int8.max_score_difference if int8 else self.manifest.max_score_difference

    @property
    def sha256(self) -> str:
        """Identity of the network: SHA-256 of its fp32 graph."""
        return self.manifest.graphs["fp32"].sha256


def load_manifest(path: Path) -> Manifest:
    """Read what a bundle folder says of itself, unchecked by hashes; raises BundleError as `load_bundle` does."""
    try:
        is_there = path.is_dir()
    except OSError as error:  # such a name can't be, or the way there is forbidden
        raise BundleError(f"{path}: can't be read ({error.strerror}); check `model` in the recipe") from None
    if not is_there:
        raise BundleError(f"{path}: there is no such model bundle; check `model` in the recipe")
    return _manifest(path / "manifest.json")


def load_bundle(path: Path, allow_unproven: bool = True) -> Bundle:
    """Read a bundle folder; raises BundleError with one sentence naming the file and the remedy.

    allow_unproven: also one whose training has not shown that it finds anything.
    """
    manifest = load_manifest(path)
    if manifest.unproven and not allow_unproven:
        raise BundleError(
            f"{path}: the model is unproven: {manifest.unproven}. To inspect with it all the same, set "
            "allow_unproven = true at the top of the config"
        )
    graphs = {name: _verified(path, graph.file, graph.sha256) for name, graph in manifest.graphs.items()}
    return Bundle(path, manifest, graphs, tuple(_golden(path, manifest, entry) for entry in manifest.golden))


def _manifest(path: Path) -> Manifest:
    try:
        data = path.read_bytes()
        schema = msgspec.json.decode(data, type=dict[str, object]).get("schema")
        if schema != SCHEMA:
            raise BundleError(f"{path}: has schema {schema}, this version reads {SCHEMA}; export the bundle again")
        manifest = msgspec.json.decode(data, type=Manifest)
    except OSError as error:
        raise BundleError(f"{path}: can't be read ({error.strerror}); is this a model bundle?") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path}: is not a manifest ({error}); export the bundle again") from None
    if fault := _contradiction(manifest):
        raise BundleError(f"{path}: {fault}; export the bundle again")
    return manifest


def _contradiction(manifest: Manifest) -> str:
    """What in the manifest contradicts itself, in words; empty if all fits."""
    if manifest.channels not in (1, 3):
        return f"channels is {manifest.channels}, it must be 1 or 3"
    if "fp32" not in manifest.graphs:
        return "names no fp32 graph"
    if manifest.mask_levels is not None and len(manifest.mask_levels) != len(manifest.classes):
        return f"has {len(manifest.mask_levels)} mask_levels for {len(manifest.classes)} classes"
    int8 = manifest.int8
    if int8 is not None and int8.usable and "int8" not in manifest.graphs:
        return "calls INT8 usable, but names no int8 graph"
    if int8 is not None and int8.usable and int8.verdicts_equal < int8.verdicts_bound:
        return "calls INT8 usable, though too many verdicts differ"
    return ""


def _verified(folder: Path, name: str, sha256: str) -> bytes:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise BundleError(f"{folder / 'manifest.json'}: {name} lies outside the bundle")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: can't be read ({error.strerror}); copy the bundle again") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BundleError(
            f"{path}: is not the file the manifest names (SHA-256 {found[:12]}…, {sha256[:12]}… wanted); "
            "it is damaged or foreign: copy or export the bundle again"
        )
    return data


def _golden(folder: Path, manifest: Manifest, entry: GoldenEntry) -> Golden:
    _verified(folder, entry.image, entry.image_sha256)
    _verified(folder, entry.scores, entry.scores_sha256)
    try:
        image, stacked = read_image(folder / entry.image), read_image(folder / entry.scores)
    except ValueError as error:
        raise BundleError(f"{folder}: golden image {error}; export the bundle again") from None
    classes, stride = len(manifest.classes), manifest.stride
    height, width = -(-image.shape[0] // stride), -(-image.shape[1] // stride)
    fits = stacked.shape == (classes * height, width, 1) and len(entry.peak) == classes
    if image.shape[2] != manifest.channels or not fits:
        raise BundleError(f"{folder / entry.image}: does not fit the manifest; export the bundle again")
    peak = np.array(entry.peak, np.uint8)
    return Golden(entry.image, image, stacked.reshape(classes, height, width), peak)

"""A model bundle: what the training tool hands over, trusted only after every hash is checked."""

import hashlib
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from inspectd.errors import BundleError
from inspectd.images import read_image

U8 = npt.NDArray[np.uint8]
SCHEMA = 1
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Graph(msgspec.Struct, frozen=True):
    """One precision of the network."""

    file: str
    sha256: Sha256


class GoldenEntry(msgspec.Struct, frozen=True):
    """An image with the scores that the fp32 reference gives it."""

    image: str
    image_sha256: Sha256
    scores: str
    scores_sha256: Sha256
    peak: list[Annotated[int, msgspec.Meta(ge=0, le=255)]]


class Manifest(msgspec.Struct, frozen=True):
    """`manifest.json`; what it says of training beyond this is for people."""

    schema: int
    name: str
    classes: Annotated[list[str], msgspec.Meta(min_length=1, max_length=64)]
    channels: int
    stride: Annotated[int, msgspec.Meta(ge=1, le=64)]
    graphs: dict[str, Graph]
    golden: Annotated[list[GoldenEntry], msgspec.Meta(min_length=1)]
    max_score_difference: Annotated[int, msgspec.Meta(ge=0, le=16)]


class Golden(NamedTuple):
    """image uint8 [H, W, C]; scores uint8 [K, h, w]; peak uint8 [K]."""

    name: str
    image: U8
    scores: U8
    peak: U8


class Bundle(NamedTuple):
    """A bundle whose files are what its manifest says."""

    path: Path
    manifest: Manifest
    graph: bytes
    """The fp32 ONNX file, as hashed."""
    golden: tuple[Golden, ...]

    @property
    def sha256(self) -> str:
        """Identity of the network."""
        return self.manifest.graphs["fp32"].sha256


def load_bundle(path: Path) -> Bundle:
    """Read a bundle folder; raises BundleError with one sentence naming the file and the remedy."""
    if not path.is_dir():
        raise BundleError(f"{path}: there is no such model bundle; check `model` in the recipe")
    manifest = _manifest(path / "manifest.json")
    if "fp32" not in manifest.graphs:
        raise BundleError(f"{path / 'manifest.json'}: names no fp32 graph; export the bundle again")
    graph = _verified(path, manifest.graphs["fp32"].file, manifest.graphs["fp32"].sha256)
    return Bundle(path, manifest, graph, tuple(_golden(path, manifest, entry) for entry in manifest.golden))


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
    if manifest.channels not in (1, 3):
        raise BundleError(f"{path}: channels is {manifest.channels}, it must be 1 or 3")
    return manifest


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

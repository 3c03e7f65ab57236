"""The two files an engineer writes: `config.toml` (the machine) and a recipe (the product).

Every section is a frozen struct that its stage receives; no stage sees the whole `Config`.
Paths in a file are relative to that file. Coordinates are pixels of the full sensor image.
"""

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct, structs

from inspectd import toml
from inspectd.endpoints import beside, check_endpoint
from inspectd.errors import ConfigError

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
Score = Annotated[float, Meta(ge=0.004, le=1.0)]
"""1/255 is the smallest score above nothing."""
Coordinate = Annotated[float, Meta(ge=-1e6, le=1e6)]
Polygon = Annotated[list[tuple[Coordinate, Coordinate]], Meta(min_length=3)]
Size = Annotated[float, Meta(ge=0, le=1e12)]
"""Bounded so that TOML's inf and nan are refused."""
Feature = bool | int | Annotated[float, Meta(ge=-1e15, le=1e15)] | str
RESERVED_CAMERA_NAME = "part"
IPC_PATH_BYTES = 107
"""What a Unix socket's address has room for."""


class CameraBase(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every camera has, whatever its kind."""

    name: Name
    width: Annotated[int, Meta(ge=64, le=65536)]
    height: Annotated[int, Meta(ge=64, le=65536)]
    mm_per_px: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    spare_slots: Annotated[int, Meta(ge=1, le=64)] = 4
    stall_s: Annotated[float, Meta(ge=1, le=600)] = 5.0
    """A camera process that streams and says nothing for so long hangs: it is killed and started again."""
    core: Annotated[int, Meta(ge=0, le=4095)] | None = None
    """The CPU core that the camera process is pinned to; None = any."""

    def __post_init__(self) -> None:
        if self.name == RESERVED_CAMERA_NAME:
            raise ValueError(f"the camera name {RESERVED_CAMERA_NAME!r} is reserved, choose another")


class FolderCamera(CameraBase, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="folder"):
    """Images of a folder in name order, at a rate or one for each count of a trigger counter."""

    folder: str
    acquisition_frame_rate_hz: Annotated[float, Meta(ge=0.01, le=10000)] = 10.0
    trigger_counter: str = ""
    """File with one native u64 that somebody else counts up: one picture per count (a simulated Line0)."""
    loop: bool = True


class GentlCamera(CameraBase, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every camera behind a GenTL producer has."""

    pixel_format: str = ""
    """SFNC PixelFormat; empty = Mono8 or RGB8, as the model wants."""
    num_buffers: Annotated[int, Meta(ge=3, le=256)] = 16
    trigger: Literal["free_run", "software", "line"] = "free_run"
    trigger_source: str = "Line0"
    """SFNC TriggerSource, for `line`."""
    acquisition_frame_rate_hz: Annotated[float, Meta(ge=0.01, le=10000)] | None = None
    """Free run: SFNC AcquisitionFrameRate, None = as the camera is set. Software: triggers a second, None = only
    on command (`inspectd ctl trigger`)."""
    part_id: Literal["frame_id", "counter", "encoder"] = "frame_id"
    """What counts the parts: see `acquire/genicam.py`."""
    expected_interval_s: Annotated[float, Meta(gt=0, le=86400)] | None = None
    """Frames come at least this often; longer silence is a fault. None: only free run tells."""

    @property
    def silence_is_unseen(self) -> bool:
        """Whether triggers without frames can't be told from no triggers."""
        return self.trigger == "line" and self.part_id != "counter" and self.expected_interval_s is None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trigger == "software" and self.part_id != "frame_id":
            raise ValueError('with trigger = "software" the triggers sent are what is counted: leave out part_id')


class GenicamCamera(GentlCamera, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="genicam"):
    """Any GenICam camera, through its GenTL producer and harvesters."""

    cti: str = ""
    """The producer's file; empty = the producers in GENICAM_GENTL64_PATH."""
    serial: str = ""
    user_id: str = ""
    vendor: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [bool(self.serial), bool(self.user_id), bool(self.vendor or self.model)]
        if named.count(True) != 1 or bool(self.vendor) != bool(self.model):
            raise ValueError("name the device by exactly one of `serial`, `user_id`, or `vendor` and `model`")


class SimCamera(GentlCamera, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sim"):
    """Images of a folder as a simulated GenICam camera: our own GenTL producer, through the very same code."""

    folder: str


Camera = FolderCamera | GenicamCamera | SimCamera


class OpenVinoEngine(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="openvino"):
    """The CPU engine."""

    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """0 = all cores but one."""
    precision: Literal["auto", "float"] = "auto"
    """auto: INT8 where the bundle allows it, else the fastest float; float: never INT8."""


class TensorRtEngine(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tensorrt"):
    """The GPU engine: TensorRT or TensorRT-RTX, whichever is installed."""

    device: Annotated[int, Meta(ge=0, le=63)] = 0
    """The GPU, as `nvidia-smi -L` counts."""
    precision: Literal["auto", "float"] = "float"
    """float: fp16; auto: INT8 where the bundle allows it."""
    plans: str = "./plans"
    """Folder of the plans that were built for this machine."""
    build_timeout_s: Annotated[float, Meta(ge=1, le=86400)] = 1800.0
    """Building and proving one plan may take so long."""


Engine = OpenVinoEngine | TensorRtEngine


class Publish(Struct, frozen=True, forbid_unknown_fields=True):
    """The public sockets."""

    results: str = "tcp://127.0.0.1:5556"
    query: str = ""
    """Where missed results are asked for; "" = beside `results`: the next port, or the file `query`."""
    control: str = ""
    """Where the daemon is steered; "" = beside `results`: the port after the next one, or the file `control`."""
    high_water_mark: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    """Messages kept per slow subscriber; what comes when it has so many is dropped, and it has to ask for it."""
    heartbeat_ms: Annotated[int, Meta(ge=100, le=250)] = 200
    images: str = ""
    """Path of the image socket; empty = `images` beside an ipc `results`, else in `state_dir`/`line`."""

    server_key: str = ""
    """The daemon's secret key: every tcp endpoint is then encrypted."""
    client_keys: str = ""
    """Folder of the public keys of who may connect, in `read` and `control`."""
    allow_insecure: bool = False
    """Without a server_key an endpoint may be reached from other machines all the same."""

    def __post_init__(self) -> None:
        guarded = bool(self.server_key) or self.allow_insecure
        check_endpoint("results", self.results, guarded)
        for key in ENDPOINTS[1:]:
            if not getattr(self, key):
                structs.force_setattr(self, key, beside(self.results, key))
            check_endpoint(key, getattr(self, key), guarded)
        if len({getattr(self, key) for key in ENDPOINTS}) < len(ENDPOINTS):
            raise ValueError(f"{', '.join(ENDPOINTS)} must each be an endpoint of its own")
        if bool(self.server_key) != bool(self.client_keys):
            given, missing = ("server_key", "client_keys") if self.server_key else ("client_keys", "server_key")
            raise ValueError(f"{given} needs {missing} beside it")
        if self.server_key and self.allow_insecure:
            raise ValueError("server_key and allow_insecure exclude each other: leave one out")


ENDPOINTS = ("results", "query", "control")
"""Keys of `publish` that are ZeroMQ endpoints."""


class Journal(Struct, frozen=True, forbid_unknown_fields=True):
    """Where results are kept before they are sent: `segments` files of `segment_mib`, oldest reused."""

    segment_mib: Annotated[int, Meta(ge=1, le=1024)] = 8
    segments: Annotated[int, Meta(ge=2, le=1024)] = 8


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`config.toml`, the machine: changing it needs a restart."""

    line: Name
    state_dir: str = "./state"
    recipes: Annotated[list[str], Meta(min_length=1)]
    """The first is the one in use."""
    camera: Annotated[list[Camera], Meta(min_length=1, max_length=64)]
    engine: Engine = OpenVinoEngine()
    publish: Publish = Publish()
    journal: Journal = Journal()


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What one defect class may show before the part is bad."""

    suspect: Score
    reject: Score
    min_area_px: Size = 0.0
    max_count: Annotated[int, Meta(ge=0)] = 0
    max_area_px: Size | None = None
    max_length_px: Size | None = None

    def __post_init__(self) -> None:
        if self.suspect > self.reject:
            raise ValueError(f"suspect ({self.suspect}) must not be above reject ({self.reject})")


class Zone(Struct, frozen=True, forbid_unknown_fields=True):
    """A named part of the image with limits of its own; classes it leaves out keep the recipe's."""

    polygon: Polygon
    limits: dict[str, Limits]


class View(Struct, frozen=True, forbid_unknown_fields=True):
    """What the recipe says of one camera."""

    roi: tuple[int, int, int, int] | None = None
    """x, y, width, height: cut out while copying; all else is neither stored nor judged."""
    ignore: list[Polygon] = []
    zones: dict[Name, Zone] = {}
    features: dict[str, Feature] = {}
    """GenICam features by SFNC name, applied and read back before the start."""

    def __post_init__(self) -> None:
        if self.roi and (min(self.roi[:2]) < 0 or min(self.roi[2:]) < 64):
            raise ValueError(f"roi must be [x >= 0, y >= 0, width >= 64, height >= 64], got {list(self.roi)}")


class ImageLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """When a picture is unfit to be judged (UNKNOWN/image); None = not checked."""

    min_mean: Annotated[float, Meta(ge=0, le=255)] | None = None
    max_mean: Annotated[float, Meta(ge=0, le=255)] | None = None
    min_sharpness: Size | None = None
    """Mean square of the horizontal gradient, in grey levels squared, over every 16th row."""
    refuse_identical: bool = False
    """A frame equal to the last one, pixel for pixel in the sample, comes from a frozen camera."""


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe file, the product: model, deadline, limits, and what changes at each camera."""

    model: str
    deadline_ms: Annotated[float, Meta(gt=0, le=3_600_000)]
    limits: Annotated[dict[str, Limits], Meta(min_length=1)]
    image: ImageLimits = ImageLimits()
    camera: dict[Name, View] = {}
    max_regions: Annotated[int, Meta(ge=1, le=1024)] = 64


class LoadedRecipe(NamedTuple):
    """A recipe with what identifies it in every result."""

    recipe: Recipe
    id: str
    """The file's name; for a bundle's own `recipe.toml` the bundle's name."""
    revision: str
    """First 12 hex digits of the SHA-256 of the file."""
    model_dir: Path
    path: Path


class Settings(NamedTuple):
    """Everything the files say, checked against each other."""

    config: Config
    recipe: LoadedRecipe
    """The first of them: the one in use at the start."""
    state_dir: Path
    base: Path
    """Folder that the paths in `config` are relative to."""
    recipes: tuple[LoadedRecipe, ...]
    """All that may be selected; `recipe` is one of them."""


def load_recipe(path: Path) -> LoadedRecipe:
    """Read a recipe file; raises ConfigError with every problem in it."""
    return _loaded(path, toml.load(path, Recipe))


def _loaded(path: Path, recipe: Recipe) -> LoadedRecipe:
    revision = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    name = path.resolve().parent.name if path.name == "recipe.toml" else path.stem
    return LoadedRecipe(recipe, name, revision, path.parent / recipe.model, path)


def load(path: Path) -> Settings:
    """Read `config.toml` and its recipes; raises ConfigError with every problem in all of them."""
    document = toml.read(path, Config)
    cameras = _cameras(document.data)
    own = _twins(cameras)
    of_recipes: list[str] = []
    loaded: list[LoadedRecipe] = []
    for index, name in _recipe_names(document.data):
        try:
            recipe = toml.read(path.parent / name, Recipe)
        except toml.NoFileError as error:
            own.append((("recipes", index), str(error)))
        except ConfigError as error:
            of_recipes += error.problems
        else:
            of_recipes += recipe.told(_misfits(recipe.value, cameras) if recipe.value else [])
            loaded += [_loaded(recipe.path, recipe.value)] if recipe.value else []
            if recipe.value and loaded[-1].id in [other.id for other in loaded[:-1]]:
                own.append(
                    (("recipes", index), f"two recipes have the id {loaded[-1].id!r}, by which one is selected")
                )
    own += _absent_cores(cameras)
    problems = document.told(own) + of_recipes
    config = document.value
    if problems or config is None:
        raise ConfigError(problems)
    state_dir = path.parent / config.state_dir / config.line
    config = structs.replace(config, publish=_resolved(path, config.publish, state_dir))
    if isinstance(config.engine, TensorRtEngine):
        plans = str(path.parent / config.engine.plans)
        config = structs.replace(config, engine=structs.replace(config.engine, plans=plans))
    return Settings(config, loaded[0], state_dir, path.parent, tuple(loaded))


def _resolved(path: Path, publish: Publish, state_dir: Path) -> Publish:
    """The paths beside the config; raises ConfigError."""
    found = {key: getattr(publish, key) for key in ENDPOINTS}
    for key, endpoint in found.items():
        if endpoint.startswith("ipc://"):
            found[key] = f"ipc://{path.parent / endpoint.removeprefix('ipc://')}"
    results = found["results"]
    beside = Path(results.removeprefix("ipc://")).parent if results.startswith("ipc://") else state_dir
    found["images"] = str(path.parent / publish.images if publish.images else beside / "images")
    taken: dict[str, str] = {}
    for key, endpoint in found.items():
        file = endpoint.removeprefix("ipc://")
        if not endpoint.startswith("tcp://") and len(file.encode()) > IPC_PATH_BYTES:
            raise ConfigError(f"{path}: publish.{key}: {endpoint}: the path is longer than {IPC_PATH_BYTES} bytes")
        if file in taken:
            raise ConfigError(
                f"{path}: publish.{key}: {file} is the path of publish.{taken[file]}, give it another"
            )
        taken[file] = key
    keys = {name: getattr(publish, name) for name in ("server_key", "client_keys")}
    found |= {name: str(path.parent / key) for name, key in keys.items() if key}
    return structs.replace(publish, **found)


# The rules across tables and files look at the plain data, so that a mistake elsewhere does not hide theirs.


def _recipe_names(data: dict[str, Any]) -> list[tuple[int, str]]:
    names = data.get("recipes")
    return [(i, name) for i, name in enumerate(names) if isinstance(name, str)] if isinstance(names, list) else []


def _cameras(data: dict[str, Any]) -> list[dict[str, Any]]:
    tables = data.get("camera")
    return [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []


def _twins(cameras: list[dict[str, Any]]) -> list[toml.Problem]:
    names = [camera.get("name") for camera in cameras]
    return [
        (("camera", i, "name"), f"two cameras are named {name!r}; every name must be its own")
        for i, name in enumerate(names)
        if isinstance(name, str) and name in names[:i]
    ]


def _absent_cores(cameras: list[dict[str, Any]]) -> list[toml.Problem]:
    there_are = sorted(os.sched_getaffinity(0))
    return [
        (
            ("camera", i, "core"),
            f"this machine has no core {core} for us; it has {there_are[0]} to {there_are[-1]}",
        )
        for i, camera in enumerate(cameras)
        if isinstance(core := camera.get("core"), int) and core >= 0 and core not in there_are
    ]


def _misfits(recipe: Recipe, cameras: list[dict[str, Any]]) -> list[toml.Problem]:
    """What a recipe says that the machine's cameras can't keep."""
    by_name = {camera["name"]: camera for camera in cameras if isinstance(camera.get("name"), str)}
    are_known = bool(cameras) and len(by_name) == len(cameras)  # else the name may be one that is missing there
    problems: list[toml.Problem] = []
    for name, view in recipe.camera.items():
        if name not in by_name:
            if are_known:
                problems.append((("camera", name), f"there is no such camera; there is {', '.join(by_name)}"))
        elif view.roi is not None:
            x, y, width, height = view.roi
            whole_width, whole_height = by_name[name].get("width"), by_name[name].get("height")
            if not isinstance(whole_width, int) or not isinstance(whole_height, int):
                continue
            if x + width > whole_width or y + height > whole_height:
                what = f"reaches outside the {whole_width}x{whole_height} image"
                problems.append((("camera", name, "roi"), what))
    return problems


def view_of(recipe: Recipe, camera: CameraBase) -> tuple[View, tuple[int, int, int, int]]:
    """The recipe's view of a camera, and the rectangle x, y, width, height that is stored and judged."""
    view = recipe.camera.get(camera.name, View())
    return view, view.roi or (0, 0, camera.width, camera.height)

"""The two files an engineer writes: `config.toml` (the machine) and a recipe (the product).

Every section is a frozen struct that its stage receives; no stage sees the whole `Config`.
Paths in a file are relative to that file. Coordinates are pixels of the full sensor image.
"""

import os
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct, convert, structs, to_builtins

from inspectd.runtime.errors import ConfigError
from inspectd.settings import toml
from inspectd.settings.camera import CameraBase, CameraConfig, Name
from inspectd.settings.engine import EngineConfig, OpenVinoEngine, TensorRtEngine
from inspectd.settings.fit import read_recipe
from inspectd.settings.mistakes import Problem
from inspectd.settings.publish import ENDPOINTS, IPC_PATH_BYTES, JournalConfig, Publish
from inspectd.settings.recipe import LoadedRecipe, Recipe, View


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`config.toml`, the machine: changing it needs a restart."""

    line: Name
    state_dir: str = "./state"
    recipes: Annotated[list[str], Meta(min_length=1)]
    """Recipe files; the first is in use at the start."""
    allow_unproven: bool = False
    """Whether models may be used whose training has not shown that they find anything."""
    camera: Annotated[list[CameraConfig], Meta(min_length=1, max_length=64)]
    engine: EngineConfig = OpenVinoEngine()
    publish: Publish = Publish()
    journal: JournalConfig = JournalConfig()


class Settings(NamedTuple):
    """Everything the files say, checked against each other."""

    path: Path
    """The file `config.toml` itself."""
    config: Config
    recipe: LoadedRecipe
    """Recipe in use at the start, the first of `recipes`."""
    state_dir: Path
    base: Path
    """Folder that the paths in `config` are relative to."""
    recipes: tuple[LoadedRecipe, ...]
    """All recipes that may be selected; `recipe` is one of them."""

    @property
    def cameras(self) -> list[dict[str, Any]]:
        """The cameras as plain data, as `read_recipe` wants them."""
        return [to_builtins(camera) for camera in self.config.camera]


def load(path: Path) -> Settings:
    """Read `config.toml` and its recipes; raises ConfigError with every problem in all of them."""
    document = toml.read(path, Config)
    cameras = _cameras(document.data)
    own = _twins(cameras)
    of_recipes: list[str] = []
    loaded: list[LoadedRecipe] = []
    for index, name in _recipe_names(document.data):
        try:
            loaded.append(read_recipe(path.parent / name, cameras))
        except toml.NoFileError as error:
            own.append((("recipes", index), str(error)))
        except ConfigError as error:
            of_recipes += error.problems
        else:
            if loaded[-1].id in [other.id for other in loaded[:-1]]:
                own.append(
                    (("recipes", index), f"two recipes have the id {loaded[-1].id!r}, by which one is selected")
                )
    own += _absent_cores(cameras)
    problems = document.report(own) + of_recipes
    config = document.value
    if problems or config is None:
        raise ConfigError(problems)
    state_dir = path.parent / config.state_dir / config.line
    config = structs.replace(config, publish=_resolved(path, config.publish, state_dir))
    if isinstance(config.engine, TensorRtEngine):
        plans = str(path.parent / config.engine.plans)
        config = structs.replace(config, engine=structs.replace(config.engine, plans=plans))
    return Settings(path, config, loaded[0], state_dir, path.parent, tuple(loaded))


def load_publish(path: Path) -> Publish:
    """Read of `config.toml` where its daemon is to be found; what is wrong elsewhere in the file does not matter.

    Raises ConfigError, also for a file that names no line: that is no config.
    """
    document = toml.read(path, Config)
    own = [problem for problem in document.problems if problem[0][:1] in (("publish",), ("line",))]
    if own or "line" not in document.data:
        raise ConfigError(document._replace(problems=own or document.problems).report())
    line, state_dir = (document.data.get(key) for key in ("line", "state_dir"))
    state = path.parent / str(state_dir or "state") / str(line)
    return _resolved(path, convert(document.data.get("publish", {}), Publish), state)


def _resolved(path: Path, publish: Publish, state_dir: Path) -> Publish:
    """Resolve the paths beside the config; raises ConfigError."""
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


def _twins(cameras: list[dict[str, Any]]) -> list[Problem]:
    names = [camera.get("name") for camera in cameras]
    return [
        (("camera", i, "name"), f"two cameras are named {name!r}; every name must be its own")
        for i, name in enumerate(names)
        if isinstance(name, str) and name in names[:i]
    ]


def _absent_cores(cameras: list[dict[str, Any]]) -> list[Problem]:
    there_are = sorted(os.sched_getaffinity(0))
    return [
        (
            ("camera", i, "core"),
            f"this machine has no core {core} for us; it has {there_are[0]} to {there_are[-1]}",
        )
        for i, camera in enumerate(cameras)
        if isinstance(core := camera.get("core"), int) and core >= 0 and core not in there_are
    ]


def view_of(recipe: Recipe, camera: CameraBase) -> tuple[View, tuple[int, int, int, int]]:
    """The recipe's view of a camera, and the rectangle x, y, width, height that is stored and judged."""
    view = recipe.camera.get(camera.name, View())
    return view, view.roi or (0, 0, camera.width, camera.height)

"""What was selected, kept over restarts; and who changed what, kept for ever.

Both are on the disk before a change takes effect. A restart must not go back to another product's recipe: its
limits could pass a bad part.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from inspectd.config import LoadedRecipe, Settings
from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.errors import ConfigError, UserError

log = structlog.get_logger()
MAX_AUDIT_BYTES = 256 * 2**20
"""Some 800,000 changes; then nothing is changed until somebody has put the file away."""


ROOM = 16 * 1024
"""Bytes by which the audit log must be able to grow when a change is begun: for its lines, and the selection."""


class UnwritableError(UserError):
    """What must be on the disk before a change could not be written."""


class Selection(Struct, frozen=True, forbid_unknown_fields=True):
    """`selection.json`; empty strings are nothing."""

    recipe: str = ""
    """Id; empty = the config's first."""
    first: str = ""
    """The config's first recipe at that time: who puts another one there has selected it."""
    model: str = ""
    """Folder as it was given with `swap_model`; empty = the recipe's own."""
    from_part_id: int = 0
    """The recipe is only for parts from this one on."""
    paused: str = ""
    """Why, if somebody paused the line."""
    failed: str = ""
    """Why, if another product was wanted that could not be had: no part is judged by the wrong recipe."""

    @property
    def hold(self) -> str:
        """Why no part is judged; empty if they are."""
        return "; ".join(why for why in (self.failed, self.paused) if why)


class Start(NamedTuple):
    """What the daemon begins with."""

    settings: Settings
    """With the recipe and model that were selected."""
    selection: Selection


def begin_with(settings: Settings, part_ids: Mapping[str, int]) -> tuple[Settings, Selection, Bundle]:
    """What was selected last, its bundle loaded; where that can't be, the recipe's own, held with the reason."""
    start, selection = load_selection(settings, part_ids)
    try:
        return start, selection, load_bundle(start.recipe.model_dir)
    except ConfigError as error:
        if not selection.model:
            raise
        why = f"model {selection.model} was in use and can't be loaded ({error})"
    own = next(recipe for recipe in settings.recipes if recipe.id == start.recipe.id)
    why += f": swap it, or resume with recipe {own.id} and its own model"
    doubtful = _doubtful(start._replace(recipe=own), replace(selection, model=""), why)
    return *doubtful, load_bundle(own.model_dir)


class Change(Struct, frozen=True):
    """One line of `audit.jsonl`."""

    who: str
    """The name of the client's key; `local` without keys."""
    client: str
    """What it calls itself."""
    id: str
    """Of the request."""
    verb: str
    old: object
    new: object
    outcome: str
    """`done`, or `failed: ` and why."""
    when: str = ""
    """UTC, ISO 8601; filled in as it is written."""


def load_selection(settings: Settings, part_ids: Mapping[str, int]) -> Start:
    """What was selected last, if it can still be had; else the config's first recipe, held with the reason.

    `part_ids`: the last part of each camera that had a result.
    """
    path, first = settings.state_dir / "selection.json", settings.recipe.id
    try:
        chosen = msgspec.json.decode(path.read_bytes(), type=Selection)
    except FileNotFoundError:
        return Start(settings, Selection())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        return _doubtful(
            settings, Selection(), f"{path} can't be read ({error}): select a recipe, or resume with {first}"
        )
    recipe = next((recipe for recipe in settings.recipes if recipe.id == chosen.recipe), None)
    if chosen.recipe and recipe is None:
        why = f"recipe {chosen.recipe} was in use and the config no longer has it: select another, or resume with"
        return _doubtful(settings, Selection(paused=chosen.paused), f"{why} {first}")
    if chosen.recipe and chosen.first != first:
        why = f"recipe {chosen.recipe} was in use, the config begins with another now: select one, or resume with"
        return _doubtful(settings, Selection(paused=chosen.paused), f"{why} {first}")
    if chosen.model and not chosen.recipe:  # for whichever recipe was the config's first then
        why = (
            f"model {chosen.model} was in use with a recipe that {path} does not name: select one, or resume with"
        )
        return _doubtful(settings, Selection(paused=chosen.paused), f"{why} {first} and its own model")
    settings = settings._replace(recipe=with_model(recipe or settings.recipe, chosen.model, settings.base))
    if any(part_ids.get(camera.name, 0) + 1 < chosen.from_part_id for camera in settings.config.camera):
        why = f"recipe {chosen.recipe} was to be used from part {chosen.from_part_id} on when the daemon ended"
        why += f": select the recipe of the parts that come now, or resume with {settings.recipe.id}"
        return _doubtful(settings, chosen, why)
    return Start(settings, chosen)


def _doubtful(settings: Settings, chosen: Selection, why: str) -> Start:
    """Held, and kept with the recipe that `resume` goes on with: a later config does not change that unnoticed."""
    log.warning(why)
    recipe, first = settings.recipe.id, settings.recipes[0].id
    return Start(settings, replace(chosen, recipe=recipe, first=first, from_part_id=0, failed=why))


def with_model(recipe: LoadedRecipe, model: str, base: Path) -> LoadedRecipe:
    """The recipe with another bundle than its own; "" = its own."""
    return recipe._replace(model_dir=base / model) if model else recipe


def keep_selection(state_dir: Path, selection: Selection) -> None:
    """On the disk when this returns, or raises UnwritableError."""
    path = state_dir / "selection.json"
    new = path.with_suffix(".new")
    try:
        _write(new, msgspec.json.format(msgspec.json.encode(selection)), os.O_TRUNC)
        new.rename(path)
        _sync_folder(state_dir)
    except OSError as error:
        raise UnwritableError(f"{path} can't be written: {error.strerror}") from None


class Audit:
    """`audit.jsonl`: a line for each change, only ever appended to. Opened anew each time: it may be put away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Raises UnwritableError if a change could not be written down."""
        self._append(b"")

    def write(self, change: Change) -> None:
        """On the disk when this returns; raises UnwritableError if not: then the change must not happen."""
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._append(msgspec.json.encode(replace(change, when=when)) + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            is_new = not self._path.exists()
            if not is_new and self._path.stat().st_size > MAX_AUDIT_BYTES:
                raise UnwritableError(f"{self._path} has grown too large, move it away")
            if line and not is_new and not _ends_a_line(self._path):  # power was lost in the middle of one
                line = b"\n" + line
            _write(self._path, line, os.O_APPEND)
            if is_new:
                _sync_folder(self._path.parent)
        except OSError as error:
            sentence = f"the audit log {self._path} can't be written: {error.strerror}"
            raise UnwritableError(sentence) from None


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _write(path: Path, data: bytes, mode: int) -> None:
    """All of it, synced; or OSError, and of an appended line nothing. Without data: there is room for some."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | mode, 0o640)
    try:
        size = os.fstat(fd).st_size
        try:
            if not data:
                os.posix_fallocate(fd, size, ROOM)
                os.ftruncate(fd, size)
                return
            if os.write(fd, data) != len(data):
                raise OSError(0, "the disk is full")
            os.fsync(fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

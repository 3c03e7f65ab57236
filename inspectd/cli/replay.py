"""`inspectd replay`: the daemon's engine, extraction and judge over a folder of images, offline."""

import sys
from collections import Counter
from pathlib import Path

import msgspec

from inspectd.engine import open_segmenter
from inspectd.engine.bundle import load_bundle
from inspectd.extract.plan import Plan, make_plan
from inspectd.judge.image import sample_of
from inspectd.judge.inspect import inspect
from inspectd.runtime.errors import ConfigError
from inspectd.runtime.frame import Judgement, Reason, Region, Verdict, unknown
from inspectd.runtime.image_files import image_files, read_image, shown_name
from inspectd.settings.engine import EngineConfig
from inspectd.settings.recipe import LoadedRecipe, View


class Replayed(msgspec.Struct, frozen=True):
    """One image's line of `replay --json`."""

    file: str
    verdict: Verdict
    reason: Reason
    detail: str
    regions: tuple[Region, ...]


class Inspector:
    """Judges images of any size by one recipe, as the daemon would judge them from a camera without a
    view of its own (no roi, no zones: those belong to a camera).
    """

    def __init__(self, recipe: LoadedRecipe, engine: EngineConfig) -> None:
        self._recipe = recipe.recipe
        self._bundle = load_bundle(recipe.model_dir)
        self._segment = open_segmenter(engine, self._bundle)
        self._plans: dict[tuple[int, int], Plan] = {}
        self._plan(64, 64)  # a recipe that does not fit the model is said before the first image

    def inspect(self, path: Path) -> Judgement:
        """The judgement of one image file; an unreadable one is UNKNOWN/incomplete."""
        try:
            image = read_image(path)
        except ValueError as error:
            return unknown(Reason.INCOMPLETE, str(error))
        height, width, channels = image.shape
        if channels != self._bundle.manifest.channels:
            wanted = self._bundle.manifest.channels
            return unknown(
                Reason.INCOMPLETE, f"{shown_name(path)}: has {channels} channels, the model wants {wanted}"
            )
        if min(height, width) < 64:
            return unknown(Reason.INCOMPLETE, f"{shown_name(path)}: is {width}x{height}, at least 64x64 is needed")
        plan = self._plan(height, width)
        return inspect(*self._segment(image), plan, self._recipe.image, sample_of(image))

    def _plan(self, height: int, width: int) -> Plan:
        if (height, width) not in self._plans:
            manifest = self._bundle.manifest
            rect = 0, 0, width, height
            self._plans[height, width] = make_plan(self._recipe, View(), rect, manifest.classes, manifest.stride)
        return self._plans[height, width]


def replay(folder: Path, recipe: LoadedRecipe, engine: EngineConfig, json: bool) -> None:
    """Print a line for every image of the folder, in name order, then (to stderr) the sum."""
    files = image_files(folder) if folder.is_dir() else []
    if not files:
        raise ConfigError(f"{folder}: is not a folder with PNG, JPEG, BMP or TIFF images")
    inspector = Inspector(recipe, engine)
    verdicts: Counter[Verdict] = Counter()
    for path in files:
        judgement = inspector.inspect(path)
        verdicts[judgement.verdict] += 1
        line = Replayed(shown_name(path), judgement.verdict, judgement.reason, judgement.detail, judgement.regions)
        print(msgspec.json.encode(line).decode() if json else _text(line), flush=True)
    print(", ".join(f"{verdict} {verdicts[verdict]}" for verdict in Verdict), file=sys.stderr)


def _text(line: Replayed) -> str:
    regions = ", ".join(f"{r.class_} {r.score:.2f} at {list(r.bbox)}" for r in line.regions)
    return f"{line.file}  {line.verdict:7}  {line.detail or line.reason}  {regions}".rstrip()

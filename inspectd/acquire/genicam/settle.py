"""The order in which the features of config and recipe are set, so that what a camera remembers is not in the way.

What a feature may be depends on others, and differs from camera to camera. So there is an order that suits most,
and whatever is refused, or did not stand, is written once more when all the others are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from inspectd.acquire.genicam.features import CHUNK_OF, Features, SettingError, say_once
from inspectd.runtime.errors import CameraError
from inspectd.settings.camera import GentlCamera
from inspectd.settings.recipe import Feature

ROUNDS = 3
OFFSETS = ("OffsetX", "OffsetY")
ONE_FRAME = ("FrameStart", "ExposureStart", "FrameBurstStart")
"""Values of TriggerSelector whose trigger starts one frame; the first that a camera has is taken."""
USER_SET = "UserSet"
"""Begin of the names of features that load all others: they come first."""


class Setting(NamedTuple):
    """Features that are written one right after the other: a selector, say, and what it selects."""

    features: tuple[tuple[str, Feature], ...]
    exactly: bool = False
    """Whether a camera that rounds has not taken the value."""

    def stands(self, features: Features) -> bool:
        """Whether it still holds. Of what a selector selects that is not known, once others were selected."""
        (name, value), *more = self.features
        return bool(more) or features.stands(name, value, self.exactly)


def settle(config: GentlCamera, pixel_format: str, recipe: Mapping[str, Feature], features: Features) -> None:
    """Set all that config and recipe ask for; raises CameraError, which names the feature, if that can't be."""
    early = {name: recipe[name] for name in recipe if name.startswith(USER_SET)}
    _write([_step(name, value) for name, value in early.items()], features)
    shape: dict[str, Feature] = {"PixelFormat": pixel_format, "Width": config.width, "Height": config.height}
    with _offsets_at_zero(features, recipe):
        _write([_step(name, recipe.get(name, value), True) for name, value in shape.items()], features)
    late = {name: value for name, value in recipe.items() if name not in early and name not in shape}
    if "AcquisitionMode" not in recipe and features.is_available("AcquisitionMode"):
        late = {"AcquisitionMode": "Continuous", **late}
    theirs = [_step(name, value) for name, value in late.items()]
    trigger = _trigger(config, recipe, features)
    chunk, rate = _chunk(config, features), _rate(config, recipe, features)
    again = [_step(name, recipe.get(name, value), True) for name, value in shape.items()]
    # The camera counts from TriggerMode On, unheard before its start: that is last, and short. Unless the recipe
    # knows better of the trigger, or something else can be set only with it.
    if not any(name.startswith("Trigger") for name in recipe):
        with suppress(SettingError):
            _write([*chunk, *theirs, *rate], features, again)
            _write(trigger, features)
            return
    _write([*chunk, *trigger, *theirs, *rate], features, again)


def _write(steps: list[Setting], features: Features, before: list[Setting] | None = None) -> None:
    """Write the steps in their order, and in further rounds those that were refused or did not stand.

    before: steps that were written before and have to stand as well.
    """
    every = [*(before or []), *steps]
    last = {name: step for step in every for name, _ in step.features}  # who says what it shall be in the end
    waiting, refused = steps, SettingError("")
    for _ in range(ROUNDS):
        lost: list[Setting] = []
        for step in waiting:
            try:
                for name, value in step.features:
                    features.set(name, value, step.exactly)
            except SettingError as error:
                refused = refused if lost else error
                lost.append(step)
        fell = [s for s in every if s not in lost and last[s.features[0][0]] is s and not s.stands(features)]
        waiting = [step for step in every if step in lost or step in fell]
        if not waiting:
            return
    if lost:
        raise refused
    name, value = fell[0].features[0]
    now = features.get(name, fresh=True)
    raise CameraError(f"feature {name}: {value!r} was taken, but other features made it {now!r}")


def _step(name: str, value: Feature, exactly: bool = False) -> Setting:
    return Setting(((name, value),), exactly)


@contextmanager
def _offsets_at_zero(features: Features, recipe: Mapping[str, Feature]) -> Iterator[None]:
    """Where the picture begins: at 0 while its size is set, then where it was, unless the recipe says."""
    before = {name: value for name in OFFSETS if (value := features.get(name))}
    for name in before:
        with suppress(SettingError):  # some cameras centre the picture: Width then says what is in the way
            features.set(name, 0)
    yield
    for name, value in before.items():
        if name in recipe:
            continue
        try:
            features.set(name, value)
        except SettingError:
            say_once("the camera had an offset that leaves no room for the size", feature=name, was=value)


def _chunk(config: GentlCamera, features: Features) -> list[Setting]:
    name = CHUNK_OF.get(config.part_id)
    if name is None:
        return []
    if not features.has("ChunkModeActive") or not features.has(f"Chunk{name}"):
        raise CameraError(f"part_id = {config.part_id!r}: the camera has no chunk {name}")
    selected = (("ChunkSelector", name), ("ChunkEnable", True)) if features.has("ChunkSelector") else ()
    return [Setting((("ChunkModeActive", True), *selected))]


def _trigger(config: GentlCamera, recipe: Mapping[str, Feature], features: Features) -> list[Setting]:
    """The trigger; TriggerMode On is its last feature."""
    is_free = config.trigger == "free_run"
    if is_free and not features.is_available("TriggerMode"):
        return []
    if not features.has("TriggerMode"):
        raise CameraError(f"trigger = {config.trigger!r}: the camera has no TriggerMode")
    selected = _selected(config, recipe, features)
    if is_free:
        return [Setting((*selected, ("TriggerMode", "Off")))]
    source = "Software" if config.trigger == "software" else config.trigger_source
    # some cameras change the source only while they are not triggered; else they miss no trigger for it
    off = () if features.get("TriggerSource") == source else (("TriggerMode", "Off"),)
    return [Setting((*selected, *off, ("TriggerSource", source), ("TriggerMode", "On")))]


def _selected(
    config: GentlCamera, recipe: Mapping[str, Feature], features: Features
) -> tuple[tuple[str, Feature], ...]:
    """The trigger that starts a frame, where there are several."""
    if not features.is_available("TriggerSelector"):
        return ()
    if "TriggerSelector" in recipe:
        return (("TriggerSelector", recipe["TriggerSelector"]),)
    there = features.choices("TriggerSelector")
    found = [name for name in ONE_FRAME if name in there]
    if found:
        return (("TriggerSelector", found[0]),)
    if config.trigger == "free_run":
        return ()
    raise CameraError(
        f"trigger = {config.trigger!r}: the camera's TriggerSelector has {', '.join(there) or 'nothing'}, none "
        f"that starts one frame ({', '.join(ONE_FRAME)}); set it as TriggerSelector in the recipe's features"
    )


def _rate(config: GentlCamera, recipe: Mapping[str, Feature], features: Features) -> list[Setting]:
    """The rate of a free run, after the exposure that bounds it."""
    if config.trigger != "free_run" or config.acquisition_frame_rate_hz is None:
        return []
    enable = "AcquisitionFrameRateEnable"
    steps = [_step(enable, True)] if enable not in recipe and features.has(enable) else []
    if "AcquisitionFrameRate" not in recipe:
        steps.append(_step("AcquisitionFrameRate", config.acquisition_frame_rate_hz))
    return steps

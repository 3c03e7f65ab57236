"""A camera's features by SFNC name, through genicam's node map."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from genicam import genapi, gentl

from inspectd.runtime.errors import CameraError
from inspectd.settings.camera import GentlCamera
from inspectd.settings.recipe import Feature

SDK_ERRORS = (genapi.GenericException, gentl.GenericException, AttributeError)
"""Errors of the two libraries, two unrelated trees; an unknown node is an AttributeError without text."""
NO_LIMIT = 1e300
CHUNK_OF = {"counter": "CounterValue", "encoder": "EncoderValue"}
"""Chunk features that carry the number which `part_id` names."""


@contextmanager
def said_as(what: str) -> Iterator[None]:
    """Turn whatever the SDK raises into a CameraError with one sentence that begins so."""
    try:
        yield
    except SDK_ERRORS as error:
        raise CameraError(f"{what}: {_said(error)}") from None


def _said(error: Exception) -> str:
    """Words of the SDK's error, without where in its own code it was raised."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.split(r" : \w+Exception thrown", first)[0]


class Features:
    """The features of one open camera, for the thread that opened it."""

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes
        self._looked_up: dict[str, Any] = {}  # looking one up takes as long as reading it

    def _node(self, name: str) -> Any:
        if (node := self._looked_up.get(name)) is None:
            node = self._looked_up[name] = getattr(self._nodes, name, None)
        return node

    def has(self, name: str) -> bool:
        """Whether the camera has a feature, now."""
        return self._node(name) is not None

    def get(self, name: str, fresh: bool = False) -> Any:
        """A feature's value, or None if it has none now. `fresh`: from the device, not from a cache.

        Raises CameraError if the device does not answer.
        """
        node = self._node(name)
        if node is None:
            return None
        try:
            return node.get_value(verify=False, ignore_cache=True) if fresh else node.value
        except gentl.GenericException as error:
            raise CameraError(f"the camera does not answer: {_said(error)}") from None
        except (genapi.GenericException, AttributeError):
            return None

    def set(self, name: str, value: Feature) -> None:
        """Write a feature and read it back; refused with the feature's name and range."""
        node = self._node(name)
        if node is None:
            raise CameraError(f"feature {name}: the camera has no such feature")
        try:
            node.value = value
            found = node.value
        except SDK_ERRORS as error:
            raise CameraError(f"feature {name}: {value!r} was refused{_range(node)}: {_said(error)}") from None
        if found != value and not (isinstance(value, float) and abs(found - value) <= 1e-3 * max(1.0, abs(value))):
            raise CameraError(f"feature {name}: {value!r} was asked, the camera took {found!r}{_range(node)}")

    def execute(self, name: str) -> None:
        """Execute a command feature."""
        with said_as(f"command {name}"):
            self._node(name).execute()

    def all(self) -> Iterator[dict[str, Any]]:
        """Every feature that has a value, by name; range, choice and unit where it has them."""
        for name in dir(self._nodes):
            if name[:1].isupper() and (node := getattr(self._nodes, name, None)) is not None:
                with suppress(*SDK_ERRORS):
                    if found := _described(name, node):
                        yield found


def settings_of(config: GentlCamera, pixel_format: str, features: Features) -> dict[str, Feature]:
    """The features that the config asks for, in the order to set them; raises CameraError if one is missing."""
    settings: dict[str, Feature] = {"PixelFormat": pixel_format, "Width": config.width, "Height": config.height}
    return settings | _chunk(config, features) | _trigger(config, features)


def _trigger(config: GentlCamera, features: Features) -> dict[str, Feature]:
    """Features for the trigger. TriggerMode On is last: the camera counts from then on, unheard before a start."""
    settings: dict[str, Feature] = {}
    has_mode, is_free = features.has("TriggerMode"), config.trigger == "free_run"
    if not has_mode and not is_free:
        raise CameraError(f"trigger = {config.trigger!r}: the camera has no TriggerMode")
    if has_mode and features.has("TriggerSelector"):
        settings["TriggerSelector"] = "FrameStart"
    if not is_free:
        source = "Software" if config.trigger == "software" else config.trigger_source
        return settings | {"TriggerSource": source, "TriggerMode": "On"}
    if has_mode:
        settings["TriggerMode"] = "Off"
    if config.acquisition_frame_rate_hz is not None:
        if features.has("AcquisitionFrameRateEnable"):
            settings["AcquisitionFrameRateEnable"] = True
        settings["AcquisitionFrameRate"] = config.acquisition_frame_rate_hz
    return settings


def _chunk(config: GentlCamera, features: Features) -> dict[str, Feature]:
    name = CHUNK_OF.get(config.part_id)
    if name is None:
        return {}
    if not features.has("ChunkModeActive") or not features.has(f"Chunk{name}"):
        raise CameraError(f"part_id = {config.part_id!r}: the camera has no chunk {name}")
    selected: dict[str, Feature] = (
        {"ChunkSelector": name, "ChunkEnable": True} if features.has("ChunkSelector") else {}
    )
    return {"ChunkModeActive": True} | selected


def _range(node: Any) -> str:
    with suppress(*SDK_ERRORS):
        if abs(node.min) < NO_LIMIT or abs(node.max) < NO_LIMIT:
            return f" (allowed {node.min} to {node.max})"
        return ""
    with suppress(*SDK_ERRORS):
        return f" (allowed {', '.join(node.symbolics)})"
    return ""


def _described(name: str, node: Any) -> dict[str, Any]:
    """What an engineer wants to know of a feature; nothing for a category or a command."""
    access = genapi.EAccessMode
    modes = {access.RO: "RO", access.WO: "WO", access.RW: "RW"}
    mode = modes.get(node.get_access_mode() if hasattr(node, "get_access_mode") else node.node.get_access_mode())
    if mode is None or not hasattr(node, "value"):
        return {}
    found: dict[str, Any] = {"name": name, "value": node.value, "access": mode}
    with suppress(*SDK_ERRORS):
        found |= {"min": node.min, "max": node.max}
    with suppress(*SDK_ERRORS):
        found["allowed"] = list(node.symbolics)
    with suppress(*SDK_ERRORS):
        found["unit"] = node.unit
    return found

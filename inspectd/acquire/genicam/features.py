"""A camera's features by SFNC name, through genicam's node map."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import structlog
from genicam import genapi, gentl

from inspectd.runtime.errors import CameraError
from inspectd.settings.recipe import Feature

log = structlog.get_logger()
SDK_ERRORS = (genapi.GenericException, gentl.GenericException, AttributeError, UnicodeError)
"""Errors of the two libraries, two unrelated trees; an unknown node is an AttributeError without text, and a text
that is no UTF-8 is a UnicodeError."""
LOST = (gentl.IoException, gentl.TimeoutException, genapi.TimeoutException)
"""What a device that is gone raises."""
NO_LIMIT = 1e300
TOLERANCE = 1e-3
"""Relative difference of a float that is taken for the same value: cameras keep times in steps of their own."""
COMMAND_S = 10.0
"""Longest time in seconds that a command among the features may take, as a user set that is loaded."""
CHUNK_OF = {"counter": "CounterValue", "encoder": "EncoderValue"}
"""Chunk features that carry the number which `part_id` names."""
HAVE_A_VALUE = (genapi.IBoolean, genapi.IInteger, genapi.IFloat, genapi.IEnumeration, genapi.IString)


class SettingError(CameraError):
    """A feature does not take a value, now; it may do so once others have changed."""


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
    said = re.split(r" : \w+Exception thrown", first)[0].removeprefix("GenTL exception: ")
    if found := re.fullmatch(r"(.*?)\.? ?\(Message from the source: (.*)\) \(ID: (-?\d+)\)", said):
        what, own, code = found.groups()
        said = f"{what[:1].lower()}{what[1:]}{': ' * bool(own.strip())}{own.strip()} (GenTL error {code})"
    return shown(said)


def shown(text: str) -> str:
    """A text of a camera as people can read it: bytes that are no UTF-8, and what can't be printed, escaped."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@cache
def say_once(what: str, **facts: object) -> None:
    """Put a line into the log, the first time in this process that exactly this is said."""
    log.warning(what, **facts)


class Features:
    """The features of one open camera, for the thread that opened it."""

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes
        self._looked_up: dict[str, Any] = {}  # looking one up takes as long as reading it

    def _node(self, name: str) -> Any:
        if name not in self._looked_up:
            self._looked_up[name] = None
            with suppress(*SDK_ERRORS):
                self._looked_up[name] = self._nodes.get_node(name)
        return self._looked_up[name]

    def has(self, name: str) -> bool:
        """Whether the camera has a feature, though it may not be available now."""
        node = self._node(name)
        return node is not None and _access(node) != genapi.EAccessMode.NI

    def is_available(self, name: str) -> bool:
        """Whether a feature can be read or written now, or a command be executed."""
        node = self._node(name)
        return node is not None and _access(node) not in (genapi.EAccessMode.NI, genapi.EAccessMode.NA)

    def get(self, name: str, fresh: bool = False) -> Any:
        """A feature's value, or None if it has none now. `fresh`: from the device, not from a cache.

        Raises CameraError if the device does not answer.
        """
        node = self._node(name)
        if not isinstance(node, HAVE_A_VALUE):
            return None
        try:
            value = node.get_value(verify=False, ignore_cache=True) if fresh else node.value
        except gentl.GenericException as error:
            raise CameraError(f"the camera does not answer: {_said(error)}") from None
        except UnicodeDecodeError as error:
            return shown(error.object.decode("utf-8", "surrogateescape"))
        except (genapi.GenericException, AttributeError):
            return None
        return shown(value) if isinstance(value, str) else value

    def choices(self, name: str) -> list[str]:
        """What an enumeration can be set to now; empty for anything else."""
        with suppress(*SDK_ERRORS):
            return list(self._node(name).symbolics)
        return []

    def set(self, name: str, value: Feature, exactly: bool = False) -> None:
        """Write a feature and read it back; `true` executes a command and waits for it.

        A camera that rounds to a value within one step is believed, unless `exactly` the value is wanted.
        Raises SettingError, with the feature's name and range, if it does not take the value now; CameraError if
        it never can, or the camera does not answer.
        """
        node = self._node(name)
        if node is None or _access(node) == genapi.EAccessMode.NI:
            raise CameraError(f"feature {name}: the camera has no such feature")
        if isinstance(node, genapi.ICommand):
            self._command(name, value)
            return
        wanted = _as_the_node_has_it(name, node, value)
        try:
            if _access(node) == genapi.EAccessMode.RO and _is(node, node.value, wanted, exactly):
                return
            node.value = wanted
            found = wanted if _access(node) == genapi.EAccessMode.WO else node.value
        except LOST as error:
            raise CameraError(f"feature {name}: the camera does not answer: {_said(error)}") from None
        except SDK_ERRORS as error:
            raise SettingError(f"feature {name}: {value!r} was refused{_range(node)}: {_said(error)}") from None
        if not _is(node, found, wanted, exactly):
            raise SettingError(f"feature {name}: {value!r} was asked, the camera took {found!r}{_range(node)}")
        if found != wanted:
            say_once("the camera rounds a feature", feature=name, asked=wanted, took=found)

    def _command(self, name: str, value: Feature) -> None:
        if value is not True:
            raise CameraError(f"feature {name}: it is a command: `true` executes it, {value!r} means nothing")
        self.execute(name, COMMAND_S)

    def stands(self, name: str, value: Feature, exactly: bool = False) -> bool:
        """Whether a feature that was set still has the value, as far as that can be read and nothing drives it."""
        node = self._node(name)
        if not isinstance(node, HAVE_A_VALUE) or _access(node) != genapi.EAccessMode.RW or value == "Once":
            return True
        found = self.get(name, fresh=True)
        return found is None or _is(node, found, _as_the_node_has_it(name, node, value), exactly)

    def execute(self, name: str, wait_s: float = 0.0) -> None:
        """Execute a command, and wait so long until it is done; raises CameraError if it can't be, or isn't."""
        node = self._node(name)
        if not isinstance(node, genapi.ICommand):
            raise CameraError(f"command {name}: the camera has no such command")
        until_s = time.monotonic() + wait_s
        with said_as(f"command {name}"):
            node.execute()
            while wait_s and not node.is_done():
                if time.monotonic() > until_s:
                    raise CameraError(f"command {name}: it was not done within {wait_s:g} s")
                time.sleep(0.01)

    def all(self) -> Iterator[dict[str, Any]]:
        """Every feature that has a value, by name; range, choice and unit where it has them."""
        for name in dir(self._nodes):
            if name[:1].isupper() and isinstance(node := self._node(name), HAVE_A_VALUE):
                with suppress(*SDK_ERRORS, CameraError):
                    if (value := self.get(name)) is not None:
                        yield _described(name, node, value)


def _access(node: Any) -> Any:
    """How a node can be accessed now; nothing of what it depends on may be readable."""
    with suppress(*SDK_ERRORS):
        return node.get_access_mode() if hasattr(node, "get_access_mode") else node.node.get_access_mode()
    return genapi.EAccessMode.NA


def _as_the_node_has_it(name: str, node: Any, value: Feature) -> Feature:
    """The value in the type of its node: a whole number is one, be it written 5 or 5.0. Raises CameraError."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match node:
        case genapi.IBoolean() if isinstance(value, bool):
            return value
        case genapi.IInteger() if is_number and value == int(value):
            return int(value)
        case genapi.IFloat() if is_number:
            return float(value)
        case genapi.IEnumeration() | genapi.IString() if isinstance(value, str):
            return value
    wanted = {
        genapi.IBoolean: "true or false", genapi.IInteger: "a whole number", genapi.IFloat: "a number",
        genapi.IEnumeration: "one of its names, in quotes", genapi.IString: "a text",
    }.get(type(node))  # fmt: skip
    if wanted is None:
        raise CameraError(f"feature {name}: it has no value that could be set")
    raise CameraError(f"feature {name}: {value!r} was refused{_range(node)}: it takes {wanted}")


def _is(node: Any, found: Any, wanted: Any, exactly: bool) -> bool:
    """Whether a camera that stands at `found` has taken what was wanted."""
    if found == wanted:
        return True
    if exactly or not isinstance(node, genapi.IInteger | genapi.IFloat):
        return False
    step = TOLERANCE * max(1.0, abs(wanted)) if isinstance(node, genapi.IFloat) else 0.0
    with suppress(*SDK_ERRORS):
        step = max(step, node.inc if isinstance(node, genapi.IInteger) or node.has_inc() else 0.0)
    return bool(abs(found - wanted) <= step)


def _range(node: Any) -> str:
    with suppress(*SDK_ERRORS):
        if abs(node.min) < NO_LIMIT or abs(node.max) < NO_LIMIT:
            return f" (allowed {node.min} to {node.max}{_step(node)})"
        return ""
    with suppress(*SDK_ERRORS):
        return f" (allowed {', '.join(node.symbolics)})"
    return ""


def _step(node: Any) -> str:
    with suppress(*SDK_ERRORS):
        if node.inc not in (0, 1):
            return f" in steps of {node.inc}"
    return ""


def _described(name: str, node: Any, value: Any) -> dict[str, Any]:
    """What an engineer wants to know of a feature that has this value."""
    access = genapi.EAccessMode
    modes = {access.RO: "RO", access.WO: "WO", access.RW: "RW"}
    found: dict[str, Any] = {"name": name, "value": value, "access": modes[_access(node)]}
    with suppress(*SDK_ERRORS):
        found |= {"min": node.min, "max": node.max}
    with suppress(*SDK_ERRORS):
        found["allowed"] = list(node.symbolics)
    with suppress(*SDK_ERRORS):
        found["unit"] = node.unit
    return found

"""Read a TOML file into a msgspec Struct and name every mistake in it with its line and column.

tomllib keeps no positions and msgspec stops at its first error. So a small scanner finds where each key
stands, and a walk over the type collects the problems; msgspec stays the judge of every single value.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import inspect as mi

from inspectd.runtime.errors import ConfigError
from inspectd.settings.mistakes import Problem, find_mistakes
from inspectd.settings.positions import KeyPath, positions
from inspectd.settings.syntax import end_of, syntax_mistake
from inspectd.settings.wording import key_words

T = TypeVar("T", bound=msgspec.Struct)


class NoFileError(ConfigError):
    """The file itself can't be read; whoever named it knows the better place to report."""


class Document(NamedTuple, Generic[T]):
    """A TOML file as it was read, sound or not: a caller can report problems of its own rules with ours."""

    path: Path
    raw: bytes
    """The file, byte by byte."""
    text: str
    data: dict[str, Any]
    """Plain values of the file."""
    value: T | None
    """The struct; None if there are problems."""
    problems: list[Problem]

    def report(self, more: Iterable[Problem] = ()) -> list[str]:
        """Report each of the problems and of `more` in one line, in file order."""
        problems = [*self.problems, *more]
        places = positions(self.text) if problems else {}
        located = [(_place(places, where), _name(where), what) for where, what in problems]
        located.sort(key=lambda found: found[0])
        return [
            ": ".join(part for part in (f"{self.path}:{line}:{column}", name, what) if part)
            for (line, column), name, what in located
        ]


def load(path: Path, type_: type[T]) -> T:
    """Read the TOML file at `path` as a `type_`; raise ConfigError with one line for each mistake in it."""
    document = read(path, type_)
    if document.value is None:
        raise ConfigError(document.report())
    return document.value


def read(path: Path, type_: type[T]) -> Document[T]:
    """Read the TOML file at `path`; raise ConfigError only where there is no TOML to speak of."""
    raw, text = _read(path)
    problems: list[Problem] = []
    try:
        data = _parse(path, text)
        find_mistakes(mi.type_info(type_), data, (), problems)
        document = Document(path, raw, text, data, None if problems else msgspec.convert(data, type_), problems)
        document.report()  # the scanner of the positions recurses as well
    except RecursionError:
        raise ConfigError([f"{path}: the values are nested too deeply"]) from None
    return document


def _read(path: Path) -> tuple[bytes, str]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise NoFileError([f"{path}: the file does not exist"]) from None
    except IsADirectoryError:
        raise NoFileError([f"{path}: this is a directory, expected a TOML file"]) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise NoFileError([f"{path}: the file cannot be read: {reason}"]) from None
    try:
        return raw, raw.decode("utf-8-sig")  # Windows editors put a byte-order mark before UTF-8
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        line, column = end_of(before)
        byte = f"0x{error.object[error.start]:02x}"
        raise ConfigError([f"{path}:{line}:{column}: not UTF-8 text (byte {byte})"]) from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # not only TOMLDecodeError: int() refuses thousands of digits
        what, line, column = syntax_mistake(error, text)
        place = f"{path}:{line}:{column}" if line else f"{path}"
        raise ConfigError([f"{place}: not valid TOML: {what}"]) from None


def _place(places: dict[KeyPath, tuple[int, int]], path: KeyPath) -> tuple[int, int]:
    while path and path not in places:  # a missing key has the position of its table
        path = path[:-1]
    return places.get(path, (1, 1))


def _name(path: KeyPath) -> str:
    parts = (f"[{key}]" if isinstance(key, int) else "." + key_words(key) for key in path)
    return "".join(parts).removeprefix(".")

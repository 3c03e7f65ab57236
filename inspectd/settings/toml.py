"""Read a TOML file into a msgspec Struct and name every mistake in it with its line and column.

tomllib keeps no positions and msgspec stops at its first error. So a small scanner finds where each key
stands, and a walk over the type collects the problems; msgspec stays the judge of every single value.
"""

import difflib
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import inspect as mi

from inspectd.runtime.errors import ConfigError
from inspectd.settings.positions import BARE_KEY, KeyPath, positions

T = TypeVar("T", bound=msgspec.Struct)
Problem = tuple[KeyPath, str]

_SYNTAX_ERROR = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_SYNTAX_WORDS = {
    "Invalid statement": "expected a key or a [table]",
    "Invalid value": "not a value (text must stand in quotes)",
    "Cannot overwrite a value": "the key already has a value",
}
_THING = ("a value", "elements")
_NOUNS: dict[type[mi.Type], tuple[str, str]] = {
    mi.BoolType: ("true or false", "true or false"),
    mi.IntType: ("a whole number", "whole numbers"),
    mi.FloatType: ("a number", "numbers"),
    mi.StrType: ("text", "texts"),
    mi.DictType: ("a table", "tables"),
    mi.StructType: ("a table", "tables"),
}
_BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("multiple_of", "a multiple of"))
_ALIKE = 0.7
"""Share of an unknown key that a known one must have to be guessed; at 0.6 `camera` is taken for `name`."""


class NoFileError(ConfigError):
    """The file itself can't be read; whoever named it knows the better place to report."""


class Document(NamedTuple, Generic[T]):
    """A TOML file as it was read, sound or not: a caller can report problems of its own rules with ours."""

    path: Path
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
    text = _read(path)
    problems: list[Problem] = []
    try:
        data = _parse(path, text)
        _check(mi.type_info(type_), data, (), problems)
        document = Document(path, text, data, None if problems else msgspec.convert(data, type_), problems)
        document.report()  # the scanner of the positions recurses as well
    except RecursionError:
        raise ConfigError([f"{path}: the values are nested too deeply"]) from None
    return document


def _read(path: Path) -> str:
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
        return raw.decode("utf-8-sig")  # Windows editors put a byte-order mark before UTF-8
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        line, column = _end_of(before)
        byte = f"0x{error.object[error.start]:02x}"
        raise ConfigError([f"{path}:{line}:{column}: not UTF-8 text (byte {byte})"]) from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # not only TOMLDecodeError: int() refuses thousands of digits
        match = _SYNTAX_ERROR.fullmatch(str(error))
        if match is None:  # no position is known then
            raise ConfigError([f"{path}: not valid TOML: a number has too many digits"]) from None
        what, line, column = match.groups()
        place = (int(line), int(column)) if line else _end_of(text.rstrip())
        what = _SYNTAX_WORDS.get(what, what[0].lower() + what[1:])
        raise ConfigError([f"{path}:{place[0]}:{place[1]}: not valid TOML: {what}"]) from None


def _end_of(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def _place(places: dict[KeyPath, tuple[int, int]], path: KeyPath) -> tuple[int, int]:
    while path and path not in places:  # a missing key has the position of its table
        path = path[:-1]
    return places.get(path, (1, 1))


def _name(path: KeyPath) -> str:
    parts = (f"[{key}]" if isinstance(key, int) else "." + _key_words(key) for key in path)
    return "".join(parts).removeprefix(".")


def _key_words(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else _quoted(key)


def _quoted(text: str) -> str:
    # Whatever could break the line is escaped, so that one problem stays one line.
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _check(type_: mi.Type, value: object, path: KeyPath, problems: list[Problem]) -> None:
    """Add each problem of `value`, which stands at `path`, to `problems`."""
    type_ = _choose(type_, value)
    match type_, value:
        case mi.StructType(), dict():
            _check_struct(type_, value, path, problems)
        case mi.UnionType(), dict() if any(isinstance(member, mi.StructType) for member in type_.types):
            _check_tag([m for m in type_.types if isinstance(m, mi.StructType)], value, path, problems)
        case mi.DictType(), dict() if _has_length(type_, value):
            for key, item in value.items():
                _check(type_.key_type, key, (*path, key), problems)
                _check(type_.value_type, item, (*path, key), problems)
        case mi.CollectionType(), list() if _has_length(type_, value):
            for index, item in enumerate(value):
                _check(type_.item_type, item, (*path, index), problems)
        case mi.TupleType(), list() if len(value) == len(type_.item_types):
            for index, (item_type, item) in enumerate(zip(type_.item_types, value, strict=True)):
                _check(item_type, item, (*path, index), problems)
        case _ if not _fits(type_, value):
            problems.append((path, f"expected {_wanted(type_)}, got {_shown(value)}"))


def _check_struct(type_: mi.StructType, data: dict[str, Any], path: KeyPath, problems: list[Problem]) -> None:
    before = len(problems)
    if type_.tag_field is not None and type_.tag_field in data:
        _check_tag([type_], data, path, problems)
    fields = {field.encode_name: field for field in type_.fields}
    ruled = dict(data)
    for key, value in data.items():
        already = len(problems)
        if key in fields:
            _check(fields[key].type, value, (*path, key), problems)
            if len(problems) > already and isinstance(value, dict | list):
                del ruled[key]
        elif type_.forbid_unknown_fields and key != type_.tag_field:
            meant = _guess(key, fields)
            problems.append(
                ((*path, key), "unknown key" + (f" (did you mean {_key_words(meant)}?)" * bool(meant)))
            )
            del ruled[key]
            if meant:  # a key that is there but for its spelling breaks no rule
                ruled.setdefault(meant, value)
    for key, field in fields.items():
        if field.required and key not in data:
            problems.append(((*path, key), f"key is missing (expected {_wanted(field.type)})"))
    _check_rule(type_, ruled, path, problems, alone=len(problems) == before)


def _check_rule(
    type_: mi.StructType, data: dict[str, Any], path: KeyPath, problems: list[Problem], alone: bool
) -> None:
    """Add what the struct's own `__post_init__` says, which it only does where all its fields are sound.

    `data` lacks unknown keys and the tables and lists that have problems: those are reported, and what is wrong
    deep inside one must not hide a rule of the fields beside it. With a problem in a field that a rule may
    count on, a plain value or a required one, msgspec stops before the rule, which is then reported next time.
    """
    try:
        msgspec.convert(data, type_.cls)
    except msgspec.ValidationError as error:
        # The cause is what a __post_init__ said; without one msgspec speaks of a type not walked here.
        if alone or error.__cause__ is not None:
            problems.append((path, " ".join(str(error.__cause__ or error).split()) or "not valid"))


def _check_tag(
    types: Sequence[mi.StructType], data: dict[str, Any], path: KeyPath, problems: list[Problem]
) -> None:
    """Report a tag that names none of `types`, which share one tag field."""
    field = str(types[0].tag_field)
    wanted = _one_of(type_.tag for type_ in types)
    if field not in data:
        problems.append(((*path, field), f"key is missing (expected {wanted})"))
    elif all(data[field] != type_.tag for type_ in types):
        problems.append(((*path, field), f"expected {wanted}, got {_shown(data[field])}"))


def _choose(type_: mi.Type, value: object) -> mi.Type:
    """Unwrap metadata and None, and pick the member of a union that `value` must mean, where there is one."""
    if isinstance(type_, mi.Metadata):
        return _choose(type_.type, value)
    if not isinstance(type_, mi.UnionType):
        return type_
    members = [_choose(member, value) for member in type_.types if not isinstance(member, mi.NoneType)]
    likely: list[mi.Type] = members
    if isinstance(value, dict):
        likely = [member for member in members if isinstance(member, mi.DictType | mi.StructType)]
        tagged = [m for m in members if isinstance(m, mi.StructType) and value.get(m.tag_field) == m.tag]
        likely = [*tagged] or likely
    elif isinstance(value, list):
        likely = [member for member in members if isinstance(member, mi.CollectionType | mi.TupleType)]
    only = likely if len(likely) == 1 else members
    return only[0] if len(only) == 1 else mi.UnionType(tuple(members))


def _has_length(type_: mi.DictType | mi.CollectionType, value: Sized) -> bool:
    most = sys.maxsize if type_.max_length is None else type_.max_length
    return (type_.min_length or 0) <= len(value) <= most


def _fits(type_: mi.Type, value: object) -> bool:
    """Ask msgspec about a plain value; a type that is not plain here is left to the struct's own convert."""
    annotation: Any
    match type_:
        case mi.UnionType():
            return any(_fits(member, value) for member in type_.types)
        case mi.StructType() | mi.DictType() | mi.CollectionType() | mi.TupleType():
            return False  # one that could be right has been walked into
        case mi.IntType() | mi.FloatType() | mi.StrType():
            limits = {name: getattr(type_, name) for name in type_.__struct_fields__}
            plain = {mi.IntType: int, mi.FloatType: float, mi.StrType: str}[type(type_)]
            annotation = Annotated[plain, msgspec.Meta(**limits)]
        case mi.BoolType():
            annotation = bool
        case mi.EnumType():
            annotation = type_.cls
        case mi.LiteralType():
            annotation = Literal[type_.values]
        case _:
            return True
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        return False
    return True


def _wanted(type_: mi.Type) -> str:
    """Say in words what a value of `type_` must be."""
    match _choose(type_, None):
        case mi.UnionType(types):
            return " or ".join(dict.fromkeys(_wanted(member) for member in types))
        case mi.EnumType(cls):
            return _one_of(member.value for member in cls)
        case mi.LiteralType(values):
            return _one_of(values)
        case mi.StrType() as plain:
            pattern = f" that matches {plain.pattern}" if plain.pattern else ""
            return "text" + _length("character", plain.min_length, plain.max_length) + pattern
        case mi.IntType() | mi.FloatType() as plain:
            limits = ((words, getattr(plain, name)) for name, words in _BOUNDS)
            bounds = [f"{words} {str(at).removesuffix('.0')}" for words, at in limits if at is not None]
            return " ".join([_NOUNS[type(plain)][0], " and ".join(bounds)]).rstrip()
        case mi.TupleType(items):
            return f"a list of {len(items)} {_plural(items)}"
        case mi.DictType() as table:
            return "a table" + _length("key", table.min_length, table.max_length)
        case mi.CollectionType() as many:
            return f"a list of {_plural([many.item_type])}" + _length("element", many.min_length, many.max_length)
        case other:
            return _NOUNS.get(type(other), _THING)[0]


def _plural(types: Iterable[mi.Type]) -> str:
    chosen = [_choose(type_, None) for type_ in types]
    members = [member for one in chosen for member in (one.types if isinstance(one, mi.UnionType) else [one])]
    nouns = {_NOUNS.get(type(member), _THING)[1] for member in members}
    return nouns.pop() if len(nouns) == 1 else _THING[1]


def _length(noun: str, least: int | None, most: int | None) -> str:
    bounds = [f"at {word} {count}" for word, count in (("least", least), ("most", most)) if count is not None]
    return f" ({' and '.join(bounds)} {noun}{'s' * ((most or least) != 1)})" if bounds else ""


def _one_of(values: Iterable[object]) -> str:
    shown = [_shown(value) for value in values]
    return shown[0] if len(shown) == 1 else "one of " + ", ".join(shown)


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _quoted(value if len(value) <= 60 else value[:60] + "…")
        case int() if value.bit_length() > 200:
            return "a huge number"  # str() refuses thousands of digits
        case dict():
            return "a table"
        case list():
            return f"a list of {len(value)} element{'s' * (len(value) != 1)}"
    return str(value)


def _guess(key: str, known: Iterable[str]) -> str:
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(key.lower().replace("-", "_"), names, 1, _ALIKE)
    return names[close[0]] if close else ""

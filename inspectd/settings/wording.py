"""Words for what a value in a TOML file must be, for what it is, and for the key that was probably meant."""

import difflib
import json
from collections.abc import Iterable

from msgspec import inspect as mi

from inspectd.settings.camera import NAME_PATTERN
from inspectd.settings.positions import BARE_KEY

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
_PATTERNS = {
    NAME_PATTERN: "a name of a to z, 0 to 9, - and _ (at most 32 characters, a letter or digit first)",
}
"""What a text must be, for each pattern that a struct has."""
_UNITS = {"px", "um", "mm", "cm", "mm2", "cm2", "us", "ms", "s", "hz", "mib"}
"""Ends of keys that name a unit."""
_ALIKE = 0.7
"""Share of an unknown key that a known one must have to be guessed; at 0.6 `camera` is taken for `name`."""


def choose(type_: mi.Type, value: object) -> mi.Type:
    """Unwrap metadata and None, and pick the member of a union that `value` must mean, where there is one."""
    if isinstance(type_, mi.Metadata):
        return choose(type_.type, value)
    if not isinstance(type_, mi.UnionType):
        return type_
    members = [choose(member, value) for member in type_.types if not isinstance(member, mi.NoneType)]
    likely: list[mi.Type] = members
    if isinstance(value, dict):
        likely = [member for member in members if isinstance(member, mi.DictType | mi.StructType)]
        tagged = [m for m in members if isinstance(m, mi.StructType) and value.get(m.tag_field) == m.tag]
        likely = [*tagged] or likely
    elif isinstance(value, list):
        likely = [member for member in members if isinstance(member, mi.CollectionType | mi.TupleType)]
    only = likely if len(likely) == 1 else members
    return only[0] if len(only) == 1 else mi.UnionType(tuple(members))


def wanted(type_: mi.Type) -> str:
    """Say in words what a value of `type_` must be."""
    match choose(type_, None):
        case mi.UnionType(types):
            return " or ".join(dict.fromkeys(wanted(member) for member in types))
        case mi.EnumType(cls):
            return one_of(member.value for member in cls)
        case mi.LiteralType(values):
            return one_of(values)
        case mi.StrType() as plain:
            what = _PATTERNS[plain.pattern] if plain.pattern else "text"
            return what + _length("character", plain.min_length, plain.max_length)
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
    chosen = [choose(type_, None) for type_ in types]
    members = [member for one in chosen for member in (one.types if isinstance(one, mi.UnionType) else [one])]
    nouns = {_NOUNS.get(type(member), _THING)[1] for member in members}
    return nouns.pop() if len(nouns) == 1 else _THING[1]


def _length(noun: str, least: int | None, most: int | None) -> str:
    if least is not None and least == most:
        return f" ({least} {noun}{'s' * (least != 1)})"
    bounds = [f"at {word} {count}" for word, count in (("least", least), ("most", most)) if count is not None]
    return f" ({' and '.join(bounds)} {noun}{'s' * ((most or least) != 1)})" if bounds else ""


def one_of(values: Iterable[object]) -> str:
    """Say in words that a value must be one of these."""
    words = [shown(value) for value in values]
    return words[0] if len(words) == 1 else "one of " + ", ".join(words)


def shown(value: object) -> str:
    """Show a value that stands in the file, or say in words what it is."""
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


def guess(key: str, known: Iterable[str]) -> str:
    """Give the known key that an unknown one was probably meant to be; empty if none is near."""
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(key.lower().replace("-", "_"), names, 1, _ALIKE)
    return names[close[0]] if close else ""


def in_another_unit(key: str, known: str) -> bool:
    """Whether two keys that are alike name different units: a number of the one is wrong as the other."""
    units = [set(name.lower().rsplit("_", 1)[1:]) & _UNITS for name in (key, known)]
    return all(units) and units[0] != units[1]


def key_words(key: str) -> str:
    """Show a key as it stands in TOML, quoted where it must be."""
    return key if BARE_KEY.fullmatch(key) else _quoted(key)


def _quoted(text: str) -> str:
    # Whatever could break the line is escaped, so that one problem stays one line.
    return json.dumps(text, ensure_ascii=not text.isprintable())

"""Mistakes in the plain data of a TOML file: a walk over the type of its struct collects all of them.

msgspec stops at its first error, but stays the judge of every single value.
"""

import sys
from collections.abc import Sequence, Sized
from typing import Annotated, Any, Literal

import msgspec
from msgspec import inspect as mi

from inspectd.settings.nesting import misnested
from inspectd.settings.positions import KeyPath
from inspectd.settings.wording import choose, guess, in_another_unit, key_words, one_of, shown, wanted

Problem = tuple[KeyPath, str]
"""Where in the file something is wrong, and what, in words."""


def find_mistakes(type_: mi.Type, value: object, path: KeyPath, problems: list[Problem]) -> None:
    """Add each problem of `value`, which stands at `path`, to `problems`."""
    type_ = choose(type_, value)
    match type_, value:
        case mi.StructType(), dict():
            _check_struct(type_, value, path, problems)
        case mi.UnionType(), dict() if any(isinstance(member, mi.StructType) for member in type_.types):
            _check_tag([m for m in type_.types if isinstance(m, mi.StructType)], value, path, problems)
        case mi.DictType(), dict() if _has_length(type_, value):
            for key, item in value.items():
                find_mistakes(type_.key_type, key, (*path, key), problems)
                find_mistakes(type_.value_type, item, (*path, key), problems)
        case mi.CollectionType() | mi.TupleType(), list() if nested := misnested(type_, value):
            problems.append((path, nested))
        case mi.CollectionType(), dict() if _is_of_tables(type_):
            name = ".".join(key_words(str(key)) for key in path)
            problems.append((path, f"each is a table of its own: write [[{name}]], in double brackets"))
        case mi.CollectionType(), list() if _has_length(type_, value):
            for index, item in enumerate(value):
                find_mistakes(type_.item_type, item, (*path, index), problems)
        case mi.TupleType(), list() if len(value) == len(type_.item_types):
            for index, (item_type, item) in enumerate(zip(type_.item_types, value, strict=True)):
                find_mistakes(item_type, item, (*path, index), problems)
        case _ if not _fits(type_, value):
            problems.append((path, f"expected {wanted(type_)}, got {shown(value)}"))


def _check_struct(type_: mi.StructType, data: dict[str, Any], path: KeyPath, problems: list[Problem]) -> None:
    before = len(problems)
    if type_.tag_field is not None and type_.tag_field in data:
        _check_tag([type_], data, path, problems)
    fields = {field.encode_name: field for field in type_.fields}
    ruled = dict(data)
    for key, value in data.items():
        already = len(problems)
        if key in fields:
            find_mistakes(fields[key].type, value, (*path, key), problems)
            if len(problems) > already and isinstance(value, dict | list):
                del ruled[key]
        elif type_.forbid_unknown_fields and key != type_.tag_field:
            meant = guess(key, fields)
            hint = f" (did you mean {key_words(meant)}?)" if meant else ""
            if meant and in_another_unit(key, meant):
                hint, meant = f" (there is {key_words(meant)}, which has another unit)", ""
            problems.append(((*path, key), "unknown key" + hint))
            del ruled[key]
            if meant:  # a key that is there but for its spelling breaks no rule
                ruled.setdefault(meant, value)
    for key, field in fields.items():
        if field.required and key not in data:
            problems.append(((*path, key), f"key is missing (expected {wanted(field.type)})"))
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
    tags = one_of(type_.tag for type_ in types)
    if field not in data:
        problems.append(((*path, field), f"key is missing (expected {tags})"))
    elif all(data[field] != type_.tag for type_ in types):
        problems.append(((*path, field), f"expected {tags}, got {shown(data[field])}"))


def _is_of_tables(type_: mi.CollectionType) -> bool:
    item = choose(type_.item_type, {})
    members = item.types if isinstance(item, mi.UnionType) else (item,)
    return all(isinstance(member, mi.StructType) for member in members)


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

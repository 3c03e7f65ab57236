"""Lists within lists whose brackets are nested too little or too deep: one mistake, not one for each number."""

from msgspec import inspect as mi

from inspectd.settings.wording import choose


def misnested(type_: mi.CollectionType | mi.TupleType, value: list[object]) -> str:
    """What is wrong with the nesting of a list, in words; empty if its depth is right, or can't be told."""
    wanted, found = _depth(type_), _depths(value)
    if (
        wanted < 2 or len(found) != 1 or wanted in found
    ):  # of one level `wording` tells; uneven ones each by itself
        return ""
    (deep,) = found
    return f"expected lists nested {wanted} deep, as in {_example(type_)}, got {deep}: mind the brackets"


def _depth(type_: mi.Type) -> int:
    match choose(type_, []):
        case mi.CollectionType(item_type=item):
            return 1 + _depth(item)
        case mi.TupleType(item_types=items):
            return 1 + max(_depth(item) for item in items)
    return 0


def _depths(value: object) -> set[int]:
    """At how many levels the plain values of a list stand."""
    if not isinstance(value, list):
        return {0}
    return {1 + depth for item in value for depth in _depths(item)}


def _example(type_: mi.Type) -> str:
    match choose(type_, []):
        case mi.CollectionType(item_type=item):
            return f"[{_example(item)}, …]"
        case mi.TupleType(item_types=items):
            return f"[{', '.join('xyz'[: len(items)])}]"
    return "…"

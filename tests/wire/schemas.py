"""A check of JSON against the part of JSON Schema that msgspec writes; any other keyword is an error.

Compared with the package jsonschema when it was written: we need no more of it than this.
"""

import re
from typing import Any

IGNORED = {"$schema", "$id", "$defs", "title", "description", "default", "discriminator"}
ABOUT = {
    **dict.fromkeys(("required", "properties", "additionalProperties"), dict),
    **dict.fromkeys(("prefixItems", "items", "minItems", "maxItems"), list),
    **dict.fromkeys(("minimum", "maximum"), (int, float)),
    **dict.fromkeys(("minLength", "maxLength", "pattern"), str),
}
"""Keywords that say something of values of a kind, and nothing of others."""
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, at: str = "$") -> list[str]:
    """What is wrong with a value; empty if nothing."""
    root = root or schema
    found: list[str] = []
    for keyword, rule in schema.items():
        if not isinstance(value, ABOUT.get(keyword, object)):  # type: ignore[arg-type]
            continue
        match keyword:
            case "$ref":
                found += faults(value, root["$defs"][rule.removeprefix("#/$defs/")], root, at)
            case "type":
                found += [] if _is_of(value, rule) else [f"{at}: {value!r} is no {rule}"]
            case "enum":
                found += [] if value in rule else [f"{at}: {value!r} is none of {rule}"]
            case "anyOf":
                found += [] if any(not faults(value, one, root, at) for one in rule) else [f"{at}: fits none"]
            case "minimum":
                found += [] if value >= rule else [f"{at}: {value} < {rule}"]
            case "maximum":
                found += [] if value <= rule else [f"{at}: {value} > {rule}"]
            case "pattern":
                found += [] if re.search(rule, value) else [f"{at}: {value!r} is not like {rule}"]
            case "required":
                found += [f"{at}: {name} is missing" for name in rule if name not in value]
            case "properties":
                for name in rule.keys() & value.keys():
                    found += faults(value[name], rule[name], root, f"{at}.{name}")
            case "additionalProperties":
                for name in value.keys() - schema.get("properties", {}).keys():
                    found += [f"{at}: {name} is too much"] if rule is False else []
                    found += faults(value[name], rule, root, f"{at}.{name}") if rule else []
            case "prefixItems":
                for i, (one, its) in enumerate(zip(value, rule, strict=False)):
                    found += faults(one, its, root, f"{at}[{i}]")
            case "items":
                rest = value[len(schema.get("prefixItems", [])) :]
                for one in rest:
                    found += faults(one, rule, root, f"{at}[]") if rule else [f"{at}: {one!r} is too much"]
            case "minItems" | "minLength":
                found += [] if len(value) >= rule else [f"{at}: too short"]
            case "maxItems" | "maxLength":
                found += [] if len(value) <= rule else [f"{at}: too long"]
            case _:
                assert keyword in IGNORED, keyword
    return found


def _is_of(value: Any, name: str) -> bool:
    if name in ("integer", "number"):
        allowed = int if name == "integer" else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])

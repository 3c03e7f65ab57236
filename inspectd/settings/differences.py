"""What differs between the config that is in use and the one on the disk, key by key."""

from typing import Any

from msgspec import to_builtins

from inspectd.settings.config import Config
from inspectd.settings.wording import key_words, shown


def differences(old: Config, new: Config) -> list[str]:
    """What was changed in the config, a sentence for each key. All but `recipes`: those are files of their own."""
    before, after = to_builtins(old), to_builtins(new)
    del before["recipes"], after["recipes"]
    return _differ("", before, after)


def _differ(name: str, old: Any, new: Any) -> list[str]:
    match old, new:
        case dict(), dict():
            found = []
            for key in dict.fromkeys((*old, *new)):
                inner = f"{name}.{key_words(key)}".removeprefix(".")
                found += _differ(inner, old.get(key), new.get(key))
            return found
        case list(), list():
            pairs = [
                _differ(f"{name}[{i}]", one, other) for i, (one, other) in enumerate(zip(old, new, strict=False))
            ]
            gone = [f"{name}[{i}] was taken away" for i in range(len(new), len(old))]
            more = [f"{name}[{i}] was added" for i in range(len(old), len(new))]
            return [*(what for pair in pairs for what in pair), *gone, *more]
    return [] if old == new else [f"{name} changed from {_words(old)} to {_words(new)}"]


def _words(value: object) -> str:
    return "nothing" if value is None else shown(value)

"""Positions of the keys of a TOML file: tomllib, which reads the values, keeps none."""

import re
import tomllib
from bisect import bisect_right

KeyPath = tuple[str | int, ...]

_SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|' + BARE_KEY.pattern)
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
# A multi-line string may hold two quotes right before the three that end it, hence {0,2}.
_STRING = r'"""(?:\\.|[^\\])*?""""{0,2}|"(?:[^"\\]|\\.)*"'
_SCALAR = re.compile(_STRING + r"|'''.*?''''{0,2}|'[^']*'|[^,#\]}\n]+", re.DOTALL)


def positions(text: str) -> dict[KeyPath, tuple[int, int]]:
    """Map each key and array element of `text`, which must be valid TOML, to its 1-based (line, column)."""
    text = text.replace("\r\n", "\n")
    found: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}  # elements of each array of tables so far
    table: KeyPath = ()
    at = _skip(_SPACE, text, 0)
    while at < len(text):
        if text[at] == "[":
            table, at = _scan_header(text, at, found, counts)
        else:
            at = _scan_pair(text, at, table, found)
        at = _skip(_SPACE, text, at)
    lines = [0, *(newline.end() for newline in re.finditer("\n", text))]
    numbers = {path: bisect_right(lines, offset) for path, offset in found.items()}
    return {path: (line, found[path] - lines[line - 1] + 1) for path, line in numbers.items()}


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _scan_key(text: str, at: int) -> tuple[list[tuple[str, int]], int]:
    """Return the parts of a dotted key with their offsets, and where it ends."""
    parts: list[tuple[str, int]] = []
    while True:
        end = _skip(_KEY, text, at)
        token = text[at:end]
        # tomllib knows the escapes of a quoted key best.
        parts.append((tomllib.loads(f"key = {token}")["key"] if token[0] in "\"'" else token, at))
        at = _skip(_DOT, text, end)
        if at == end:
            return parts, end


def _scan_header(text: str, at: int, found: dict[KeyPath, int], counts: dict[KeyPath, int]) -> tuple[KeyPath, int]:
    """Note a [table] or [[table]] header; return the path of the table that it opens, and where it ends."""
    is_array = text.startswith("[[", at)
    parts, end = _scan_key(text, _skip(re.compile(r"\[\[?[ \t]*"), text, at))
    path: KeyPath = ()
    for depth, (key, offset) in enumerate(parts, start=1):
        path = (*path, key)
        found.setdefault(path, offset)
        if depth == len(parts) and is_array:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)  # [a.b] below [[a]] means the latest a
        if depth == len(parts):
            found[path] = offset  # a table's own header says better where it is than a [table.child] above
    return path, _skip(re.compile(r"[ \t]*\]\]?"), text, end)


def _scan_pair(text: str, at: int, table: KeyPath, found: dict[KeyPath, int]) -> int:
    parts, at = _scan_key(text, at)
    path = table
    for key, offset in parts:
        path = (*path, key)
        found.setdefault(path, offset)
    return _scan_value(text, _skip(_EQUALS, text, at), path, found)


def _scan_value(text: str, at: int, path: KeyPath, found: dict[KeyPath, int]) -> int:
    closing = {"[": "]", "{": "}"}.get(text[at])
    if closing is None:
        return _skip(_SCALAR, text, at)
    at = _skip(_SPACE, text, at + 1)
    count = 0
    while text[at] != closing:
        if closing == "]":
            found[(*path, count)] = at
            at = _scan_value(text, at, (*path, count), found)
        else:
            at = _scan_pair(text, at, path, found)
        count += 1
        at = _skip(_SPACE, text, at)
        if text[at] == ",":
            at = _skip(_SPACE, text, at + 1)
    return at + 1

"""Lists what users may be told: `python -m inspectd_train.dev.messages`, to be searched with grep.

A line for each sentence in the source: where it stands, what kind it is, and its text, with {…} for what is filled
in when it is said. Kinds: the class of an error that somebody can cure, `log`, and `says` for other words.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from inspectd.runtime import errors

ROOT = Path(__file__).parents[2]
ROOMS = ("inspectd", "tools")
ERRORS = {name for name in vars(errors) if name.endswith("Error")} | {
    "RefusedError",
    "NoFileError",
    "BadParameter",
}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
PASSED_ON = "{…}"
"""The text of a message that is made elsewhere, and only passed on here."""


class Message(NamedTuple):
    """One sentence in the source."""

    place: str
    """File, relative to the project, and line."""
    kind: str
    text: str


def messages(root: Path = ROOT) -> Iterator[Message]:
    """All messages below a project's folder, in the order of files and lines."""
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            place = path.relative_to(root)
            calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
            for call in sorted(calls, key=lambda node: node.lineno):
                if (kind := kind_of(call)) and call.args:
                    yield Message(f"{place}:{call.lineno}", kind, " ".join(text_of(call.args[0]).split()))


def kind_of(call: ast.Call) -> str:
    """The kind of the message that a call makes; empty if it makes none."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in ERRORS:
            return name
        case ast.Attribute(value=ast.Name(id="log"), attr=level) if level in LEVELS:
            return "log"
        case ast.Name(id="print") | ast.Attribute(value=ast.Name(id="say"), attr="print"):
            return "says"
    return ""


def text_of(said: ast.expr) -> str:
    """The text of an expression, as far as the source has it."""
    match said:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left) + text_of(right)
        case ast.IfExp(body=one, orelse=other):
            return f"{text_of(one)} | {text_of(other)}"
        case ast.List(elts=[only]):
            return text_of(only)
        case ast.FormattedValue(value=ast.Name(id=name)):
            return f"{{{name}}}"
    return PASSED_ON


if __name__ == "__main__":
    for message in messages():
        print(f"{message.place}: {message.kind}: {message.text}")

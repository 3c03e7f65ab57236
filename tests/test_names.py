"""Names and sentences of the code: what a reader greps for, and what a tooltip shows."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = sorted(path for room in ("inspectd", "tools") for path in (ROOT / room).rglob("*.py"))
MOST_LINES = 300


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def texts_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring, and of every string that stands below a field or a constant."""
    for node in ast.walk(tree):
        for child in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
            match child:
                case ast.Expr(ast.Constant(str(text))):
                    yield child.lineno, text


def test_a_class_name_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{shown(path)}:{node.lineno}")
    assert len(places) > 250
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_docstring_needs_the_line_above_to_be_understood() -> None:
    found = [
        (f"{shown(path)}:{line}", text) for path in FILES for line, text in texts_of(ast.parse(path.read_text()))
    ]
    assert len(found) > 1500
    assert [(where, text) for where, text in found if text.startswith(("Of ", "So ", "TODO"))] == []


def test_modules_are_small_and_say_what_they_are_for() -> None:
    long = {shown(path): lines for path in FILES if (lines := path.read_text().count("\n")) > MOST_LINES}
    assert long == {}
    silent = [shown(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []

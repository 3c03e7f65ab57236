"""Words for what makes a file no TOML at all: tomllib says it in the words of its own parser."""

import re
from typing import NamedTuple

_ERROR = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
_NO_QUOTE = "the closing quote of a text is missing"
_WHOLE = "this table was written whole before, nothing can be added to it"
_WORDS = (
    (r"Invalid statement", "expected a key or a [table]"),
    (r"Invalid value", "not a value (text must stand in quotes)"),
    (r"Cannot overwrite a value", "the key already has a value"),
    (r"(Illegal|Found invalid) character '\\n'|Unterminated string|Expected (\"'\"|\"'''\")", _NO_QUOTE),
    (r"(Illegal|Found invalid) character .*", "a control character stands here, take it out"),
    (r"Expected newline or end of document after a statement", "more text after a value; a key begins a new line"),
    (r"Expected '=' after a key in a key/value pair", "expected = after the key"),
    (r"Invalid initial character for a key part", "expected a key of letters, digits, - and _, or one in quotes"),
    (r"Expected '\]' at the end of a table declaration", "the closing ] of a table's name is missing"),
    (r"Expected '\]\]' at the end of an array declaration", "the closing ]] of a table's name is missing"),
    (r"Cannot declare .* twice", "this table, or the one it is part of, was written before"),
    (r"Cannot (mutate immutable|redefine) namespace .*", _WHOLE),
    (r"Unclosed array", "the closing ] of a list is missing"),
    (r"Unclosed inline table", "the closing } of a table is missing (it must stand on the same line)"),
    (r"Duplicate inline table key .*", "the key already has a value"),
    (r"Unescaped '\\' in a string", r"a backslash stands alone: write \\, or the text in 'single quotes'"),
    (r"Invalid hex value|Escaped character .*", r"\u takes 4 hex digits of a character, \U takes 8"),
    (r"Invalid date or datetime", "there is no such date or time"),
)
_OPEN_QUOTE = re.compile(r"Expected \"('+)\"|Unterminated string")
"""What is said at the end of the file, whatever stands between."""
_HEADER = re.compile(r"^[ \t]*(\[\[?)[ \t]*([^\[\]\n]+?)[ \t]*\]\]?[ \t]*(?:#.*)?$", re.MULTILINE)


class SyntaxMistake(NamedTuple):
    """What is wrong, and where: line and column from 1; line 0 where no place is known."""

    what: str
    line: int
    column: int


def syntax_mistake(error: ValueError, text: str) -> SyntaxMistake:
    """Say in words why tomllib refused `text` with `error`."""
    match = _ERROR.fullmatch(str(error))
    if match is None:  # int() refuses thousands of digits
        return SyntaxMistake("a number has too many digits", 0, 0)
    said, line, column = match.groups()
    place = (int(line), int(column)) if line else end_of(text.rstrip())
    if mixed := _single_beside_double(text, place[0]):
        return mixed
    if (quote := _OPEN_QUOTE.fullmatch(said)) and (opened := text.rfind(quote[1] or '"""')) >= 0:
        place = end_of(text[:opened])  # none stands behind it
    what = next((words for pattern, words in _WORDS if re.fullmatch(pattern, said)), said[0].lower() + said[1:])
    return SyntaxMistake(what, *place)


def end_of(text: str) -> tuple[int, int]:
    """Line and column behind the last character."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def _single_beside_double(text: str, line: int) -> SyntaxMistake | None:
    """`[a]` beside `[[a]]`, where one of them stands in this line: the single one is wrong, wherever it stands."""
    headers = [(end_of(text[: m.start(1)]), len(m[1]), m[2]) for m in _HEADER.finditer(text.replace("\r\n", "\n"))]
    named = [name for (at, _), _, name in headers if at == line]
    same = [(place, brackets) for place, brackets, name in headers if name in named]
    single = [place for place, brackets in same if brackets == 1]
    if len(single) in (0, len(same)):
        return None
    return SyntaxMistake(f"[{named[0]}] beside [[{named[0]}]]: write [[{named[0]}]] here as well", *single[0])

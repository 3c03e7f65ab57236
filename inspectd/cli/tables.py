"""Rows as JSON or as a table, and what a doctor found."""

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

PIPE_COLUMNS = 240
COMMANDS = "sudo|echo|watch|ip|ethtool|inspectd"
STATUS_COLUMNS = 9


def print_rows(rows: list[dict[str, Any]], json: bool) -> None:
    """One JSON object a line, or a table; a column for every key that any row has."""
    from rich.console import Console
    from rich.table import Table

    if json:
        _print_json(rows)
        return
    titles = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")  # what is cut off could not be copied
    for row in rows:
        table.add_row(*(_cell(row.get(title, "")) for title in titles))
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def print_findings(rows: list[dict[str, Any]], json: bool) -> None:
    """One JSON object a line; or one finding below the other, where each command of a remedy has lines of its
    own: a table would break it in the middle of a word, and nobody could copy it.
    """
    if json:
        _print_json(rows)
        return
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS
    indent = " " * STATUS_COLUMNS
    for row in rows:
        said = f"{row['status']:<{STATUS_COLUMNS}}{row['check']}: {row['found']}"
        print(
            textwrap.fill(said, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        )
        if row["status"] != "ok":
            wanted = f"{indent}wanted: {row['wanted']}"
            print(textwrap.fill(wanted, columns, subsequent_indent=indent, break_long_words=False))
            for step in _remedy_lines(row["remedy"]):
                if re.match(rf"(?:{COMMANDS}) ", step):
                    print("\n".join(_command_lines(step, columns)))
                else:
                    print(
                        textwrap.fill(
                            step,
                            columns,
                            initial_indent=indent,
                            subsequent_indent=indent + "  ",
                            break_long_words=False,
                            break_on_hyphens=False,
                        )
                    )


def _remedy_lines(remedy: str) -> Iterator[str]:
    """Steps of a remedy, apart at `; ` outside of quoted words, and a command apart from the words before it."""
    for step in re.findall(r"(?:(?<!\w)'[^']*'|[^;]|;(?! ))+", remedy):
        yield from re.split(rf"(?<=:) (?=(?:{COMMANDS}) )", step.strip())


def _command_lines(command: str, columns: int) -> list[str]:
    """A command as a shell takes it whole: indented, or where that is too narrow, going on behind a backslash."""
    if STATUS_COLUMNS + len(command) <= columns:
        return [" " * STATUS_COLUMNS + command]
    lines = [""]
    for word in re.findall(r"(?:'[^']*'|[^\s'])+", command):
        if lines[-1] and len(lines[-1]) + len(word) + len("  \\") > columns:
            lines[-1] += " \\"
            lines.append("  " + word)
        else:
            lines[-1] += " " * bool(lines[-1]) + word
    return lines


def _print_json(rows: list[dict[str, Any]]) -> None:
    import msgspec

    for row in rows:
        print(msgspec.json.encode(row).decode())


def _cell(value: Any) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)

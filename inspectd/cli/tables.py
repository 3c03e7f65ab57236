"""Rows as JSON or as a table."""

import sys
from typing import Any

PIPE_COLUMNS = 240


def print_rows(rows: list[dict[str, Any]], json: bool) -> None:
    """One JSON object a line, or a table; a column for every key that any row has."""
    import msgspec
    from rich.console import Console
    from rich.table import Table

    if json:
        for row in rows:
            print(msgspec.json.encode(row).decode())
        return
    titles = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")  # what is cut off could not be copied
    for row in rows:
        table.add_row(*(_cell(row.get(title, "")) for title in titles))
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def _cell(value: Any) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)

"""What a shell completes beyond commands and options: names that stand in the config. Nothing here raises."""

import tomllib
from pathlib import Path
from typing import Any

import typer

from inspectd.settings.recipe import recipe_id


def recipe_ids(context: typer.Context) -> list[str]:
    """Ids of the config's recipes."""
    return [
        recipe_id(_config(context).parent / name) for name in _list(context, "recipes") if isinstance(name, str)
    ]


def camera_names(context: typer.Context) -> list[str]:
    """Names of the config's cameras."""
    tables = [table for table in _list(context, "camera") if isinstance(table, dict)]
    return [table["name"] for table in tables if isinstance(table.get("name"), str)]


def _config(context: typer.Context) -> Path:
    return Path(context.params.get("config") or context.params.get("path") or "config.toml")


def _list(context: typer.Context, key: str) -> list[Any]:
    """A list of the config; empty if it can't be read: who presses Tab wants no sentence."""
    try:
        found = tomllib.loads(_config(context).read_text("utf-8-sig")).get(key)
    except (OSError, ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []

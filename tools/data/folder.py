"""Writes a data set folder whole or not at all, and reads and writes its JSON files."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspectd.runtime.errors import UserError


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Makes a hidden folder beside `out` with images/ and masks/, which becomes `out` when the block ends well.

    UserError when `out` holds something already, or when it can't be written (disk full, no right).
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not empty; name another folder or remove it")
    folder = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        folder.chmod(0o755)
        for part in ("images", "masks"):
            (folder / part).mkdir()
        yield folder
        folder.rename(out)
    except OSError as error:
        raise UserError(
            f"{out}: can't be written ({error.strerror or error}); nothing was kept; check rights and free space"
        ) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def read_json(file: Path) -> Any:
    """Reads a file's content; UserError when it is missing, not JSON, or has a key twice: one would be lost."""
    try:
        content = json.loads(read_text(file), object_pairs_hook=_only_once)
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: not JSON (line {error.lineno}: {error.msg}); correct it") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON ({error}); correct it") from None
    return content


def read_text(file: Path) -> str:
    """Reads a text file of UTF-8, with or without a byte order mark; UserError when it can't be."""
    try:
        return file.read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"{file}: can't be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def damage(error: Exception) -> str:
    """Says in a few words what is wrong with content that was read, for an error of Python's."""
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return "a value of another kind than wanted" if isinstance(error, (TypeError, AttributeError)) else str(error)


def _only_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return content


def write_json(file: Path, content: Any) -> None:
    """Writes JSON that people can read; OSError."""
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")

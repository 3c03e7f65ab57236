"""The real data sets, where INSPECTD_DATA names the folder that holds them."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("INSPECTD_DATA", "/nonexistent"))


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=f"INSPECTD_DATA names no folder with {name}")

"""A machine for each test, without producers."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor.machine import Machine


@pytest.fixture(autouse=True)
def no_producers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def shared_machine() -> Iterator[Machine]:
    """Where another user may come, other than below tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Machine(Path(folder))

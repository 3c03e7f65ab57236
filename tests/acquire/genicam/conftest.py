"""Simulated cameras for the tests of the genicam room."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inspectd.acquire.simcam import world
from tests.acquire.sims import Sim


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sim]]:
    """Makes a simulated camera in this test's folder, where the producer then looks for it."""
    monkeypatch.setenv(world.FOLDER_VARIABLE, str(tmp_path))
    made: list[Sim] = []

    def new(**config: object) -> Sim:
        made.append(Sim(tmp_path, **config))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for sim in made:
        sim.close()


@pytest.fixture(autouse=True)
def anew() -> None:
    """What is said once in a process is said once in a test."""
    from inspectd.acquire.genicam.features import say_once

    say_once.cache_clear()

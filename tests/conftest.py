"""What several test files need."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.lines import Line

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's `&` leaves it: children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `make test` tries the same examples each time, `make proof` others: what is red is so for whoever looks again.
settings.register_profile("test", derandomize=True, deadline=None)
settings.register_profile("proof", derandomize=False, deadline=None)
settings.load_profile("test")

LONGEST = {"test_docs.py", "test_training_page.py"}
"""They hold tests of half a minute and more: begun first, no worker waits for another's at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """What the tests import is there to stay: a collection that looked through all of it took half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """A folder with everything one line needs; what was started in it ends with the test, passed or failed."""
    from tests.lines import Line  # here, as it needs OpenCV and onnx, which few tests need

    made = Line(tmp_path)
    yield made
    made.close()

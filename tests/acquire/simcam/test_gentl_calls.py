"""simcam's functions called in any order with any arguments: refused with the right code, and never a crash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inspectd.acquire.simcam import world
from tests.acquire.sims import Sim, needs_simcam

pytestmark = needs_simcam


def any_calls(folder: Path, examples: int, within_s: float) -> None:
    Sim(folder).close()
    done = subprocess.run(
        [sys.executable, "-m", "tests.acquire.simcam.gentl_calls", str(examples)], timeout=within_s,
        env=os.environ | {world.FOLDER_VARIABLE: str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    calls = (folder / "calls.txt").read_text() if (folder / "calls.txt").exists() else ""
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{calls}"


def test_any_call_with_any_argument(tmp_path: Path) -> None:
    any_calls(tmp_path, 60, 250.0)


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_thousands_of_any_calls(tmp_path: Path) -> None:
    any_calls(tmp_path, 3000, 3500.0)

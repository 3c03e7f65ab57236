"""Whether a network has shown on dev that it finds anything; what becomes of one that has not."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from inspectd.engine.bundle import load_bundle
from inspectd.runtime.errors import UserError
from inspectd_train.bundle.proof import record_proof, why_unproven
from inspectd_train.files import held_alone
from tests.bundles import write_bundle

GOOD = {"defective": 10, "escapes": 2, "clean": 20, "overkill": 1, "regions": None}


@pytest.mark.parametrize(
    ("changed", "passes", "why"),
    [
        ({}, None, ""),
        ({}, 1.0, ""),
        ({}, 0.25, "it learned for 0.25 of one pass over its training pictures"),
        ({"escapes": 10}, 3.0, "it finds none of the 10 defective dev parts"),
        ({"escapes": 9, "overkill": 2}, 3.0, "as chance would"),
        ({"escapes": 0, "overkill": 20}, 3.0, "as chance would"),
        ({"defective": 0, "escapes": 0}, 3.0, "no dev part shows a defect"),
        ({"clean": 0, "overkill": 0, "regions": {"defects": 7, "found": 0}}, 3.0, "none of the 7 defects in dev"),
        ({"clean": 0, "overkill": 0, "regions": {"defects": 7, "found": 4}}, 3.0, ""),
    ],
)
def test_what_dev_shows(changed: dict[str, Any], passes: float | None, why: str) -> None:
    assert why_unproven(GOOD | changed, passes).startswith(why) or why in why_unproven(GOOD | changed, passes)
    assert bool(why_unproven(GOOD | changed, passes)) == bool(why)


def test_it_stands_in_the_manifest_until_it_is_proven(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    assert load_bundle(bundle).manifest.unproven == ""
    record_proof(bundle, "nobody tried it")
    assert load_bundle(bundle).manifest.unproven == "nobody tried it"
    record_proof(bundle, "")
    assert "unproven" not in json.loads((bundle / "manifest.json").read_text())


def test_one_command_at_a_time_writes_a_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "new/training"
    with (
        held_alone(folder),
        pytest.raises(UserError, match=f"new: process {os.getpid()} is writing this bundle"),
        held_alone(folder),
    ):
        pass
    assert not (tmp_path / "new").exists(), "nothing was put into it"
    with held_alone(folder):
        (folder / "run.json").touch()
    assert [path.name for path in folder.iterdir()] == ["run.json"]

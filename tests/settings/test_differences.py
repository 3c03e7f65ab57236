"""What is said of a config that was edited while the daemon runs."""

from pathlib import Path

import pytest

from inspectd.settings.config import load
from inspectd.settings.differences import differences
from tests.settings.test_config import CONFIG, RECIPE

OTHER = '[[camera]]\nkind = "folder"\nname = "side"\nwidth = 640\nheight = 480\nfolder = "parts"\n'


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("", "# a remark\n", []),
        ("", "loop = true\n", []),
        ("", "mm_per_px = 0.1\n", ["camera[0].mm_per_px changed from nothing to 0.1"]),
        ("stall_s = 3.0\n", "", ["camera[0].stall_s changed from 3.0 to 5.0"]),
        ("", OTHER, ["camera[1] was added"]),
        (OTHER, "", ["camera[1] was taken away"]),
        ("", "[journal]\nsegments = 4\n", ["journal.segments changed from 8 to 4"]),
        ("", "[publish]\nheartbeat_ms = 100\n", ["publish.heartbeat_ms changed from 200 to 100"]),
    ],
)
def test_each_key_that_differs_is_named(tmp_path: Path, old: str, new: str, told: list[str]) -> None:
    (tmp_path / "screw.toml").write_text(RECIPE)
    found = []
    for name, more in (("a.toml", old), ("b.toml", new)):
        (tmp_path / name).write_text(CONFIG + more)
        found.append(load(tmp_path / name).config)
    assert differences(found[0], found[1]) == told


def test_another_kind_of_camera_or_engine(tmp_path: Path) -> None:
    (tmp_path / "screw.toml").write_text(RECIPE)
    (tmp_path / "a.toml").write_text(CONFIG)
    text = CONFIG.replace('kind = "folder"', 'kind = "sim"') + '[engine]\nkind = "openvino"\nprecision = "float"\n'
    (tmp_path / "b.toml").write_text(text)
    told = differences(load(tmp_path / "a.toml").config, load(tmp_path / "b.toml").config)
    assert 'camera[0].kind changed from "folder" to "sim"' in told
    assert 'engine.precision changed from "auto" to "float"' in told

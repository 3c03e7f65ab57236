"""What the repository ships beside the code stays true: config.toml, the unit, the documents, the contracts."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from inspectd.settings import config, toml
from inspectd.settings.camera import FolderCamera, GenicamCamera, SimCamera
from inspectd.settings.engine import OpenVinoEngine, TensorRtEngine
from inspectd.settings.publish import JournalConfig, Publish
from inspectd.settings.recipe import ImageLimits, Limits, Recipe

ROOT = Path(__file__).parent.parent
KEY = re.compile(r"^#? ?([a-z_0-9]+) = ")


def uncommented(text: str) -> str:
    """The example with its commented keys and tables switched on."""
    return re.sub(r"^# (?=(\[\[?[a-z.]+\]\]?|[a-z_]+ = ))", "", text, flags=re.MULTILINE)


def fields(*structs: type) -> set[str]:
    return {field for struct in structs for field in struct.__struct_fields__}


def test_config_toml_shows_every_key_and_nothing_else(tmp_path: Path) -> None:
    text = uncommented((ROOT / "config.toml").read_text())
    example = tmp_path / "config.toml"
    example.write_text(text.replace('kind = "genicam"', 'kind = "genicam"', 1))
    loaded = toml.load(example, config.Config)
    assert {type(camera) for camera in loaded.camera} == {
        FolderCamera,
        GenicamCamera,
        SimCamera,
    }
    shown = {match[1] for line in text.splitlines() if (match := KEY.match(line))}
    tables = {"camera", "engine", "publish", "journal"}
    wanted = fields(config.Config, FolderCamera, GenicamCamera, SimCamera)
    wanted |= fields(OpenVinoEngine, Publish, JournalConfig) | {"kind"}
    others = {"user_id", "vendor", "model"}  # they exclude `serial` and stand in that line's comment
    assert shown | tables == wanted - others
    assert all(f"{name} = " in text for name in others)


def test_config_toml_shows_every_key_of_the_gpu_engine_and_its_default(tmp_path: Path) -> None:
    text = (ROOT / "config.toml").read_text()
    keys = re.findall(r"^#   ((\w+) = .*)$", text, re.MULTILINE)
    assert {key for _, key in keys} == fields(TensorRtEngine) | {"kind"}
    example = text.replace('kind = "openvino"', "").replace("threads = 0 ", "# ") + "\n"
    example = re.sub(r"^#   (?=\w+ = )", "", example, flags=re.MULTILINE)
    (tmp_path / "config.toml").write_text(example)
    assert toml.load(tmp_path / "config.toml", config.Config).engine == TensorRtEngine()


def test_commented_keys_of_config_toml_show_the_defaults() -> None:
    """A key that is spelled out has the default's value, unless the demo needs another."""
    loaded = toml.load(ROOT / "config.toml", config.Config)
    assert loaded.engine == OpenVinoEngine() and loaded.publish == Publish()
    assert loaded.journal == JournalConfig() and loaded.state_dir == config.Config.__struct_defaults__[0]


def test_the_recipe_of_the_documents_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    block = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0]
    path = tmp_path / "recipe.toml"
    path.write_text(block)
    recipe = toml.load(path, Recipe)
    assert set(recipe.camera["top"].zones) == {"thread"} and recipe.image.refuse_identical
    shown = {match[1] for line in block.splitlines() if (match := KEY.match(line))}
    assert fields(Limits, ImageLimits) | {"roi", "ignore", "polygon"} <= shown


def test_the_shipped_bundle_and_recipe_are_whole() -> None:
    settings = config.load(ROOT / "config.toml")
    from inspectd.engine.bundle import load_bundle
    from inspectd.steer.setup import make_plans

    bundle = load_bundle(settings.recipe.model_dir)
    assert settings.recipe.id == bundle.manifest.name == "ballscrew"
    make_plans(settings.recipe, settings.config.camera, bundle.manifest)
    for name in ("LICENSE", "report.html", "parts/LICENSE", "parts/ATTRIBUTION.md", "parts/parts.json"):
        assert (bundle.path / name).stat().st_size > 0
    size = sum(path.stat().st_size for path in (bundle.path / "parts").iterdir())
    assert size <= 10 * 2**20


def test_the_demo_parts_are_judged_as_the_report_says() -> None:
    """No missed part, boxes on the real pitting; false rejects as reported (another CPU may round one away)."""
    settings = config.load(ROOT / "config.toml")
    from inspectd.cli.inspector import Inspector

    folder = settings.recipe.model_dir
    inspector = Inspector(settings.recipe, settings.config.camera[0], settings.config.engine)
    reported = json.loads((folder / "report.json").read_text())["demo"]
    overkill = hit = 0
    for name, truth in json.loads((folder / "parts/parts.json").read_text()).items():
        judgement = inspector.inspect(folder / "parts" / name)
        if truth["label"] == "clean":
            overkill += judgement.verdict != "PASS"
            continue
        assert judgement.verdict != "PASS", name
        hit += any(overlap(r.bbox, box) for r in judgement.regions for box in truth["boxes"])
    assert abs(overkill - reported["overkill"]) <= 1 and hit >= reported["defective"] - 1


def overlap(a: Sequence[int], b: Sequence[int]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_verifies(tmp_path: Path) -> None:
    unit = (ROOT / "systemd/inspectd@.service").read_text()
    program = str(Path(sys.executable).parent / "inspectd")
    assert unit.count("/opt/inspectd/bin/inspectd") == 1
    (tmp_path / "inspectd@.service").write_text(unit.replace("/opt/inspectd/bin/inspectd", program))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "inspectd@.service")]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd-tmpfiles is not installed")
def test_the_folder_of_control_sockets_is_for_its_group(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\ninspectd:x:4241:4241::/:/bin/false\n")
    (tmp_path / "etc/group").write_text("root:x:0:\ninspectd:x:4241:\ninspectd-control:x:4242:\n")
    command = ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(ROOT / "systemd/inspectd-control.conf")]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    made = (tmp_path / "run/inspectd-control").stat()
    assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (4241, 4242, 0o2750)


def test_exit_codes_of_the_documents_are_those_of_the_code() -> None:
    from inspectd.runtime import errors

    table = (ROOT / "docs/operations.md").read_text()
    for error in (errors.UserError, errors.ConfigError, errors.UnavailableError, errors.DeviceError):
        assert f"\n| {error.exit_code} | " in table
    unit = (ROOT / "systemd/inspectd@.service").read_text()
    assert f"RestartPreventExitStatus={errors.ConfigError.exit_code}\n" in unit


def test_the_protocol_document_names_every_field_verdict_and_reason() -> None:
    from inspectd.runtime.books import Books, Losses
    from inspectd.runtime.clock import ClockView
    from inspectd.runtime.frame import Reason, Region, Verdict
    from inspectd.wire import results as wire

    text = (ROOT / "docs/protocol.md").read_text()
    structs = (wire.Result, wire.Heartbeat, wire.CameraView, wire.Times, Books, wire.RecipeRef, wire.ModelRef)
    asked = (wire.Snapshot, wire.Replay, wire.Next, wire.SnapshotReply, wire.ReplayReply, wire.QueryError)
    for struct in (*structs, *asked, wire.ImageRef, Region, ClockView, Losses):
        for field in msgspec.structs.fields(struct):
            assert re.search(rf"\b{field.encode_name}\b", text), f"{struct.__name__}.{field.encode_name}"
    for word in (*Reason, *Verdict):
        assert re.search(rf"\b{word}\b", text)
    for code in wire.VerdictCode:
        assert code.name.lower() in text.lower() and (code == 0 or f"{code:#06X}".replace("0X", "0x") in text)
    for flag in wire.Flag:
        assert f"{flag.value} {flag.name.lower().replace('_', ' ')}" in text


def test_the_protocol_document_has_the_numbers_of_the_code() -> None:
    from inspectd.publish import endpoints, query, sockets, unseen
    from inspectd.publish.journal import history
    from inspectd.subscribe import client
    from inspectd.subscribe import sockets as connecting

    text = " ".join((ROOT / "docs/protocol.md").read_text().split())
    for said, number in (
        ("at most {} KiB (more ends the connection)", sockets.MAX_INCOMING // 1024),
        ("at most 256 (of this daemon {}), and often fewer", history.MAX_ENTRIES),
        ("while {} other clients wait", query.MAX_WAITING),
        ("{} answers wait for it", endpoints.QUERY_HWM),
        ("let both ends notice after {} s", sockets.SILENT_PEER_MS / 1000),
        ("No answer for {:g} s", client.ANSWER_S),
        ("does not answer for {:.0f} s", client.UNREACHABLE_S),
        ("Nothing came on either socket for {:.0f} s", client.SILENCE_S),
        ("`ZMQ_RECONNECT_IVL` | {} ms", connecting.RECONNECT_MS),
        ("A camera has {} of them in reserve", unseen.AT_ONCE),
        ("they wait, {:g} s, then", unseen.FIRST_PAUSE_NS / 1e9),
        ("up to {:g} minutes", unseen.LONGEST_PAUSE_NS / 60e9),
        ("({} MiB by default", JournalConfig().segments * JournalConfig().segment_mib),
    ):
        assert said.format(number) in text


def test_import_contracts_hold() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    shown = subprocess.run([lint, "--config", "pyproject.toml"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        (
            "inspectd.pipeline",
            {"torch", "onnx", "onnxruntime", "harvesters", "genicam", "tensorrt", "inspectd_train"},
        ),
        ("inspectd.subscribe", {"numpy", "cv2", "openvino", "harvesters", "structlog", "torch", "rich", "typer"}),
    ],
)
def test_importing_it_loads_nothing_heavy(module: str, heavy: set[str]) -> None:
    code = f"import {module}, sys; print(*sorted({{m.split('.')[0] for m in sys.modules}} & {heavy!r}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (shown.stdout, shown.stderr) == ("\n", "")

"""The command line: what a user gets who makes a mistake. One sentence per mistake, never a traceback."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import genicam
import numpy as np
import pytest

import inspectd as package
from inspectd.publish.journal.records import read_entries
from inspectd.subscribe import Results
from inspectd.wire.results import decode_result
from tests.bundles import write_bundle
from tests.lines import USUAL, Line, beats_of, camera_process_of, collect, inspectd, results_of, stop

VIKY = Path(genicam.__file__).parent / "viky.cti"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


MISTAKES = {
    "no config": (lambda n: n.config.unlink(), 78, ["config.toml"]),
    "unknown key": (
        lambda n: edit(n.config, "width =", "widht ="), 78, ["config.toml:11:1", "did you mean width?"]
    ),
    "wrong type": (lambda n: edit(n.config, "width = 160", 'width = "wide"'), 78, ["config.toml:11:1", "width"]),
    "out of range": (lambda n: edit(n.config, "width = 160", "width = 3"), 78, ["config.toml:11:1", "≥ 64"]),
    "no memory": (
        lambda n: edit(n.config, f"width = 160\nheight = 128\n{USUAL}", "width = 65536\nheight = 65536"),
        69,
        ["camera top: 8 slots of 65536x65536 need 98304 MiB of memory"],
    ),
    "not TOML": (lambda n: edit(n.config, "[publish]", "[publish"), 78, ["config.toml:4"]),
    "no recipe": (
        lambda n: (n.folder / "dark/recipe.toml").unlink(), 78, ["config.toml:2:12: recipes[0]: ", "recipe.toml: "]
    ),
    "bad recipe": (
        lambda n: edit(n.folder / "dark/recipe.toml", "suspect = 0.4", "suspect = 0.9"),
        78,
        ["recipe.toml:3:", "suspect (0.9) must not be above reject (0.6)"],
    ),
    "class unknown": (
        lambda n: edit(n.folder / "dark/recipe.toml", "limits.spot", "limits.scratch"), 78,
        ["dark/recipe.toml:3:9: limits.scratch: ", "spot"],
    ),
    "no model": (lambda n: edit(n.folder / "dark/recipe.toml", 'model = "."', 'model = "gone"'), 78, ["gone"]),
    "truncated model": (
        lambda n: (n.folder / "dark/model.onnx").write_bytes((n.folder / "dark/model.onnx").read_bytes()[:-9]),
        78,
        ["model.onnx", "SHA-256"],
    ),
    "foreign model": (
        lambda n: (n.folder / "dark/model.onnx").write_bytes(b"something else"), 78, ["model.onnx", "SHA-256"]
    ),
    "wrong hash": (
        lambda n: edit(n.folder / "dark/manifest.json", '"sha256": "', '"sha256": "0'), 78, ["manifest.json"]
    ),
    "state not writable": (lambda n: (n.folder / "state").write_text(""), 69, ["state"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(line: Line, name: str) -> None:
    make, code, words = MISTAKES[name]
    make(line)
    shown = inspectd("run", "-c", line.config, "--count", "1")
    assert shown.returncode == code, shown.stderr
    said = [row for row in shown.stderr.splitlines() if "[info" not in row]
    assert "Traceback" not in shown.stderr and len(said) <= 2
    for word in words:
        assert word in shown.stderr


def test_all_mistakes_of_a_file_at_once(line: Line) -> None:
    line.write("acquisition_frame_rate_hz = 50.0")
    edit(line.config, "width = 160", 'widht = 160\nspare_slots = "many"')
    edit(line.config, 'line = "test"', 'line = "Test Line"')
    shown = inspectd("check", "-c", line.config)
    assert shown.returncode == 78
    found = [int(m) for m in re.findall(r"config\.toml:(\d+):\d+:", shown.stderr)]
    assert len(found) >= 4 and found == sorted(found)


def test_an_empty_folder_is_a_state_of_the_camera(line: Line) -> None:
    for image in line.images.iterdir():
        image.unlink()
    shown = inspectd("check", "-c", line.config)
    assert shown.returncode == 69 and "holds no PNG, JPEG, BMP, TIFF or WebP image" in shown.stderr


@pytest.mark.parametrize(
    "picture",
    [np.zeros((64, 160, 3), np.uint8), np.zeros((128, 160, 3), np.uint16)],
)
def test_an_image_of_wrong_size_or_depth_is_an_unknown_result(line: Line, picture: np.ndarray) -> None:
    cv2.imwrite(str(line.images / "part_001.png"), picture)
    line.write("acquisition_frame_rate_hz = 50.0\nloop = false")
    assert inspectd("run", "-c", line.config).returncode == 0
    results = [decode_result(e.body) for e in read_entries(line.state_dir / "journal")]
    odd = [r for r in results if r.verdict == "UNKNOWN"]
    assert len(results) == 4 and [r.reason for r in odd] == ["incomplete"] and "part_001.png" in odd[0].detail


def test_check_of_a_good_line(line: Line) -> None:
    shown = inspectd("check", "-c", line.config)
    assert shown.returncode == 0 and shown.stderr == ""
    assert "golden test within 0/255" in shown.stdout and "camera top: folder parts" in shown.stdout


def test_run_takes_as_many_descriptors_as_it_may_have(line: Line) -> None:
    command = f"ulimit -n 2048; ulimit -Sn 256; exec {sys.executable} -m inspectd run -c {line.config}"
    with Results(line.endpoint) as subscriber:
        daemon = line.spawn(["bash", "-c", command], stderr=subprocess.DEVNULL)
        collect(subscriber, lambda events: bool(beats_of(events)))
        assert resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE) == (2048, 2048)
        assert stop(daemon) == 0


def test_version_and_usage() -> None:
    assert inspectd("--version").stdout == f"inspectd {package.__version__}\n"
    assert inspectd("run", "--nonsense").returncode == 2


def test_replay_of_no_folder(line: Line) -> None:
    shown = inspectd("replay", line.folder / "gone", "-c", line.config)
    assert shown.returncode == 78 and "gone" in shown.stderr and shown.stderr.count("\n") == 1


def test_bench_prints_a_ratio(line: Line) -> None:
    shown = inspectd("bench", "-c", line.config, "--seconds", "1", "--rounds", "1", "--json", timeout_s=100)
    assert shown.returncode == 0, shown.stderr
    sizes = [json.loads(text) for text in shown.stdout.splitlines()]
    assert [(s["width"], s["height"]) for s in sizes] == [(160, 128), (320, 256)]
    for size in sizes:
        assert size["bare_hz"] > 0 and size["daemon_hz"] > 0 and size["received"] > 0 and size["missing"] == 0


@pytest.mark.parametrize(
    ("program", "arguments", "package"),
    [
        ("inspectd.__main__", ["check"], "cv2"),
        ("inspectd.__main__", ["replay", "parts"], "cv2"),
        ("inspectd_train.cli.main", ["parts", "data", "out"], "cv2"),
        ("inspectd_train.cli.main", ["fit", "data", "--out", "run", "--minutes", "1"], "torch"),
    ],
)
def test_a_package_that_is_not_installed_is_named(
    line: Line, program: str, arguments: list[str], package: str
) -> None:
    """As where an extra was left out at the installation."""
    code = f"import sys; sys.modules['{package}'] = None; from {program} import main; main()"
    options = ["-c", str(line.config)] if program.startswith("inspectd.") else []
    command = [sys.executable, "-c", code, *arguments, *options]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=line.folder)
    assert shown.returncode == 1 and shown.stderr.count("\n") == 1, shown.stderr
    assert f"needs the package {package}: install inspectd[" in shown.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bench_leaves_nothing_behind(line: Line, number: int) -> None:
    log = (line.folder / "bench.log").open("w+")
    command = [sys.executable, "-m", "inspectd", "bench", "-c", line.config, "--seconds", "5", "--rounds", "1"]
    bench = line.spawn(command, stdout=log, stderr=log)
    while not (children := Path(f"/proc/{bench.pid}/task/{bench.pid}/children").read_text().split()):
        assert bench.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    code = stop(bench, number)
    log.seek(0)
    said = log.read()
    log.close()
    assert code in (1, 130, 143) and "Traceback" not in said, said
    assert not list(line.state_dir.glob("tmp*"))
    end_s = time.monotonic() + 5
    while any(
        Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children
    ):
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_a_closed_standard_error_does_not_stop_the_line(line: Line) -> None:
    command = f"{sys.executable} -m inspectd run -c {line.config} --count 5 2>&-"
    assert subprocess.run(command, shell=True).returncode == 0
    assert len(list(read_entries(line.state_dir / "journal"))) >= 5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("width = 160\nheight = 128", "width = 65535\nheight = 65535", "MiB of memory"),
        (
            "width = 160",
            "width = 320",
            "part_001.png is 160x128, 320x128 is configured",
        ),
    ],
)
def test_check_finds_what_run_could_not_use(line: Line, old: str, new: str, said: str) -> None:
    edit(line.config, old, new)
    shown = inspectd("check", "-c", line.config)
    assert shown.returncode == 69 and said in shown.stderr, shown.stderr


class TestGenicam:
    """The real harvesters on the real producer that the genicam wheel carries."""

    @pytest.fixture
    def ball(self, line: Line) -> Line:
        write_bundle(line.folder / "mono", channels=1)
        line.write(recipe="mono/recipe.toml")
        text = line.config.read_text()
        camera = f'[[camera]]\nname = "ball"\nkind = "genicam"\ncti = "{VIKY}"\nserial = "0"\n'
        camera += "width = 400\nheight = 400\n"
        line.config.write_text(text[: text.index("[[camera]]")] + camera)
        return line

    def test_frames_of_a_genicam_camera_are_judged(self, ball: Line) -> None:
        with Results(ball.endpoint) as subscriber:
            daemon = ball.start()
            events = collect(subscriber, lambda e: len(results_of(e)) >= 30)
            assert stop(daemon) == 0, ball.log
        results = [r.result for r in results_of(events)]
        assert [r.frame_id for r in results] == list(
            range(results[0].frame_id, results[0].frame_id + len(results))
        )
        assert all(r.verdict == "FAIL" and not r.simulated for r in results)  # the ball is a spot
        assert len({tuple(r.regions[0].bbox) for r in results}) > 5  # and it bounces
        assert ball.log.count("Traceback") == 0

    def test_cameras_lists_them(self, ball: Line) -> None:
        shown = inspectd("cameras", "-c", ball.config, "--json")
        assert shown.returncode == 0, shown.stderr
        devices = [json.loads(text) for text in shown.stdout.splitlines()]
        assert [d["serial"] for d in devices] == ["0", "1", "2"] and devices[0]["model"] == "Viky"
        assert "Viky" in inspectd("cameras", "-c", ball.config).stdout

    def test_no_other_program_is_run_to_open_a_camera(self, ball: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        """harvesters would call git at its import."""
        git = ball.folder / "bin/git"
        git.parent.mkdir()
        git.write_text(f"#!/bin/sh\ntouch {ball.folder}/called\n")
        git.chmod(0o755)
        monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
        assert inspectd("check", "-c", ball.config).returncode == 0
        assert not (ball.folder / "called").exists()

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            (
                'serial = "0"',
                'serial = "77"',
                "no camera with serial '77'; the producer lists the serials '0', '1', '2'",
            ),
            ("width = 400", "width = 4000", "feature Width: 4000 was refused (allowed 100 to 800)"),
            (
                "height = 400",
                'height = 400\npixel_format = "RGB8"',
                "feature PixelFormat: 'RGB8' was refused (allowed RGBa8, Mono8)",
            ),
            (str(VIKY), "/gone.cti", "the GenTL producer /gone.cti does not exist"),
        ],
    )
    def test_a_camera_that_can_not_be_had(self, ball: Line, old: str, new: str, said: str) -> None:
        edit(ball.config, old, new)
        shown = inspectd("check", "-c", ball.config)
        assert shown.returncode == 69 and said in shown.stderr
        assert shown.stderr.count("\n") == 1

    def test_a_payload_that_is_no_single_image_is_a_state_that_names_it(self, ball: Line) -> None:
        recipe = ball.folder / "mono/recipe.toml"
        recipe.write_text(recipe.read_text() + '[camera.ball.features]\nGenDCStreamingMode = "On"\n')
        with Results(ball.endpoint) as subscriber:
            daemon = ball.start()
            said = "camera ball: the camera sends gendc payload, single images are wanted"
            events = collect(subscriber, lambda e: bool(b := beats_of(e[-1:])) and said in b[0].detail)
            assert beats_of(events)[-1].state == "Preoperational"
            assert stop(daemon) == 0, ball.log
        assert all(r.result.reason == "camera" for r in results_of(events))

    def test_a_grey_camera_serves_a_colour_model(self, ball: Line) -> None:
        """It has no RGB8, which would be asked for first."""
        ball.config.write_text(ball.config.read_text().replace("mono/recipe.toml", "dark/recipe.toml"))
        shown = inspectd("check", "-c", ball.config)
        assert shown.returncode == 0, shown.stderr
        assert "note: it sends Mono8, which is made RGB, as the model wants (grey thrice)" in shown.stdout

    def test_a_feature_that_is_not_there(self, ball: Line) -> None:
        recipe = ball.folder / "mono/recipe.toml"
        recipe.write_text(recipe.read_text() + "[camera.ball.features]\nExposureTime = 100.0\n")
        shown = inspectd("check", "-c", ball.config)
        assert shown.returncode == 69 and "feature ExposureTime: the camera has no such feature" in shown.stderr

    def test_a_killed_camera_process_comes_back_and_says_that_counting_restarted(self, ball: Line) -> None:
        with Results(ball.endpoint) as subscriber:
            daemon = ball.start()
            before = results_of(collect(subscriber, lambda e: len(results_of(e)) >= 10))
            pid = camera_process_of(daemon)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            after = results_of(
                collect(subscriber, lambda e: any(r.result.counting_restarted for r in results_of(e)))
            )
            assert stop(daemon) == 0, ball.log
        parts = [r.result.part_id for r in before + after]
        assert parts == list(range(parts[0], parts[0] + len(parts)))
        assert [r.result.counting_restarted for r in after].count(True) == 1
